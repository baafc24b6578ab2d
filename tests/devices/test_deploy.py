"""Deploying to a board on loopback: what comes back, what stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgekit_runner
from edgekit.devices.registry import read_devices
from edgekit.devices.wheels import Platform, requirements
from edgekit.errors import UsageError


def test_rows_come_back_and_nothing_stays(board, edgekit, model):
    ended = edgekit("deploy", model, "--device", "board", "--runs", "20", "--json")
    assert ended.code == 0, ended.err
    (row,) = ended.rows
    assert row["latency"]["n"] == 20
    assert row["latency"]["device"] == f"board: {edgekit_runner.describe_device()['device']}"
    description = json.loads(ended.out)["device"]
    assert {"device", "cpu", "memory", "os", "runtime"} <= set(description)
    assert board.left() == []


def test_scores_are_those_of_the_host(board, edgekit, shared_data, repository):
    # Given two files of one model
    files = [repository / "quantized" / "turbofan" / f"{n}.tflite" for n in ("float32", "int8")]
    here = edgekit("eval", *files, "--data", "turbofan", "--json", "-q").rows
    # When they are scored there
    ended = edgekit("eval", *files, "--data", "turbofan", "--device", "board", "--json", "-q")
    assert ended.code == 0, ended.err
    # Then score, interval and paired drop are the same: it is the same processor.
    for mine, theirs in zip(here, ended.rows, strict=True):
        assert theirs["score"]["value"] == pytest.approx(mine["score"]["value"], rel=1e-6)
        assert theirs["score"]["ci95"] == pytest.approx(mine["score"]["ci95"], rel=1e-6)
    assert ended.rows[1]["drop"] == pytest.approx(here[1]["drop"], abs=1e-6)
    assert ended.rows[0]["drop"] == pytest.approx(0, abs=1e-6)
    assert ended.rows[0]["latency"] is None


def test_what_is_kept_is_not_sent_again(board, edgekit, model):
    words = ("deploy", model, "--device", "board", "--runs", "2", "--json")
    first = edgekit(*words, "--keep")
    kept = board.left()
    second = edgekit(*words, "--keep")
    assert (first.code, second.code) == (0, 0)
    assert "sending" in first.err
    assert "sending" not in second.err
    assert kept == board.left()
    names = [name for name in kept if name.startswith(".cache/edgekit/")]
    assert sorted(Path(name).suffix for name in names) == [".py", ".tflite"]
    assert all(len(Path(name).stem) == 16 for name in names)
    # A file that is no longer what its name says is sent again.
    damaged = next(board.home.rglob("*.tflite"))
    damaged.write_bytes(b"TFL3")
    assert "sending" in edgekit(*words).err


def test_a_runtime_is_brought_along(start, edgekit, model):
    board = start(packages=False)
    without = edgekit("deploy", model, "--device", "board", "-q")
    assert without.code == 7
    assert "--setup" in without.err
    ended = edgekit("deploy", model, "--device", "board", "--setup", "--keep", "--runs", "2", "-q")
    if "cannot be had" in ended.err:
        pytest.skip("the wheels cannot be downloaded here")
    assert ended.code == 0, ended.err
    # Kept, it serves the next time without being asked for.
    again = edgekit("deploy", model, "--device", "board", "--runs", "2", "--json", "-q")
    assert again.code == 0, again.err
    assert (board.home / ".cache/edgekit/venv/bin/python").exists()


@pytest.fixture
def hears_ctrl_c():
    """Shells start background jobs deaf to Ctrl-C, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_nothing_on_either_side(board, model, tmp_path, hears_ctrl_c):
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit.cli", "bench", model, "--device=board", "--runs=900000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    end = time.monotonic() + 60
    while not any(" bench " in p for p in board.programs()) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert board.left() == []
    assert list(tmp_path.iterdir()) == []
    while board.programs() and time.monotonic() < end:
        time.sleep(0.05)
    assert board.programs() == []


def test_packed_data_are_read_by_the_runner_and_are_the_same_every_time(tmp_path):
    from edgekit.pipeline.deploying import pack
    from edgekit.records import Batch, Samples

    values = np.arange(70 * 6, dtype=np.float32).reshape(70, 2, 3)
    samples = Samples(
        split="test",
        n=70,
        sha256="",
        read=lambda rows: Batch(inputs={"a": values[rows], "b": values[rows, 0]}),
    )
    pack(samples, tmp_path / "one.npz")
    pack(samples, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    columns = edgekit_runner.read_columns(str(tmp_path / "one.npz"))
    assert np.array_equal(np.stack(list(columns["inputs_a"].rows())), values)
    assert np.array_equal(np.stack(list(columns["inputs_b"].rows())), values[:, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[pi]\nhost = "a"\nprot = 3', "Did you mean port?"),
        ("[pi]\nport = 22", "host is missing"),
        ('[pi]\nhost = "-oX"', "is no host"),
        ('[pi]\nhost = "a"\nport = "22"', "port is a number above 0"),
        ('[pi]\nhost = "a"\nthreads = true', "threads is a number above 0"),
        ('[all]\nhost = "a"', "means every device"),
        ("pi = 3", "is no device"),
        ("[pi", "cannot be read"),
    ],
)
def test_a_registry_that_means_nothing_is_refused(tmp_path, text, said):
    (tmp_path / "devices.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_devices(tmp_path / "devices.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("machine", "python", "runtime"),
    [
        ("aarch64", (3, 11), "ai-edge-litert"),
        ("aarch64", (3, 9), "tflite-runtime"),
        ("armv7l", (3, 11), "tflite-runtime"),
    ],
)
def test_the_runtime_follows_the_device(machine, python, runtime):
    wanted = requirements(Platform(machine=machine, python=python, glibc=36))
    assert wanted[0].startswith(runtime)
    assert wanted[1] == ("numpy" if runtime == "ai-edge-litert" else "numpy<2")

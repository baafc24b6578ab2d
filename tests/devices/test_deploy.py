"""Deploying to a board on loopback: results, and files left there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave

import numpy as np
import pytest

import edgekit_runner
from edgekit.devices.registry import DeviceEntry, find_devices
from edgekit.devices.ssh import Connection
from edgekit.devices.wheels import Platform, requirements
from edgekit.tflite.stored import packed


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


def test_a_file_that_answers_there_as_here_has_lost_nothing(
    board, edgekit, shared_data, repository
):
    # Given 300 recordings, too few to prove of another file that it loses no half point
    files = [
        repository / "quantized" / "spoken-digits" / f"{n}.tflite" for n in ("float32", "int8")
    ]
    words = ("--data", "spoken-digits", "--device", "board", "--json", "-q")

    ended = edgekit("eval", *files, *words)

    assert ended.code == 0, ended.err
    same, other = ended.rows
    assert same["agreement"] == 1
    assert (same["drop"], same["drop_ci95"], same["verdict"]) == (0, [0, 0], "kept")
    assert other["verdict"] == "unproven"


def test_a_packed_file_is_sent_packed_and_scored_as_here(
    board, edgekit, shared_data, repository, tmp_path
):
    # Given a file that is packed, with its manifest
    plain = repository / "quantized" / "turbofan" / "int4.tflite"
    path = tmp_path / "int4.tflite.gz"
    path.write_bytes(packed(plain.read_bytes()))
    shutil.copy(plain.with_suffix(".json"), tmp_path)
    # When it is scored here, and there together with the plain one
    (here,) = edgekit("eval", path, "--data", "turbofan", "--json", "-q").rows
    ended = edgekit(
        *("deploy", plain, path, "--data", "turbofan", "--device", "board", "--runs", "3"),
        *("--json", "--keep"),
    )
    assert ended.code == 0, ended.err
    # Then the score is the same, and what was sent is the packed file.
    for row in ended.rows:
        assert row["score"]["value"] == pytest.approx(here["score"]["value"], rel=1e-6)
        assert row["memory_bytes"] > 0
    assert [row["flash_bytes"] for row in ended.rows] == [plain.stat().st_size, path.stat().st_size]
    sizes = {file.stat().st_size for file in board.home.rglob("*.tflite")}
    assert sizes == {plain.stat().st_size, path.stat().st_size}


def test_what_is_kept_is_not_sent_again(board, edgekit, model):
    words = ("deploy", model, "--device", "board", "--runs", "2", "--json")
    first = edgekit(*words, "--keep")
    kept = board.left()
    second = edgekit(*words, "--keep")
    assert (first.code, second.code) == (0, 0)
    assert "sending" in first.err
    assert "sending" not in second.err
    assert kept == board.left()
    folder = board.home / ".cache" / "edgekit"
    files = [path for path in folder.iterdir() if path.is_file()]
    assert sorted(path.suffix for path in files) == [".json", ".py", ".tflite"]
    assert all(len(path.stem) == 16 for path in files)
    # The runner's compiled copy is there for the next time; no session is.
    assert [p.name for p in folder.iterdir() if p.is_dir()] == ["__pycache__"]
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
    if "cannot be downloaded" in ended.err:
        pytest.skip("the wheels cannot be downloaded here")
    assert ended.code == 0, ended.err
    # Kept, it serves the next time without being asked for.
    again = edgekit("deploy", model, "--device", "board", "--runs", "2", "--json", "-q")
    assert again.code == 0, again.err
    assert (board.home / ".cache/edgekit/venv/bin/python").exists()


def test_a_model_answers_there_as_here(board, edgekit, golden, tmp_path):
    # Given a model with a manifest, two recordings of the same content, and one in a folder
    model = golden / "runner" / "fsdd_int8.tflite"
    manifest = json.loads(model.with_suffix(".json").read_text())
    for name in ("one.wav", "two.wav", "folder/-third; x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with wave.open(str(tmp_path / name), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            tone = 9000 * np.sin(np.arange(8000) * (0.3 if name[0] == "f" else 0.2))
            sound.writeframes(tone.astype(np.int16).tobytes())
    inputs = ["one.wav", "two.wav", "folder"]
    words = [word for name in inputs for word in ("--run", name)]
    # When it runs there
    few = ("--top", "2", "--threshold", "0.01")
    ended = edgekit("deploy", model, "--device", "board", *words, *few, "-q")
    # Then each is answered under its own name, with the manifest's labels, as here.
    assert ended.code == 0, ended.err
    there = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["source"] for line in there] == ["one.wav", "two.wav", "folder/-third; x.wav"]
    done = subprocess.run(
        [sys.executable, edgekit_runner.__file__, "run", *few, model, *inputs],
        capture_output=True,
        text=True,
        check=True,
    )
    here = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["top"] for line in there] == [line["top"] for line in here]
    assert all(len(line["top"]) <= 2 for line in there)
    assert there[0]["top"][0]["label"] in manifest["labels"]
    assert board.left() == []


def test_what_was_answered_before_an_error_is_not_lost(board, edgekit, model, tmp_path):
    np.savez(tmp_path / "good.npz", inputs=np.zeros((2, 61, 40, 1), np.float32))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    ended = edgekit(
        "deploy", model, "--device", "board", "--run", "good.npz", "--run", "bad.wav", "-q"
    )
    assert ended.code == 4
    assert [json.loads(line)["source"] for line in ended.out.splitlines()] == ["good.npz"] * 2
    assert "bad.wav" in ended.err
    missing = edgekit("deploy", model, "--device", "board", "--run", "none.jpg", "-q")
    assert (missing.code, missing.err.splitlines()[0]) == (4, "none.jpg does not exist.")
    assert edgekit("deploy", model, "-D", "board", "--run", "good.npz", "-o", "x").code == 2


def test_a_report_of_several_devices(board, edgekit, model, tmp_path):
    (tmp_path / "devices.toml").write_text('[one]\nhost = "board"\n[two]\nhost = "board"\n')
    words = ("deploy", model, "--device", "all", "--runs", "3", "-q")
    ended = edgekit(*words, "-o", "fleet")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].startswith("Wrote fleet/report.html (")
    page = (tmp_path / "fleet" / "report.html").read_text()
    assert "Latency on 2 devices" in page
    rows = json.loads((tmp_path / "fleet" / "report.json").read_text())["rows"]
    assert [row["device"].split(":")[0] for row in rows] == ["one", "two"]
    # What is there is not replaced, and nobody has to wait to hear of it.
    again = edgekit(*words, "-o", "fleet")
    assert again.code == 2
    assert "exists already" in again.err
    assert edgekit(*words, "-o", "fleet.md").out.splitlines()[-1].startswith("Wrote fleet.md")
    assert edgekit(*words, "-o", "fleet.pdf").code == 2


def test_scores_of_two_devices_stay_apart(board, edgekit, shared_data, repository, tmp_path):
    # Given one file scored on two devices, and timed nowhere
    (tmp_path / "devices.toml").write_text('[one]\nhost = "board"\n[two]\nhost = "board"\n')
    model = repository / "quantized" / "turbofan" / "int8.tflite"
    for name in ("one", "two"):
        ended = edgekit("eval", model, "--data", "turbofan", "--device", name, "--json", "-q")
        assert ended.code == 0, ended.err
        (tmp_path / f"{name}.json").write_text(ended.out)
    # When they are put into one report, then each keeps its row and its device.
    assert edgekit("report", "one.json", "two.json", "-o", "both.json").code == 0
    both = json.loads((tmp_path / "both.json").read_text())
    assert [row["device"].split(":")[0] for row in both["rows"]] == ["one", "two"]
    assert len(both["devices"]) == 2


def test_bench_passes_on_what_it_is_asked(board, edgekit, model, tmp_path):
    (tmp_path / "devices.toml").write_text('[two]\nhost = "board"\nthreads = 2\n')
    words = ("--runs", "3", "--kernels", "builtin", "--duration", "1", "--sweep", "-q")
    ended = edgekit("bench", model, "--device", "two", *words, "--json")
    assert ended.code == 0, ended.err
    details = ended.rows[0]["latency"]["details"]
    assert details["kernels"] == "builtin"
    assert details["sustained"][-1]["t_s"] >= 1
    assert {row["kernels"] for row in details["sweep"]} == {"default", "builtin"}
    # The threads are the device's own, unless others are asked for.
    assert ended.rows[0]["latency"]["threads"] == 2
    other = edgekit("bench", model, "-D", "two", "--runs", "3", "--threads", "1", "--json", "-q")
    assert other.rows[0]["latency"]["threads"] == 1
    here = edgekit("bench", model, *words)
    assert "sustained 1 s" in here.out
    assert "without" in here.out


def test_its_own_pip_is_asked_where_wheels_cannot_be_had_here(start, edgekit, model, monkeypatch):
    board = start(packages=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    ended = edgekit("deploy", model, "-D", "board", "--setup", "--runs", "2", "--json")
    assert "asking its own pip" in ended.err
    assert board.left() == []
    if "cannot be downloaded" in ended.err:
        assert "On board:" in ended.err
        pytest.skip("the device's pip has no package index either")
    assert ended.code == 0, ended.err
    assert len(ended.rows) == 1


@pytest.fixture
def hears_ctrl_c():
    """Shells start background jobs with SIGINT ignored, which children inherit."""
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
    from edgekit.devices.uploads import pack
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
    columns = edgekit_runner.read_arrays(str(tmp_path / "one.npz"))
    assert np.array_equal(np.stack(list(columns["inputs_a"].rows())), values)
    assert np.array_equal(np.stack(list(columns["inputs_b"].rows())), values[:, 0])


def test_sequences_are_packed_along(golden, tmp_path):
    from dataclasses import replace

    from edgekit.devices.uploads import Uploads
    from edgekit.records import Batch, Samples

    values = np.arange(48, dtype=np.float32).reshape(6, 8)
    apart = Samples(
        split="test", n=6, sha256="same", read=lambda rows: Batch(inputs={"x": values[rows]})
    )
    uploads = Uploads(tmp_path)
    for samples, expected in (
        (apart, [True] * 6),
        (replace(apart, sequences=np.array([0, 0, 1, 1, 1, 2])), [1, 0, 1, 0, 0, 1]),
    ):
        stored = edgekit_runner.read_arrays(str(uploads.package(samples)))
        starts = edgekit_runner.sequence_starts(stored, [stored["inputs"]], "data")
        assert list(starts) == expected


def test_infinity_from_a_device_is_an_error_and_no_score(golden, tmp_path):
    from edgekit.devices.ssh_device import score_outputs
    from edgekit.errors import ModelError
    from edgekit.records import Batch, Dataset, Samples

    targets = np.zeros((4, 1), np.float32)
    samples = Samples(
        split="test",
        n=4,
        sha256="",
        read=lambda rows: Batch(inputs={"x": targets[rows]}, targets=targets[rows]),
    )
    dataset = Dataset(name="four", task="regression", train=None, calibrate=None, test=samples)
    model = golden / "runner" / "pair.tflite"
    np.savez(tmp_path / "sound.npz", value=targets + 3)
    np.savez(tmp_path / "broken.npz", value=np.where(np.arange(4) == 2, np.inf, targets.T).T)
    assert score_outputs(tmp_path / "sound.npz", dataset, about=model).score.value == 3
    with pytest.raises(ModelError, match=r"pair\.tflite has no score") as error:
        score_outputs(tmp_path / "broken.npz", dataset, about=model)
    assert "1 of 4" in str(error.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [("pi5", "Did you mean pi4, of devices.toml?"), ("coral", "is in devices.toml")],
)
def test_a_name_that_is_no_host_is_compared_with_those_known(tmp_path, monkeypatch, asked, said):
    # Given a name that devices.toml has not, and what ssh says of it as a host
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text('[pi4]\nhost = "pi@192.0.2.7"\n')
    (device,) = find_devices([asked])
    words = f"ssh: Could not resolve hostname {asked}: Name or service not known"
    # When the connection is given up, then the error names the one that was meant.
    connection = Connection(device, cancel=threading.Event(), dropped=print)
    assert said in str(connection._refusal(words))


REFUSALS = {
    "Permission denied (publickey).": "ssh-copy-id {options} -o ProxyJump=gate pi@192.0.2.7",
    "Host key verification failed.": "ssh {options} -J gate pi@192.0.2.7",
    "Connection refused": "ssh {options} -J gate pi@192.0.2.7",
}


@pytest.mark.parametrize("words", REFUSALS)
def test_a_hint_is_the_command_that_reaches_the_device(words):
    device = DeviceEntry(
        name="pi", host="pi@192.0.2.7", port=2222, identity="/k/id", jump="gate", ssh_config="/c"
    )
    connection = Connection(device, cancel=threading.Event(), dropped=print)
    command = REFUSALS[words].format(options="-F /c -p 2222 -i /k/id")
    assert (connection._refusal(words).hint or "").endswith(f": {command}")


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

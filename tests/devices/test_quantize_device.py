"""`quantize --device`: files are made here, and scored, timed and recommended there."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import DeviceSetup, Remote, find_devices, uploads
from edgekit.errors import DeviceError
from edgekit.pipeline.recommendation import open_bench
from edgekit.pipeline.request import Request

MODES = ("--mode", "float16", "--mode", "dynamic")


@pytest.fixture
def source(repository, shared_data):
    return repository / "quantized" / "turbofan" / "float32.tflite"


def test_files_are_measured_there(board, edgekit, source):
    # Given a float graph, its data, and a device
    words = ("quantize", source, "--data", "turbofan", *MODES, "-q", "--json")
    here = edgekit(*words, "--no-bench", "-o", "here").rows
    # When its variants are made for the device
    ended = edgekit(*words, "--device", "board", "--threads", "2", "-o", "out")
    # Then every row is from there, the scores are those of the same processor, one is recommended
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert [row["variant"] for row in ended.rows] == ["float32", "float16", "dynamic"]
    for mine, theirs in zip(here, ended.rows, strict=True):
        assert theirs["latency"]["device"].startswith("board: ")
        assert theirs["latency"]["threads"] == 2
        assert theirs["score"]["value"] == pytest.approx(mine["score"]["value"], rel=1e-6)
        assert theirs["drop"] == pytest.approx(mine["drop"] or 0, abs=1e-6)
        assert theirs["sha256"] == mine["sha256"]
        assert theirs["collapses"] == []
    for mine, theirs in zip(here[1:], ended.rows[1:], strict=True):
        assert theirs["fidelity"][0]["n"] == mine["fidelity"][0]["n"] == 100
        assert theirs["fidelity"][0]["sqnr_db"] == pytest.approx(
            mine["fidelity"][0]["sqnr_db"], 0.01
        )
    assert sum(row["recommended"] for row in ended.rows) == 1
    assert report["asked"]["device"] == "board"
    assert "runtime" in report["device"]
    # and nothing is left there.
    assert board.left() == []


def test_the_next_command_works_as_it_is_printed(board, edgekit, source):
    # Given files that were made and measured here
    ended = edgekit(
        *("quantize", source, "--data", "turbofan", "--max-drop", "3", "--mode", "float16"),
        *("-q", "-o", "the files"),
    )
    (line,) = [line for line in ended.out.splitlines() if line.startswith("Next: ")]
    words = shlex.split(line.removeprefix("Next: "))
    assert words[:2] == ["edgekit", "deploy"]
    # When the command is typed, with the device's name
    ended = edgekit(*("board" if word == "NAME" else word for word in words[1:]), "--json", "-q")
    # Then the recommended file is scored and timed there.
    assert ended.code == 0, ended.err
    (row,) = ended.rows
    assert row["latency"]["device"].startswith("board: ")
    assert row["score"]["n"] == 100
    assert json.loads(ended.out)["asked"]["accepted loss"] == "3 % of the RMSE"


def test_without_targets_outputs_from_there_are_compared(board, edgekit, golden, tmp_path):
    # Given a file whose output is dead, and inputs without targets
    files = [golden / "fidelity" / f"rare_{kind}.tflite" for kind in ("float32", "int8")]
    values = np.random.default_rng(0).uniform(0, 1, (700, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_test=values)
    # When both are run on a device
    ended = edgekit("eval", *files, "--data", "data.npz", "--device", "board", "-q", "--json")
    # Then each is compared with float32 as computed here.
    assert ended.code == 0, ended.err
    float32, int8 = ended.rows
    assert float32["score"] is int8["score"] is None
    assert float32["fidelity"][0]["correlation"] == pytest.approx(1)
    assert float32["collapses"] == []
    assert [one["kind"] for one in int8["collapses"]] == ["constant"]


def test_a_file_that_the_runtime_there_cannot_run_is_told_and_not_recommended(
    start, edgekit, source
):
    # Given a device whose runtime dies of the second file that it is to score
    start(
        before='case "$*" in *base64*) ;; *" eval "*) if [ -e "$HOME/once" ]; '
        'then rm "$HOME/once"; kill -11 $$; fi; : > "$HOME/once";; esac'
    )
    # When files are made for it
    ended = edgekit(
        *("quantize", source, "--data", "turbofan", *MODES, "--device", "board"),
        *("-q", "--json", "-o", "out"),
    )
    # Then that file has no figures and is not recommended, and the run goes on.
    assert ended.code == 0, ended.err
    assert [row["score"] is None for row in ended.rows] == [False, True, False]
    assert [row["latency"] is None for row in ended.rows] == [False, True, False]
    assert not ended.rows[1]["recommended"]
    warnings = json.loads(ended.out)["warnings"]
    (told,) = [text for text in warnings if text.startswith("float16 cannot be run on board")]
    assert "SIGSEGV" in told


def test_an_older_runtime_there_runs_int4_which_the_runner_expands(
    start, edgekit, source, tflite_runtime, tmp_path
):
    # Given a device that has tflite-runtime 2.14, where its user may read it
    (site,) = (tflite_runtime / "numpy1").glob("lib/python*/site-packages")
    with tempfile.TemporaryDirectory(prefix="edgekit-site-") as readable:
        Path(readable).chmod(0o755)
        shutil.copytree(site, f"{readable}/site", ignore=shutil.ignore_patterns("pip*", "setup*"))
        start(packages=False, before=f'export PYTHONPATH="{readable}/site"')
        # When files are made for it
        ended = edgekit(
            *("quantize", source, "--data", "turbofan", "--mode", "int4", *MODES),
            *("--max-drop", "50", "--prefer", "size", "--device", "board", "-q", "--json"),
            *("-o", "out"),
        )
    # Then all are measured there, and int4, the smallest, is recommended.
    assert ended.code == 0, ended.err
    rows = {row["variant"]: row for row in ended.rows if row["mode"]}
    assert all(row["score"] and row["latency"] for row in rows.values())
    assert [name for name, row in rows.items() if row["recommended"]] == ["int4"]
    report = json.loads(ended.out)
    assert "tflite-runtime 2.14.0" in report["device"]["runtime"]
    assert not any("cannot be run" in text for text in report["warnings"])


def test_a_device_that_is_away_is_told_before_anything_is_made(board, edgekit, source, tmp_path):
    board.stop()
    ended = edgekit(
        "quantize", source, "--data", "turbofan", *MODES, "--device", "board", "-o", "out"
    )
    assert ended.code == 7
    assert "cannot be reached" in ended.err
    assert "quantizing" not in ended.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the user's, with no devices of theirs elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--setup",), "--setup has no effect without --device"),
        (("--keep",), "--keep has no effect without --device"),
        (("--devices", "devices.toml"), "--devices has no effect without --device"),
        (("--device", "board", "--no-bench"), "nothing to measure on the device"),
        (("--device", "all"), "all stands for 2"),
        (("--metric", "rmse"), "--metric has no effect without --data"),
    ],
)
def test_options_that_have_no_effect_are_refused(edgekit, source, here, words, said):
    (here / "devices.toml").write_text('[one]\nhost = "a"\n[two]\nhost = "b"\n')
    ended = edgekit("quantize", source, *MODES, *words, "-o", "out", "-q")
    assert ended.code == 2
    assert said in ended.err
    assert not (here / "out").exists()


def test_the_budget_and_the_metric_hold_there_as_here(board, edgekit, repository, shared_data):
    files = [repository / "quantized" / "turbofan" / f"{n}.tflite" for n in ("float32", "int8")]
    words = (*files, "--data", "turbofan", "--json", "-q")
    for allowed in ("0", "90"):
        here = edgekit("eval", *words, "--max-drop", allowed)
        there = edgekit("deploy", *words, "--device", "board", "--max-drop", allowed, "--runs", "2")
        assert (here.code, there.code) == (0, 0), there.err
        assert here.rows[1]["verdict"] == there.rows[1]["verdict"]
        assert (here.rows[1]["verdict"] == "kept") is (allowed == "90")
        assert json.loads(there.out)["asked"]["accepted loss"] == f"{allowed} % of the RMSE"
    for command in (("eval",), ("deploy", "--device", "board")):
        wrong = edgekit(*command, *words, "--metric", "accuracy")
        assert wrong.code == 2
        assert wrong.err.splitlines()[0] == "There is no metric 'accuracy' of a regression."
        unknown = edgekit(*command, *words, "--metric", "speed")
        assert unknown.code == 2
        assert "Known: accuracy" in unknown.err


def test_each_file_is_hashed_and_packed_once_for_all_devices(
    board, edgekit, repository, shared_data, monkeypatch
):
    # Given two devices, and counts of what is hashed and packed
    Path("devices.toml").write_text('[one]\nhost = "board"\n[two]\nhost = "board"\n')
    hashed, packed = Counter(), []
    original, pack = uploads.sha256_of, uploads.pack
    monkeypatch.setattr(
        uploads, "sha256_of", lambda path: hashed.update([path.name]) or original(path)
    )
    monkeypatch.setattr(uploads, "pack", lambda *words: packed.append(words) or pack(*words))
    model = repository / "quantized" / "turbofan" / "int8.tflite"
    # When a file goes to both
    ended = edgekit("eval", model, "--data", "turbofan", "--device", "all", "--json", "-q")
    # Then the model's known digest is used, and everything else is hashed once.
    assert ended.code == 0, ended.err
    assert len(ended.rows) == 2
    assert ended.rows[0]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert len(packed) == 1
    assert set(hashed) == {"edgekit_runner.py", "int8.json", "data0.npz"}
    assert set(hashed.values()) == {1}


def test_a_latency_that_a_step_seeks_is_measured_there(board, model):
    (entry,) = find_devices(["board"])
    request = Request(source=model, plans=(), folder=Path("out"), device=entry, threads=2)
    with open_bench(request) as bench:
        timing = bench(model)
    assert timing.device.startswith("board: ")
    assert timing.threads == 2
    assert board.left() == []


def test_a_runtime_is_installed_once_for_all_timings_of_a_search(start, model, monkeypatch):
    # Given a device without a runtime
    board = start(packages=False)
    (entry,) = find_devices(["board"])
    installed = []
    setup = Remote.setup

    def counted(remote, *given, **named):
        installed.append(remote.device.name)
        setup(remote, *given, **named)

    monkeypatch.setattr(Remote, "setup", counted)
    request = Request(
        source=model, plans=(), folder=Path("out"), device=entry, setup=DeviceSetup(install=True)
    )
    # When candidates are timed one after the other
    try:
        with open_bench(request) as bench:
            timings = [bench(model) for _ in range(3)]
    except DeviceError as error:
        if "cannot be downloaded" in str(error):
            pytest.skip("the wheels cannot be downloaded here")
        raise
    # Then the runtime that was installed once serves them all, and nothing stays there.
    assert len(timings) == 3
    assert all(timing.values_ns for timing in timings)
    assert installed == ["board"]
    assert board.left() == []


@pytest.mark.tensorflow
def test_the_stages_of_a_recipe_are_measured_there(board, edgekit, demo_model):
    Path("small.toml").write_text(
        'schema = 1\nname = "small"\n[[step]]\nkind = "prune"\nsparsity = 0.3\nepochs = 0\n'
        '[[step]]\nkind = "quantize"\nmode = "dynamic"\n'
    )
    words = ("--recipe", "small.toml", "--data", "digits", "--device", "board")
    ended = edgekit("compress", demo_model, *words, "-o", "out", "-q", "--json")
    assert ended.code == 0, ended.err
    assert [row["variant"] for row in ended.rows] == ["source", "float32", "1-prune", "small"]
    assert all(row["latency"]["device"].startswith("board: ") for row in ended.rows[1:])
    assert all(row["score"]["metric"] == "accuracy" for row in ended.rows)
    assert board.left() == []

"""Files timed by turns, on this machine and on another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import devices
from edgekit.cli import run
from edgekit.devices import LocalDevice, RunSettings, interleaved
from edgekit_runner import ROUNDS

FOLDER = Path(__file__).resolve().parents[2] / "quantized" / "turbofan"
HERE = LocalDevice()


@pytest.fixture(scope="module")
def timed():
    paths = [FOLDER / f"{name}.tflite" for name in ("float32", "int8")]
    return [(path, devices.bench(path, runs=50)) for path in paths]


def test_every_file_has_as_many_runs_in_each_round(timed):
    again = interleaved(timed, HERE)

    for (_, alone), timing in zip(timed, again, strict=True):
        assert timing.rounds == ROUNDS
        assert timing.values_ns
        assert len(timing.values_ns) % ROUNDS == 0
        assert min(timing.values_ns) > 0
        # All else is what was measured of it alone.
        assert replace(timing, values_ns=alone.values_ns, rounds=1) == alone


def test_one_file_alone_and_slow_models_are_left_as_they_are(timed):
    assert interleaved(timed[:1], HERE) == [timed[0][1]]
    path, timing = timed[1]
    slow = replace(timing, values_ns=(10**9,) * 20)
    assert interleaved([timed[0], (path, slow)], HERE) == [timed[0][1], slow]


@pytest.mark.parametrize("asked", [RunSettings(runs=50), RunSettings(delegate="edgetpu")])
def test_runs_that_were_asked_for_are_kept(asked, timed):
    assert interleaved(timed, HERE, asked) == [timing for _, timing in timed]


def test_bench_times_its_files_by_turns(timed, capsys):
    files = [str(path) for path, _ in timed]

    found = {}
    for asked in ([], ["--kernels", "builtin"], ["--runs", "20"]):
        assert run(["bench", *files, *asked, "--json", "-q"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        found[" ".join(asked)] = [row["latency"]["rounds"] for row in rows]

    by_turns = [ROUNDS, ROUNDS]
    assert found == {"": by_turns, "--kernels builtin": by_turns, "--runs 20": [1, 1]}


def test_a_file_that_fails_beside_the_others_loses_no_latency(timed, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))

    assert interleaved([timed[0], (broken, timed[1][1])], HERE) == [timing for _, timing in timed]


def test_a_device_times_its_files_by_turns(board, edgekit, timed, tmp_path):
    files = [path for path, _ in timed]

    # When files are timed there, new ones as well as those that are,
    deployed = edgekit("deploy", *files, "--device", "board", "--json", "-q")
    words = ("--mode", "float16", "--device", "board", "-o", "out", "--json", "-q")
    made = edgekit("quantize", files[0], "--data", "turbofan", *words)

    # then they are by turns, and nothing is left there;
    for ended in (deployed, made):
        assert ended.code == 0, ended.err
        latencies = [row["latency"] for row in ended.rows if row["latency"]]
        assert [latency["rounds"] for latency in latencies] == [ROUNDS, ROUNDS]
        assert all(latency["device"].startswith("board") for latency in latencies)
    assert board.left() == []

    # unless a number of runs is asked for.
    asked = edgekit("deploy", *files, "--device", "board", "--runs", "20", "--json", "-q")
    assert [row["latency"]["rounds"] for row in asked.rows] == [1, 1]


def test_files_that_fail_together_on_a_device_keep_what_each_took_alone(start, edgekit, timed):
    # Given a device on which two models at once take too much memory
    board = start(
        before='case "$*" in *base64*) ;; *" bench "*" -- "*.tflite\\ *.tflite) kill -9 $$;; esac'
    )

    ended = edgekit("deploy", *(path for path, _ in timed), "--device", "board", "--json", "-q")

    assert ended.code == 0, ended.err
    assert [row["latency"]["rounds"] for row in ended.rows] == [1, 1]
    assert not any(row["failure"] for row in ended.rows)
    assert board.left() == []

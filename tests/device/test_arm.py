"""Models and the runner on 64-bit and 32-bit ARM, against what they do on this machine.

Never a latency: the clock there is that of an emulator.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from boards import TASKS, Answers, Board

EXACT = [task for task in TASKS if task.startswith("reference")]
CLOSE = [task for task in TASKS if not task.startswith("reference")]
ROUNDED_OTHERWISE = ("reference int16x8", "reference turbofan, 4 bits")
ENDS_IN_FLOAT = ("reference turbofan",)
VERSIONS = {"litert": "ai-edge-litert 2.3.0", "tflite": "tflite-runtime 2.14.0"}


def test_what_runs_there_is_arm_code_on_a_board_of_its_own(board: Board, there: Answers) -> None:
    """Otherwise the other tests would compare this machine with itself."""
    # given a board that was put together of Debian's packages
    expected = board.land.architecture

    # when the runner describes it
    machine = there.info["machine"]

    # then it is ARM, Debian 12, the board's name, and the runtime asked for
    assert machine["os"].endswith(f" {expected.machine}")
    assert machine["os"].startswith(expected.system)
    assert machine["device"].startswith(expected.board)
    assert machine["python"].startswith(f"{expected.python}.")
    assert there.info["runtime"] == VERSIONS[board.runtime]


def test_the_models_interface_reads_alike(there: Answers, here: Answers) -> None:
    for key in ("inputs", "outputs", "signatures", "sha256", "size_bytes"):
        assert there.info[key] == here.info[key]


def test_the_runtime_passes_its_self_test(board: Board) -> None:
    # given the model that the runner carries, when it is run there
    done = board.run("selftest", "--json")

    # then every kind of kernels gives the answers it gave where the model was made
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["working"]
    assert [result["kernels"] for result in facts["results"]] == ["default", "reference"]
    assert all(result["right"] == result["n"] for result in facts["results"])


@pytest.mark.parametrize("task", CLOSE)
def test_scores_lie_within_this_machines_interval(task: str, there: Answers, here: Answers) -> None:
    """Raw pixels and sound are prepared there, with another numpy; the kernels are ARM's."""
    # given the score of this machine with its 95 % interval
    expected = here.scores[task]["score"]
    low, high = expected["ci95"]

    # when the same samples are scored there
    found = there.scores[task]["score"]

    # then it is the same metric on as many samples, and no worse, no better
    assert (found["metric"], found["n"]) == (expected["metric"], expected["n"])
    assert low <= found["value"] <= high


@pytest.mark.parametrize("task", EXACT)
def test_reference_kernels_agree_to_the_bit(
    task: str, board: Board, there: Answers, here: Answers
) -> None:
    # given the outputs of an integer model with reference kernels, here and there
    (expected,), (found,) = here.outputs[task].values(), there.outputs[task].values()
    assert len(np.unique(expected)) > 10  # a model that says something

    # when a kernel is of another version of the runtime, it may round otherwise, by one code
    if task in ROUNDED_OTHERWISE and board.runtime != "litert":
        steps = np.diff(np.unique(expected))
        assert np.abs(found - expected).max() <= 1.5 * steps.min()
        return

    # when the last layer computes in float, each processor adds in an order of its own, and a
    # code that another version rounds otherwise is not a whole step of the output
    if task in ENDS_IN_FLOAT:
        step = 0 if board.runtime == "litert" else np.ptp(expected) / 255
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=step)
        values = (answers.scores[task]["score"]["value"] for answers in (there, here))
        assert abs(np.subtract(*values)) <= step + 1e-5 * np.abs(expected).max()  # of an RMSE
        return

    # then every output of every sample is equal, and so is the score
    np.testing.assert_array_equal(found, expected)
    assert there.scores[task]["score"] == here.scores[task]["score"]


def test_a_recording_is_understood(there: Answers, here: Answers) -> None:
    assert there.heard["top"][0]["label"] == here.heard["top"][0]["label"] == "zero"


def test_bench_measures_as_everywhere(board: Board, repository: Path) -> None:
    # given a published model, when it is timed three times
    model = repository / "quantized" / "fashion-mnist" / "int8.tflite"
    done = board.run("bench", model, "--runs", 3, "--json")

    # then raw nanoseconds come back with the device they were taken on
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["n"] == len(facts["values_ns"]) == 3
    assert min(facts["values_ns"]) > 0
    assert min(facts["cold_start_ns"].values()) > 0
    assert facts["device"].startswith(board.land.architecture.board)
    assert facts["runtime"] == VERSIONS[board.runtime]
    assert facts["peak_rss_bytes"] > 10_000_000


def test_a_photo_is_recognized_alike(board: Board, shared_data: Path) -> None:
    # given a photo of a cat and a model of 1,001 classes
    pairs = shared_data / "coral_pairs"
    words = [
        *("run", pairs / "mobilenet_v1_0.25_128_quant.tflite", pairs / "cat.bmp"),
        *("--labels", pairs / "imagenet_labels.txt", "--kernels", "reference"),
    ]

    # when it is decoded, resized and classified there and here
    done = board.run(*words)
    ours = subprocess.run(
        [sys.executable, board.runner, *map(str, words), "--runtime", "litert"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    # then the classes and their scores are the same, to the last digit
    assert done.returncode == 0, done.stderr
    top = json.loads(done.stdout)["top"]
    assert top == json.loads(ours.stdout)["top"]
    assert "cat" in top[0]["label"]


@pytest.mark.parametrize("board", ["armhf-tflite"], indirect=True)
def test_a_runtime_that_is_not_there_is_named(board: Board) -> None:
    # given a 32-bit board, when the runtime of the 64-bit ones is asked for
    done = subprocess.run(
        [board.land.python, board.runner, "info", "--runtime", "litert"],
        env={"PATH": board.land.path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    # then the error says that it is missing, in three lines, and the code is the device's
    assert done.returncode == 7
    assert len(done.stderr.splitlines()) <= 3
    assert "ai-edge-litert is not installed" in done.stderr

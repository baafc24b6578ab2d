"""What is said of a microcontroller's memory: by inspect, by check, in JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgekit.cli import run
from edgekit.conditions import CONDITIONS
from edgekit.errors import ModelError
from edgekit.records import Artifact, Inspection, Row
from edgekit.reports.memory_text import memory_text
from edgekit.tflite import arena, micro_interpreter, operators, read
from edgekit.tflite.inspect import inspect
from edgekit.tflite.nodes import nodes

SPEECH = "inspect/speech_int8.tflite"
# TFLite Micro's interpreter reports these bytes for it.
ARENA, HEAD = 55568, 49600


@pytest.fixture
def without_interpreter(monkeypatch):
    monkeypatch.setattr(micro_interpreter, "available", lambda: False)


def seen(golden, target: str) -> Inspection:
    return inspect(golden / SPEECH, targets=(target,))


@pytest.mark.parametrize(
    ("target", "begins", "fits"),
    [
        ("micro", "loads: arena", None),
        ("micro:ram=64k", "fits: arena", True),
        ("micro:ram=48k", "does not fit: arena", False),
        ("micro:ram=64k,flash=128k", "does not fit: arena", False),
        ("micro:flash=1M", "fits: arena", True),
        ("esp32-s3", "fits: arena", True),
    ],
)
def test_one_line_says_whether_it_fits(golden, without_interpreter, target, begins, fits):
    inspection = seen(golden, target)

    line = memory_text(inspection, target)

    assert line.startswith(begins)
    assert "\n" not in line
    assert "(estimated)" in line
    assert inspection.memory[target].fits == fits
    assert inspection.memory[target].head_bytes == HEAD
    assert ARENA <= inspection.memory[target].arena_bytes < ARENA + 1000
    assert inspection.memory[target].arena_bytes_32 < ARENA


@pytest.mark.skipif(not micro_interpreter.available(), reason="tflite-micro is not installed")
def test_the_interpreter_measures_what_was_estimated(golden):
    memory = seen(golden, "micro").memory["micro"]

    assert (memory.arena_bytes, memory.head_bytes) == (ARENA, HEAD)
    assert memory.measured
    assert memory.loads


def test_what_does_not_run_is_named_first(golden, without_interpreter):
    inspection = inspect(golden / "inspect/speech_float16.tflite", targets=("micro",))

    assert "does not run, predicted: operator 0 DEQUANTIZE" in memory_text(inspection, "micro")


def test_only_microcontrollers_are_planned(golden):
    assert not inspect(golden / SPEECH, targets=("coral", "cpu")).memory


def test_memory_survives_json(golden, tmp_path, capsys, without_interpreter):
    words = ["inspect", str(golden / SPEECH), "--target", "micro:ram=64k", "--json"]

    assert run(words) == 0

    told = json.loads(capsys.readouterr().out)["memory"]["micro:ram=64k"]
    assert told["fits"] is True
    assert told["head_bytes"] == HEAD
    assert told["ram_bytes"] == 64 << 10
    assert told["flash_bytes"] is None
    assert told["measured"] is False


def test_a_refusal_of_the_interpreter_is_told(golden, without_interpreter):
    inspection = seen(golden, "micro")
    memory = replace(inspection.memory["micro"], loads=False, message="no such thing")
    refused = replace(inspection, memory={"micro": memory})

    assert memory_text(refused, "micro").startswith("TFLite Micro refuses it: no such thing")
    assert memory.shortage == "TFLite Micro does not load it: no such thing"


@pytest.mark.parametrize(
    ("target", "measured", "known"),
    [
        ("micro", False, "measured"),
        ("micro:ram=64k", False, "predicted"),
        ("micro:ram=48k", False, "predicted"),
        ("micro:ram=48k", True, "measured"),
    ],
)
def test_an_estimated_arena_is_no_measurement(golden, target, measured, known):
    # Given a file that the interpreter loads, and an arena held against the target's memory
    inspection = inspect(golden / SPEECH, targets=(target,))
    memory = replace(inspection.memory[target], loads=True, measured=measured)
    loaded = replace(inspection, memory={target: memory})
    # When the target is a condition
    file = Artifact(
        path=golden / SPEECH,
        variant="int8",
        mode="int8",
        size_bytes=loaded.size_bytes,
        size_deflated_bytes=0,
        sha256="",
    )
    row = Row(model="speech", artifact=file, inspection=loaded)
    result = CONDITIONS["target"].judge("target", target, row)
    # Then it is as well known as the arena
    assert loaded.how_known(target) == "measured"
    assert result.basis == known


@pytest.mark.usefixtures("without_interpreter")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--target", "micro:ram=64k"], 0, "met    target"),
        (["--target", "micro:ram=48k"], 6, "an arena of 55,"),
        (["--target", "micro:flash=128k"], 6, "it needs flash of 207,"),
        (["--target", "micro", "--max-arena", "64k"], 0, "of arena in TFLite Micro"),
        (["--target", "micro", "--max-arena", "50k"], 6, "UNMET  max-arena"),
    ],
)
def test_check_holds_the_memory_against_the_target(golden, capsys, words, code, says):
    assert run(["check", str(golden / SPEECH), *words]) == code

    assert says in capsys.readouterr().out


def test_graphs_that_contain_each_other_are_not_planned(golden):
    model = read(golden / "inspect/loop_float32.tflite")
    (loop,) = [op for _, op, name in operators(model) if name == "WHILE"]
    loop.builtinOptions.bodySubgraphIndex = 0

    assert arena.plan(model, nodes(model)) is None


def test_too_many_tensors_are_not_planned(golden, monkeypatch):
    model = read(golden / SPEECH)
    monkeypatch.setattr(arena, "MOST_BUFFERS", 5)

    assert arena.plan(model, nodes(model)) is None


def test_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "no.tflite"
    path.write_bytes(b"TFL3 or not")

    with pytest.raises(ModelError):
        inspect(path, targets=("micro",))

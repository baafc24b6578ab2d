"""Damaged files: inspection succeeds or raises a `ModelError`."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import run
from edgekit.errors import ModelError
from edgekit.schema import inspection_to_json
from edgekit.tflite import read, write
from edgekit.tflite.inspect import inspect

LIMIT_SECONDS = 5


@contextmanager
def alarm() -> Iterator[None]:
    """Break a hang, so that it fails here instead of holding up the suite."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"longer than {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutate(content: bytes, dice: random.Random) -> bytes:
    """Cut a file short, or flip between 1 and 100 bits of it, most of them in its tables."""
    if dice.random() < 0.25:
        return content[: dice.randrange(len(content))]
    damaged = bytearray(content)
    for _ in range(dice.choice([1, 3, 10, 100])):
        reach = min(len(content), dice.choice([2_000, 8_000, len(content)]))
        damaged[dice.randrange(8, reach)] ^= 1 << dice.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize(
    "name", ["several_float32", "speech_int8", "loop_float32", "sparse_float32"]
)
def test_two_hundred_mutations(golden: Path, tmp_path: Path, name: str) -> None:
    content = (golden / "inspect" / f"{name}.tflite").read_bytes()
    dice = random.Random(20)
    path = tmp_path / "damaged.tflite"
    outcomes: Counter[str] = Counter()
    longest = 0

    for _ in range(200):
        path.write_bytes(mutate(content, dice))
        with alarm():
            try:
                inspection = inspect(path, targets=("cpu", "coral"))
            except ModelError as error:
                outcomes["refused"] += 1
                longest = max(longest, len(str(error).splitlines()))
            else:
                assert sum(inspection.bytes.values()) == path.stat().st_size
                assert min(inspection.bytes.values()) >= 0
                outcomes["read"] += 1

    assert longest <= 3
    # Both ways out were taken, or the mutations are too mild or too harsh to say anything.
    assert min(outcomes["read"], outcomes["refused"]) >= 10


def test_weights_that_overlap_still_add_up(golden: Path, tmp_path: Path) -> None:
    # given a file in which another buffer, too, points to the largest constant
    content = bytearray((golden / "inspect" / "speech_int8.tflite").read_bytes())
    before = inspect(golden / "inspect" / "speech_int8.tflite")
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(content)
    tables = [model.Buffers(i) for i in range(model.BuffersLength())]
    largest = max(tables, key=lambda table: table.DataLength())
    start = largest._tab.Vector(largest._tab.Offset(4)) - 4
    for table in tables:
        field = table._tab.Offset(4)
        if field and 0 < table.DataLength() < largest.DataLength():
            position = table._tab.Pos + field
            if start > position:
                content[position : position + 4] = (start - position).to_bytes(4, "little")
    path = tmp_path / "overlapping.tflite"
    path.write_bytes(content)

    inspection = inspect(path)

    assert sum(inspection.bytes.values()) == inspection.size_bytes == before.size_bytes
    assert inspection.bytes["weights"] > before.bytes["weights"]
    assert inspection.bytes["graph"] >= 0


def altered(content: bytes, path: Path, change: Callable[[Any], None]) -> Path:
    """A file with `change` made to its model."""
    model = read(content)
    change(model)
    path.write_bytes(write(model))
    return path


def without_zero_points(model: Any) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                tensor.quantization.zeroPoint = None


def test_a_scale_without_a_zero_point_has_zero_for_one(golden: Path, tmp_path: Path) -> None:
    content = (golden / "inspect" / "speech_int8.tflite").read_bytes()
    path = altered(content, tmp_path / "scales.tflite", without_zero_points)

    inspection = inspect(path)

    assert inspection.inputs[0].scale is not None
    assert inspection.inputs[0].zero_point == 0


def another_number_of_zero_points(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = np.zeros(3, np.int64)


def metadata_nowhere(model: Any) -> None:
    from ai_edge_litert.schema_py_generated import MetadataT

    model.metadata.append(MetadataT(name="notes", buffer=9999))


def more_elements_than_digits(model: Any) -> None:
    graph = model.subgraphs[0]
    # 600 dimensions: Python prints no integer of more than 4,300 digits.
    graph.tensors[graph.inputs[0]].shape = np.full(600, (1 << 31) - 1, np.int32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (another_number_of_zero_points, "1 scales and 3 zero points"),
        (metadata_nowhere, "the buffer of metadata notes is 9999"),
        (more_elements_than_digits, "600 dimensions has more than"),
    ],
)
def test_what_does_not_hold_together_is_refused(
    golden: Path, tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    content = (golden / "inspect" / "speech_int8.tflite").read_bytes()
    path = altered(content, tmp_path / "damaged.tflite", change)
    with pytest.raises(ModelError, match=words):
        inspect(path)


def no_inputs(model: Any) -> None:
    model.subgraphs[0].inputs = np.zeros(0, np.int32)
    model.signatureDefs = []


def no_outputs(model: Any) -> None:
    model.subgraphs[0].outputs = np.zeros(0, np.int32)
    model.signatureDefs = []


@pytest.mark.parametrize("change", [no_inputs, no_outputs])
@pytest.mark.parametrize("command", ["quantize", "bench", "eval"])
def test_a_graph_without_inputs_or_outputs_is_shown_but_not_run(
    golden: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], None],
    command: str,
) -> None:
    content = (golden / "quantize" / "speech_float32.tflite").read_bytes()
    path = altered(content, tmp_path / "open.tflite", change)
    options = {"eval": ["--data", "digits"], "quantize": ["-o", str(tmp_path / "out")], "bench": []}

    assert run(["inspect", str(path)]) == 0
    assert run([command, str(path), *options[command]]) == 3

    said = capsys.readouterr().err.splitlines()
    assert any(f"has no {change.__name__[3:]}" in line for line in said)


def test_a_long_list_of_operators_is_cut_on_a_terminal_and_whole_in_json(
    golden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.reports import terminal_inspection

    path = golden / "inspect" / "speech_int8.tflite"
    operators = len(inspect(path).ops)
    monkeypatch.setattr(terminal_inspection, "MOST_OPERATORS", 3)

    run(["inspect", str(path)])
    shown = capsys.readouterr().out
    run(["inspect", str(path), "--json"])
    listed = json.loads(capsys.readouterr().out)

    assert f"... and {operators - 3} more operators; --json lists all of them" in shown
    assert len(listed["ops"]) == operators
    assert listed == inspection_to_json(inspect(path, targets=("coral",)))

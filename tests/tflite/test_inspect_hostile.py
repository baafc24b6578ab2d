"""Damaged files: inspection answers or says why not, and does nothing else."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit.errors import ModelError
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

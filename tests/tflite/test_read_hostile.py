"""Damaged files: read or refused, never anything else."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.tflite import operator_name, read, signature, write

NAMES = {"several_float32": 80, "loop_float32": 80, "sparse_float32": 80, "speech_float16": 20}
# What damages a count or an offset most: ends of the number range, and places in the file.
NUMBERS = (0, 1, 16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damage(content: bytes, dice: np.random.Generator) -> bytes:
    data = bytearray(content)
    kind = dice.integers(4)
    if kind == 0:
        return bytes(data[: dice.integers(len(data))])
    for _ in range(dice.integers(1, 12)):
        place = int(dice.integers(4, len(data) - 8))
        if kind == 1:
            data[place] ^= 1 << dice.integers(8)
        elif kind == 2:
            number = int(dice.choice([*NUMBERS, dice.integers(len(data))]))
            data[place & ~3 : (place & ~3) + 4] = number.to_bytes(4, "little")
        else:
            source = int(dice.integers(len(data) - 64))
            piece = data[source : source + int(dice.integers(1, 64))]
            data[place : place + len(piece)] = piece
    return bytes(data)


@pytest.mark.parametrize(("name", "mutations"), NAMES.items())
def test_mutations_are_read_or_refused(golden: Path, name: str, mutations: int) -> None:
    content = (golden / "inspect" / f"{name}.tflite").read_bytes()
    dice = np.random.default_rng(len(content))
    outcomes = {"read": 0, "refused": 0}
    longest = 0.0
    for _ in range(mutations):
        data = damage(content, dice)
        start = time.process_time()
        try:
            model = read(data)
        except ModelError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            signature(model)
            for graph in model.subgraphs:
                assert all(operator_name(model, op) for op in graph.operators)
            assert len(write(model)) < 20 * len(content) + 100_000
        longest = max(longest, time.process_time() - start)
    assert min(outcomes.values()) > 1
    # Not a timing: a hang, or work out of all proportion.
    assert longest < 10

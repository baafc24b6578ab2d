"""How many samples a lowered model is verified on."""

from __future__ import annotations

import pytest

from edgekit.pipeline.verified_lowering import samples_of
from edgekit.records import TensorSpec


@pytest.mark.parametrize(
    ("shapes", "n"),
    [
        ([(1, 8)], 16),
        ([(1, 224, 224, 3)], 6),
        ([(1, 1024, 1024, 3)], 4),
        ([(1, 300000), (1, 1)], 4),
    ],
)
def test_large_inputs_are_verified_on_fewer(shapes: list[tuple[int, ...]], n: int) -> None:
    inputs = [
        TensorSpec(name=f"x{place}", shape=shape, dtype="float32")
        for place, shape in enumerate(shapes)
    ]
    batch = samples_of(None, inputs)
    assert [values.shape for values in batch.inputs.values()] == [(n, *s[1:]) for s in shapes]

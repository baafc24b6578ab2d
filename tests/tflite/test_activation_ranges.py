from __future__ import annotations

import numpy as np
import pytest

from edgekit.records import Ranges
from edgekit.tflite import read
from edgekit.tflite.ranges import activations, with_all_outputs, with_ranges


def test_every_activation_becomes_an_output(speech: bytes) -> None:
    before, after = read(speech).subgraphs[0], with_all_outputs(read(speech)).subgraphs[0]
    produced = {int(op.outputs[0]) for op in before.operators}
    assert set(after.outputs.tolist()) == produced
    assert after.outputs[0] == before.outputs[0]


@pytest.mark.parametrize(("symmetric", "expected"), [(False, (-1.5, 4.0)), (True, (-4.0, 4.0))])
def test_ranges_land_in_the_quantization(
    speech: bytes, symmetric: bool, expected: tuple[float, float]
) -> None:
    name = "functional/dense/MatMul;functional/dense/BiasAdd"
    ranges = Ranges(method="minmax", low={name: -1.5}, high={name: 4.0}, n=1)
    model = with_ranges(read(speech), ranges, symmetric=symmetric)
    ranged = {
        t.name: (float(t.quantization.min[0]), float(t.quantization.max[0]))
        for t in model.subgraphs[0].tensors
        if t.quantization is not None and t.quantization.min is not None
    }
    assert ranged == {name: expected}


def test_a_dead_activation_gets_a_width(speech: bytes) -> None:
    model = read(speech)
    names = [model.subgraphs[0].tensors[i].name for i in activations(model)]
    zeros = dict.fromkeys(names, 0.0)
    ranges = Ranges(method="minmax", low=zeros, high=zeros, n=1)
    after = with_ranges(model, ranges, symmetric=True)
    for i in activations(after):
        parameters = after.subgraphs[0].tensors[i].quantization
        assert parameters.max[0] > 0
        assert np.isclose(parameters.min[0], -parameters.max[0])

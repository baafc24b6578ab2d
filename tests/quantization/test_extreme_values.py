"""Weights and ranges at the ends of what floats hold: no warning, and files that load."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import samples_with
from test_writer import graph_of, ranges_of

from edgekit.modes import INT8, INT16X8, MODES
from edgekit.quantization import observe
from edgekit.quantization.writer import write_integers
from edgekit.records import Array, Plan, Ranges
from edgekit.tflite import write
from edgekit.tflite.load import check_loads

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(4, 4)).astype(np.float32)
ROW = RNG.normal(size=(1, 4)).astype(np.float32)
SAMPLES = RNG.normal(size=(12, 4)).astype(np.float32)
DENSE = schema.FullyConnectedOptionsT


def times(values: Array, magnitude: float) -> Array:
    return np.multiply(values, magnitude, dtype=np.float64).astype(np.float32)


def dense(weights: float, bias: float) -> ModelT:
    constants = {"w": times(WEIGHTS, weights), "b": times(ROW[0], bias)}
    return graph_of([("FULLY_CONNECTED", ["x", "w", "b"], "y", DENSE())], constants)


def moved(weights: float, bias: float) -> ModelT:
    constants = {"w": times(WEIGHTS, weights), "b": np.ones(4, np.float32)}
    steps = [
        ("FULLY_CONNECTED", ["x", "w", "b"], "h", DENSE()),
        ("ADD", ["h", "far"], "y", schema.AddOptionsT()),
    ]
    return graph_of(steps, {**constants, "far": times(ROW, bias)})


def divided(weights: float, bias: float) -> ModelT:
    divisor = np.array([[1, 2, -3, bias]], np.float32)
    constants = {"w": times(WEIGHTS, weights), "b": np.ones(4, np.float32), "by": divisor}
    steps = [
        ("FULLY_CONNECTED", ["x", "w", "b"], "h", DENSE()),
        ("DIV", ["h", "by"], "y", schema.DivOptionsT()),
    ]
    return graph_of(steps, constants)


def load(model: ModelT, mode: str, ranges: Ranges) -> dict[str, str]:
    """Write a graph in integers, run it, and return what remained float."""
    kind = MODES[mode].io_types[0]
    plan = Plan(variant=mode, mode=mode, input_type=kind, output_type=kind)
    written = write_integers(model, ranges, plan)
    check_loads(write(written.model))
    return dict(written.reasons)


@pytest.mark.parametrize("mode", [INT8.name, INT16X8.name])
@pytest.mark.parametrize(
    ("make", "weights", "bias", "inputs"),
    [
        (dense, 1.0, 3e37, 1.0),  # a bias without codes
        (dense, 1e30, 1.0, 1.0),
        (dense, 1e-45, 3e37, 1.0),
        (dense, 1e-45, 1.0, 1e20),  # products of the least scale of weights are wide
        (dense, 1e-38, 1e-38, 1e-38),
        (moved, 1e-45, 3e37, 1e-38),  # the scale is finite, 2^20 times as much is not
        (moved, 1e30, 1.0, 1e-20),
        (moved, 1e-12, 1e12, 1.0),
        (divided, 1e12, 1e30, 1.0),
        (divided, 1.0, 1e-20, 1.0),  # codes of the divisor are 0
    ],
)
def test_weights_of_any_magnitude_make_files_that_load(
    make: Callable[[float, float], ModelT], mode: str, weights: float, bias: float, inputs: float
) -> None:
    # Given a layer whose weights, bias and inputs are of some magnitude, all of them finite
    model = make(weights, bias)
    ranges = observe(model, samples_with(times(SAMPLES, inputs))).ranges()
    # When it is written in integers, where warnings are errors, then the file loads.
    load(model, mode, ranges)


@pytest.mark.parametrize("mode", [INT8.name, INT16X8.name])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ADD", schema.AddOptionsT()),
        ("SUB", schema.SubOptionsT()),
        ("SQUARED_DIFFERENCE", schema.SquaredDifferenceOptionsT()),
    ],
)
def test_a_sum_far_narrower_than_its_terms_is_float(name: str, options: object, mode: str) -> None:
    # Given a sum that hardly anything is left of; kernels end the process that loads it in codes
    model = graph_of([("RELU", ["x"], "h", None), (name, ["x", "h"], "y", options)], {})
    ranges = ranges_of(model, -1e3, 1e3)
    narrow = Ranges(
        method="minmax",
        low={**ranges.low, "y": 0.0},
        high={**ranges.high, "y": 1e-5},
        n=1,
    )
    # When it is written in integers, then it stays float, and the file loads.
    wide = load(model, mode, ranges)
    found = load(model, mode, narrow)
    assert not wide
    assert any("too narrow for what it is computed of" in why for why in found.values())


def test_a_divisor_that_would_be_zero_is_left_float() -> None:
    model = divided(1.0, 1e-3)
    ranges = observe(model, samples_with(SAMPLES)).ranges()
    assert "rounded to 0" in load(model, INT8.name, ranges)["y"]
    model = divided(1.0, 2.0)
    assert not load(model, INT8.name, observe(model, samples_with(SAMPLES)).ranges())

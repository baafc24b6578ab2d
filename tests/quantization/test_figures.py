"""Outputs that are figures without bounds: their layer in float, and ranges for long tails."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from float_nets import RELU, Net, samples_with

from edgekit.quantization import Calibration, QuantizedModel, make, recorded_choice
from edgekit.quantization.figures import extended, figure_layers
from edgekit.quantization.float_graph import FloatGraph
from edgekit.quantization.output_noise import limits_of, pooled
from edgekit.recipe import default_plan
from edgekit.records import Array, Plan, Ranges, Samples
from edgekit.tflite import signature, write

INT8 = default_plan("int8")
FEATURES = 6


def tails(n: int, spread: float = 1.0) -> Array:
    """Features of which some samples lie far beyond the others; others for each number."""
    return np.random.default_rng(n).lognormal(0, spread, (n, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def regression() -> FloatGraph:
    """Dense layers that compute one figure."""
    net = Net(1, FEATURES)
    hidden = net.dense(net.dense("x", 32, act=RELU), 32, act=RELU)
    model = net.done(net.dense(hidden, 1))
    return FloatGraph(write(model), model)


def made(
    plan: Plan, graph: FloatGraph, samples: Samples, *, scores: str | None = None
) -> QuantizedModel:
    calibration = Calibration(samples, class_scores=scores)
    return make(plan, graph, observe=calibration.observe, calibration=calibration)


def outputs(data: bytes, x: Array) -> Array:
    """Real outputs `[n, k]`, from real inputs."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in x:
        scale, zero = given["quantization"]
        codes = np.clip(np.rint(row[None] / scale) + zero, -128, 127) if scale else row[None]
        interpreter.set_tensor(given["index"], codes.astype(given["dtype"]))
        interpreter.invoke()
        values = interpreter.get_tensor(output["index"]).astype(np.float32)
        scale, zero = output["quantization"]
        found.append((values - zero) * scale if scale else values)
    return np.concatenate(found)


def noise_of(data: bytes, graph: FloatGraph, x: Array) -> float:
    exact = outputs(graph.data, x)
    return float(np.sqrt(np.mean((outputs(data, x) - exact) ** 2) / exact.var()))


def test_what_lies_beyond_the_calibration_samples_is_told(regression: FloatGraph) -> None:
    # Given features with long tails, of which 200 samples do not show the ends
    samples, test = samples_with(tails(200)), tails(1500)
    # When int8 is made as by default, and with the extremes of the samples
    found = made(INT8, regression, samples)
    extremes = made(replace(INT8, ranges="minmax"), regression, samples)
    # Then the layer of the figure is float, ranges reach further, and far less is lost.
    assert found.choice is not None
    assert found.choice.floats
    assert found.choice.margin > 0
    assert found.plan.output_type == "float32"
    assert any("its output is float32" in note for note in found.notes)
    assert [one["operator"] for one in found.left_in_float] == ["FULLY_CONNECTED"]
    assert noise_of(found.data, regression, test) < 0.5 * noise_of(extremes.data, regression, test)


def test_an_output_that_was_asked_for_in_codes_has_codes(regression: FloatGraph) -> None:
    samples, test = samples_with(tails(200)), tails(1500)
    plan = default_plan("int8", io="int8")
    found = made(plan, regression, samples)
    extremes = made(replace(plan, ranges="minmax"), regression, samples)
    assert {spec.dtype for end in signature(found.model) for spec in end} == {"int8"}
    assert found.left_in_float == ()
    # Its range reaches further all the same.
    assert noise_of(found.data, regression, test) < noise_of(extremes.data, regression, test)


def test_a_file_is_made_again_from_its_plan(regression: FloatGraph) -> None:
    samples = samples_with(tails(200))
    found = made(INT8, regression, samples)
    assert found.plan.free_ends == ()
    assert made(found.plan, regression, samples).data == found.data
    # And so it is from what its manifest records, without a search.
    assert found.choice is not None
    recorded = recorded_choice(json.loads(json.dumps(found.choice.described())))
    assert recorded is not None
    assert (recorded.margin, recorded.float_figures) == (found.choice.margin, True)
    again = Calibration(samples, recorded=recorded)
    repeated = make(found.plan, regression, observe=again.observe, calibration=again)
    assert repeated.data == found.data
    assert recorded_choice({**found.choice.described(), "margin": -1.0}) is None


def test_scores_of_classes_are_no_figures(regression: FloatGraph) -> None:
    (output,) = signature(regression.model)[1]
    assert figure_layers(regression.model)
    assert figure_layers(regression.model, output.name) == frozenset()
    found = made(INT8, regression, samples_with(tails(200)), scores=output.name)
    assert found.choice is not None
    assert (found.choice.floats, found.choice.margin) == (frozenset(), 0.0)


def test_which_layers_compute_figures() -> None:
    def layers(last: str, *, hidden: int = 64) -> frozenset[str]:
        net = Net(1, 64)
        inner = net.dense("x", hidden, act=RELU)
        made = {
            "dense": lambda: net.dense(inner, 2),
            "scaled": lambda: net.scale(net.dense(inner, 2)),
            "softmax": lambda: net.softmax(net.dense(inner, 2)),
            "bounded": lambda: net.dense(inner, 2, act=RELU),
            "wide": lambda: net.dense(inner, 48),
            "most of the work": lambda: net.dense("x", 8),
        }
        return figure_layers(net.done(made[last]()))

    assert len(layers("dense")) == 1
    assert len(layers("scaled")) == 2
    for other in ("softmax", "bounded", "wide", "most of the work"):
        assert layers(other) == frozenset(), other


def test_ranges_reach_further_at_ends_that_are_not_zero() -> None:
    ranges = Ranges(
        method="minmax", low={"a": -1, "b": 0, "c": 2}, high={"a": 1, "b": 4, "c": 4}, n=9
    )
    wider = extended(ranges, 0.5)
    assert wider.low == {"a": -2, "b": 0, "c": 1}
    assert wider.high == {"a": 2, "b": 6, "c": 5}
    assert extended(ranges, 0.0) == ranges


def test_the_ends_of_a_range_are_no_limit_of_its_codes(regression: FloatGraph) -> None:
    # Given a file whose output ends at half of what comes
    samples = samples_with(tails(60, 0.1))
    file = made(default_plan("int8", io="int8", ranges="minmax"), regression, samples)
    (output,) = signature(file.model)[1]
    values = outputs(regression.data, tails(200, 0.1))
    # Then its step is what its codes allow, for values within and for values far beyond.
    (near,) = limits_of({output.name: values}, file.model).values()
    (far,) = limits_of({output.name: 4 * values}, file.model).values()
    assert near > 20
    assert far > near + 6


def test_the_noise_of_both_halves_counts() -> None:
    assert pooled({"y": 20.0}, {"y": 20.0}) == pytest.approx(20.0)
    # Nearly all noise is that of the second half, and is that of half of the samples.
    assert pooled({"y": 60.0}, {"y": 20.0}) == pytest.approx(23.0, abs=0.02)

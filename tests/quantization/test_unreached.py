"""Ranges that tell nothing, and layers whose codes no kernel could rescale to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import NONE, RELU, RELU6, Net, outputs_on, samples_with
from test_writer import add, concatenation, graph_of

from edgekit.errors import ConversionError
from edgekit.modes import INT8, INT16X8
from edgekit.quantization import make, observe, read_float_graph
from edgekit.quantization.writer import write_integers
from edgekit.records import Array, Plan, Ranges
from edgekit.tflite import write

VALUES = np.random.default_rng(2).normal(0, 1, (32, 4)).astype(np.float32)
PICTURES = np.random.default_rng(0).normal(0, 1, (8, 4, 4, 2)).astype(np.float32)
WIDTHS = (INT8.name, INT16X8.name)


def plan_of(mode: str) -> Plan:
    return Plan(variant=mode, mode=mode, input_type="float32", output_type="float32")


def branch() -> ModelT:
    """x, and what of it is above 1,000, doubled and added."""
    constants = {"far": np.array([-1000], np.float32), "two": np.array([2], np.float32)}
    steps = [
        ("ADD", ["x", "far"], "beyond", add()),
        ("RELU", ["beyond"], "rare", None),
        ("MUL", ["rare", "two"], "double", schema.MulOptionsT()),
        ("ADD", ["x", "double"], "y", add()),
    ]
    return graph_of(steps, constants)


@pytest.mark.parametrize("mode", WIDTHS)
def test_a_branch_that_no_sample_reached_is_float(mode: str) -> None:
    # Given a branch that is 0 in every calibration sample
    model = branch()
    ranges = observe(model, samples_with(VALUES)).ranges()
    # When the graph is written in integers
    written = write_integers(model, ranges, plan_of(mode))
    # Then what computes and reads the branch is float, and says why,
    told = "no sample reached rare: it was always 0"
    assert [written.reasons[name] for name in ("rare", "double", "y")] == [
        told,
        told,
        "no sample reached double: it was always 0",
    ]
    # as the manifest will.
    assert written.unreached == (told, "no sample reached double: it was always 0")


def test_it_is_said_in_the_report() -> None:
    net = Net(1, 4)
    hidden = net.dense("x", 8)
    rare = net.relu(net.scale(hidden, np.zeros(8, np.float32) - np.float32(1e-9)))
    model = net.done(net.dense(net.add(hidden, rare), 3))
    samples = samples_with(np.abs(VALUES))
    graph = read_float_graph(write(model))
    made = make(plan_of("int8"), graph, observe=lambda each: observe(each, samples))
    (note,) = made.notes
    assert "was never beyond" in note
    assert note.endswith("stays float: give calibration samples that reach it.")


@pytest.mark.parametrize("mode", WIDTHS)
def test_one_that_shares_the_scale_of_others_is_not(mode: str) -> None:
    # Given a branch that no sample reached, joined with another to an output in integers
    steps = [
        ("ADD", ["x", "far"], "beyond", add()),
        ("RELU", ["beyond"], "rare", None),
        ("CONCATENATION", ["x", "rare"], "y", concatenation()),
    ]
    model = graph_of(steps, {"far": np.array([-9], np.float32)})
    next(t for t in model.subgraphs[0].tensors if t.name == "y").shape = np.array([1, 8], np.int32)
    plan = replace(plan_of(mode), output_type=mode.removesuffix("x8"))
    written = write_integers(model, observe(model, samples_with(VALUES)).ranges(), plan)
    # Then it is in integers, whose codes reach as far as those of x.
    assert not written.reasons


def test_what_is_zero_for_any_input_is_not() -> None:
    # Given products with zeros, as in the first step of a recurrence
    zero = {"zero": np.zeros(4, np.float32)}
    steps = [
        ("MUL", ["x", "zero"], "nothing", schema.MulOptionsT()),
        ("TANH", ["nothing"], "nor this", None),
        ("ADD", ["x", "nothing"], "sum", add()),
        ("ADD", ["sum", "nor this"], "y", add()),
    ]
    model = graph_of(steps, zero)
    written = write_integers(model, observe(model, samples_with(VALUES)).ranges(), plan_of("int8"))
    assert not written.reasons


def test_samples_of_zeros_make_no_file() -> None:
    model = branch()
    samples = samples_with(np.zeros((4, 4), np.float32))
    graph = read_float_graph(write(model))
    with pytest.raises(ConversionError) as caught:
        make(
            Plan(variant="int8", mode="int8", input_type="int8", output_type="int8"),
            graph,
            observe=lambda each: observe(each, samples),
        )
    assert caught.value.found == "no sample reached x: it was always 0"


def convolution(bias: float, act: int, *, zero: bool = True) -> ModelT:
    """Three channels; the second has a bias of its own, and no weights."""
    net = Net(1, 4, 4, 2)
    weights = net.rng.normal(0, 0.3, (3, 3, 3, 2)).astype(np.float32)
    weights[1] *= 0 if zero else 1
    net.rng = _Biases(bias)  # type: ignore[assignment]  # draws nothing but a bias
    return net.done(net.conv("x", 3, act=act, weights=weights))


class _Biases:
    def __init__(self, bias: float) -> None:
        self.bias = bias

    def normal(self, low: float, high: float, n: int) -> Array:
        del low, high
        return np.array([0.1, self.bias, -0.2], np.float32)[:n]


@pytest.mark.parametrize("mode", WIDTHS)
@pytest.mark.parametrize("act", [NONE, RELU, RELU6])
@pytest.mark.parametrize("bias", [5, 500, -50, 1e6, -1e6, 1e25, -1e25])
def test_a_bias_beyond_what_kernels_hold(mode: str, act: int, bias: float) -> None:
    # Given a channel whose bias is beyond 32 bits in the scale of its products, or 64 bits
    for zero in (True, False):
        model = convolution(bias, act, zero=zero)
        samples = samples_with(PICTURES)
        ranges = observe(model, samples).ranges()
        # When it is written in integers, then it computes what the float graph computes.
        made = write_integers(model, ranges, plan_of(mode)).model
        expected, found = (outputs_on(write(each), samples) for each in (model, made))
        assert np.abs(found - expected).max() <= 0.01 * np.abs(expected).max()


def test_a_pruned_channel_keeps_its_bias_in_16_bits() -> None:
    # Given small inputs, and a channel of zeros with a bias
    model = convolution(2.0, NONE)
    samples = samples_with(PICTURES * np.float32(0.01))
    ranges = observe(model, samples).ranges()
    made = write_integers(model, ranges, plan_of("int16x8")).model
    assert outputs_on(write(made), samples)[..., 1] == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("mode", WIDTHS)
def test_a_layer_too_narrow_for_its_products_is_float(mode: str) -> None:
    # Given a layer of which hardly anything passes the ReLU
    model = convolution(0.3, RELU, zero=False)
    samples = samples_with(PICTURES)
    seen = observe(model, samples).ranges()
    output = next(iter(set(seen.high) - {"x"}))
    narrow: Ranges = replace(seen, high={**seen.high, output: 2e-6})
    # When its range is narrower than two steps of its products
    plan = replace(plan_of(mode), output_type=mode.removesuffix("x8"))
    written = write_integers(model, narrow, plan)
    # Then it is float, and the file loads.
    assert written.reasons[output] == f"{output} is too narrow for the products that it adds up"
    assert outputs_on(write(written.model), samples).shape == (8, 4, 4, 3)

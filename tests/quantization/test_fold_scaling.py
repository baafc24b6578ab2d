"""Scaling at a graph's input, folded into the layers that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import SAME, VALID, Net, samples_with

from edgekit.quantization import Observed, make, observe
from edgekit.quantization.float_graph import FloatGraph
from edgekit.quantization.passes import cleaned
from edgekit.quantization.trials import Trials
from edgekit.quantization.writer import write_integers
from edgekit.recipe import default_plan
from edgekit.records import Array, Rule
from edgekit.tflite import input_scaling, signature, write
from edgekit.tflite.graph import operator_name
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes
from edgekit.tflite.signature import with_signature

INT8 = default_plan("int8")
PIXELS = np.random.default_rng(5).integers(0, 256, (24, 6, 6, 3)).astype(np.float32)
PIXELS[0, 0, 0], PIXELS[0, 0, 1] = 0, 255
MEANS = np.array([124, 117, 104], np.float32)
DEVIATIONS = np.array([58, 57, 61], np.float32)
OPTIONS = {
    "ADD": schema.AddOptionsT,
    "DIV": schema.DivOptionsT,
    "MUL": schema.MulOptionsT,
    "SUB": schema.SubOptionsT,
}
Build = Callable[[Net], str]


def step(
    net: Net, kind: str, x: str, values: object, *, name: str = "", first: bool = False
) -> str:
    """An operator of an activation and a constant, which may come first."""
    given = [x, net._constant(np.asarray(values, np.float32))]
    return net._add(kind, given[::-1] if first else given, net._shape(x), OPTIONS[kind](), name)


def to_ones(net: Net, x: str = "x") -> str:
    """Pixels from -1 to 1, as `Rescaling(1 / 127.5, -1)` has them."""
    scaled = step(net, "MUL", x, 1 / 127.5, name=f"m/rescaling/mul;{x}")
    return step(net, "ADD", scaled, -1, name=f"m/rescaling/add;{x}")


def standardized(net: Net, deviations: Array = DEVIATIONS) -> str:
    return step(net, "DIV", step(net, "SUB", "x", MEANS), deviations)


def resized(net: Net, x: str) -> str:
    options = schema.ResizeNearestNeighborOptionsT()
    given = [x, net._constant(np.array([12, 12], np.int32))]
    return net._add("RESIZE_NEAREST_NEIGHBOR", given, (1, 12, 12, 3), options)


FOLDED: dict[str, tuple[Build, list[str]]] = {
    "x / 255, padded": (lambda net: net.conv(step(net, "DIV", "x", 255), 4), ["CONV_2D"]),
    "to -1..1": (lambda net: net.conv(to_ones(net), 4, padding=VALID), ["CONV_2D"]),
    "to -1..1, padded": (lambda net: net.conv(to_ones(net), 4), ["ADD", "CONV_2D"]),
    "differences, padded": (
        lambda net: net.conv(step(net, "DIV", step(net, "SUB", "x", 128), 64), 4),
        ["SUB", "CONV_2D"],
    ),
    "inverted": (
        lambda net: net.conv(
            step(net, "SUB", step(net, "DIV", "x", 255), 1, first=True), 4, padding=VALID
        ),
        ["CONV_2D"],
    ),
    "by channel": (lambda net: net.conv(standardized(net), 4, padding=VALID), ["CONV_2D"]),
    "by channel, padded": (lambda net: net.conv(standardized(net), 4), ["SUB", "CONV_2D"]),
    "depthwise": (lambda net: net.depthwise(to_ones(net), padding=VALID), ["DEPTHWISE_CONV_2D"]),
    "dense": (lambda net: net.dense(net.flat(to_ones(net)), 5), ["RESHAPE", "FULLY_CONNECTED"]),
    "resized before and after": (
        lambda net: net.conv(resized(net, to_ones(net, resized(net, "x"))), 4, k=1),
        ["RESIZE_NEAREST_NEIGHBOR", "RESIZE_NEAREST_NEIGHBOR", "CONV_2D"],
    ),
    "two branches": (
        lambda net: net.add(
            net.conv(to_ones(net), 4, padding=VALID),
            net.conv(step(net, "MUL", "x", 1 / 255), 4, padding=VALID),
        ),
        ["CONV_2D", "CONV_2D", "ADD"],
    ),
}
KEPT: dict[str, Build] = {
    "uneven channels": lambda net: net.conv(
        standardized(net, np.array([20, 57, 61], np.float32)), 4, padding=VALID
    ),
    "no layer behind": lambda net: net.relu(to_ones(net)),
    "an output": to_ones,
    "one operator, padded": lambda net: net.conv(step(net, "ADD", "x", -128), 4, padding=SAME),
    "zero": lambda net: net.conv(step(net, "MUL", "x", [0, 1, 1]), 4),
}


def built(build: Build) -> ModelT:
    net = Net(1, 6, 6, 3)
    return net.done(build(net))


def seen(model: ModelT, x: Array = PIXELS) -> Observed:
    return observe(model, samples_with(x))


def outputs(data: bytes, x: Array = PIXELS) -> Array:
    """Outputs in real units, of inputs in real units."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    given, told = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for row in x:
        (scale, zero), values = given["quantization"], row[None]
        if scale:
            ends = np.iinfo(given["dtype"])
            values = np.clip(np.rint(values / scale) + zero, ends.min, ends.max)
        interpreter.set_tensor(given["index"], values.astype(given["dtype"]))
        interpreter.invoke()
        scale, zero = told["quantization"]
        codes = interpreter.get_tensor(told["index"])[0].astype(np.float32)
        found.append((codes - zero) * scale if scale else codes)
    return np.array(found)


def kinds(model: ModelT) -> list[str]:
    return [operator_name(model, op) for op in model.subgraphs[0].operators]


@pytest.mark.parametrize("name", FOLDED)
def test_scaling_is_folded_exactly(name: str) -> None:
    # Given a graph that scales pixels itself
    build, expected = FOLDED[name]
    model = built(build)
    # When it is cleaned for a file in integers
    changed, ranges = cleaned(model, seen(model).ranges(), INT8)
    # Then its layers do so, it computes the same, and the ranges of what is new are known.
    assert kinds(changed) == expected
    before, after = outputs(write(model)), outputs(write(changed))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())
    observed = seen(changed)
    for tensor, low in observed.low.items():
        assert ranges.low[tensor] == pytest.approx(low, rel=1e-5, abs=1e-4)
        assert ranges.high[tensor] == pytest.approx(observed.high[tensor], rel=1e-5, abs=1e-4)
    # What was folded is not folded again.
    assert cleaned(changed, ranges, INT8) == (changed, ranges)


@pytest.mark.parametrize("name", KEPT)
def test_what_would_lose_or_gain_nothing_is_kept(name: str) -> None:
    model = built(KEPT[name])
    ranges = seen(model).ranges()
    assert cleaned(model, ranges, INT8) == (model, ranges)


def test_values_far_from_zero_are_moved_there_in_float() -> None:
    # Given a sensor's values from 10,000 on, whose codes would be 40 apart
    net = Net(1, 6, 6, 3)
    model = net.done(net.conv(step(net, "MUL", step(net, "SUB", "x", 1e4), 0.1), 4, padding=VALID))
    ranges = seen(model, PIXELS + 1e4).ranges()
    # Then nothing is folded, and they are moved before they get codes.
    assert cleaned(model, ranges, INT8) == (model, ranges)
    file = make(INT8, signed(model), observe=lambda model: seen(model, PIXELS + 1e4))
    assert [entry["operator"] for entry in file.left_in_float] == ["SUB", "MUL"]


def test_weights_on_a_grid_get_one_factor_at_most() -> None:
    # Given trained ranges: weights are those of codes, which factors by channel would leave
    by_channel, whole = built(FOLDED["by channel"][0]), built(FOLDED["to -1..1"][0])
    for model, folds in ((by_channel, False), (whole, True)):
        trained = replace(seen(model).ranges(), method="trained", n=0)
        assert (cleaned(model, trained, INT8)[0] is not model) == folds


def test_a_layer_with_a_rule_is_left_alone() -> None:
    model = built(FOLDED["to -1..1"][0])
    ranges = seen(model).ranges()
    for layers in ("rescaling", "conv_2d"):
        plan = replace(INT8, rules=(Rule(layers=layers, mode="float32"),))
        assert cleaned(model, ranges, plan)[0] is model


def test_what_is_left_of_a_sum_is_no_layer_of_the_float_graph() -> None:
    model = built(FOLDED["to -1..1, padded"][0])
    changed, _ = cleaned(model, seen(model).ranges(), INT8)
    assert not set(name_layers(nodes(changed))[:1]) & set(name_layers(nodes(model)))


@pytest.mark.parametrize("name", [name for name in FOLDED if name != "inverted"])
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_files_take_the_same_pixels(name: str, io: str) -> None:
    # Given a graph that scales pixels, and the same pixels for a graph that is given them scaled
    model = built(FOLDED[name][0])
    plan = replace(INT8, input_type=io, output_type="float32")
    file = make(plan, signed(model), observe=seen)
    # Then the file takes pixels still, whose codes are the pixels themselves.
    (given,), _ = signature(file.model)
    assert given.dtype == io
    if io != "float32":
        assert given.scale == pytest.approx(1, rel=1e-6)
        assert given.zero_point == (0 if io == "uint8" else -128)
    assert file.left_in_float == ()
    # Which it still tells, whatever the type.
    told = input_scaling(file.model)
    assert told is not None
    assert told.limits == pytest.approx((0, 255), abs=1e-3)
    assert told.scale == (1,)


def test_files_are_nearer_to_float_than_with_the_scaling_in_integers() -> None:
    gained = []
    for build, _ in FOLDED.values():
        model = built(build)
        exact = outputs(write(model))
        kept = write_integers(model, seen(model).ranges(), INT8).model
        file = make(INT8, signed(model), observe=seen)
        noise, before = (np.square(outputs(d) - exact).mean() for d in (file.data, write(kept)))
        gained.append(10 * np.log10(before / noise))
    # In single graphs, chance decides how weights are rounded.
    assert min(gained) > -1
    assert np.mean(gained) > 0.5


def signed(model: ModelT) -> FloatGraph:
    ends = ({"x": "x"}, {"y": model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].name})
    named = with_signature(model, *ends)
    return FloatGraph(write(named), named)


def test_trials_know_the_operators_of_the_file() -> None:
    model = built(FOLDED["to -1..1, padded"][0])
    trials = Trials.of(INT8, signed(model), seen)
    assert [unit.operator for unit in trials.units] == ["ADD", "CONV_2D"]
    assert outputs(trials.floating()) == pytest.approx(outputs(write(model)), abs=1e-4)
    file = make(INT8, signed(model), observe=seen)
    np.testing.assert_array_equal(outputs(trials.with_modes((), "int8")), outputs(file.data))


def test_trials_of_weights_alone_leave_out_operators_without_weights() -> None:
    model = built(FOLDED["to -1..1, padded"][0])
    trials = Trials.of(default_plan("dynamic"), signed(model), seen)
    assert [unit.operator for unit in trials.units] == ["CONV_2D"]

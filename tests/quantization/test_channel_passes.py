"""Folding of normalizations and equalization: exact in float, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import RELU, RELU6, VALID, Net, noise, outlier_net

from edgekit.quantization import make, observe, read_float_graph
from edgekit.quantization.observe import NOTHING, observe_channels
from edgekit.quantization.passes.equalize import equalizable, equalize
from edgekit.quantization.passes.fold_normalization import fold_normalization
from edgekit.records import Array, Plan, Rule
from edgekit.tflite import operator_name, write
from edgekit.tflite.graph import constant

INT8 = Plan(variant="int8", mode="int8", input_type="float32", output_type="float32")


def names(model: ModelT) -> list[str]:
    return [operator_name(model, op) for op in model.subgraphs[0].operators]


def outputs(model: ModelT | bytes, shape: tuple[int, ...], n: int = 4) -> Array:
    """First output for seeded noise."""
    data = model if isinstance(model, bytes) else write(model)
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    found = []
    for values in np.random.default_rng(7).normal(0, 1, (n, *shape)).astype(np.float32):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(found)


def assert_same(before: ModelT, after: ModelT) -> None:
    shape = tuple(before.subgraphs[0].tensors[before.subgraphs[0].inputs[0]].shape[1:])
    expected, found = outputs(before, shape), outputs(after, shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def positive(n: int) -> Array:
    return np.linspace(0.5, 3, n, dtype=np.float32)


def before_layer(net: Net) -> str:
    """Normalization between a pool, which nothing is folded into, and a layer."""
    return net.conv(net.scale(net.pool(net.relu("x"))), 3)


def after_relu(net: Net, padding: int = VALID) -> str:
    return net.conv(net.shift(net.scale(net.conv("x", 6, act=RELU))), 3, padding=padding)


FOLDED: dict[str, tuple[Callable[[Net], str], list[str]]] = {
    "after a convolution": (
        lambda net: net.relu(net.shift(net.scale(net.conv("x", 6)))),
        ["CONV_2D", "RELU"],
    ),
    "after a depthwise convolution": (
        lambda net: net.relu(net.shift(net.scale(net.depthwise("x")))),
        ["DEPTHWISE_CONV_2D", "RELU"],
    ),
    "after a dense layer, with its ReLU": (
        lambda net: net.relu(net.shift(net.scale(net.dense(net.mean("x"), 5)), act=RELU)),
        ["MEAN", "FULLY_CONNECTED", "RELU"],
    ),
    "after a ReLU": (after_relu, ["CONV_2D", "CONV_2D"]),
    "after a ReLU and before padding": (
        lambda net: after_relu(net, padding=0),
        ["CONV_2D", "ADD", "CONV_2D"],
    ),
    "after a ReLU of its own": (
        lambda net: net.dense(net.mean(net.shift(net.scale(net.relu(net.conv("x", 6))))), 2),
        ["CONV_2D", "RELU", "MEAN", "FULLY_CONNECTED"],
    ),
    "negative factors before a maximum": (
        lambda net: net.conv(net.pool(net.scale(net.conv("x", 6, act=RELU))), 3),
        ["CONV_2D", "MUL", "MAX_POOL_2D", "CONV_2D"],
    ),
    "positive factors before a maximum": (
        lambda net: net.conv(net.pool(net.scale(net.conv("x", 6, act=RELU), positive(6))), 3),
        ["CONV_2D", "MAX_POOL_2D", "CONV_2D"],
    ),
    "after ReLU6": (
        lambda net: net.relu(net.scale(net.conv("x", 6, act=RELU6))),
        ["CONV_2D", "MUL", "RELU"],
    ),
    "before a layer": (before_layer, ["RELU", "MAX_POOL_2D", "CONV_2D"]),
    "before a depthwise layer": (
        lambda net: net.depthwise(net.scale(net.pool(net.relu("x")))),
        ["RELU", "MAX_POOL_2D", "DEPTHWISE_CONV_2D"],
    ),
    "before a flat dense layer": (
        lambda net: net.dense(net.flat(net.shift(net.scale(net.pool(net.relu("x"))))), 3),
        ["RELU", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"],
    ),
    "of the input": (lambda net: net.conv(net.scale("x"), 3), ["MUL", "CONV_2D"]),
    "of the output": (lambda net: net.scale(net.conv("x", 3)), ["CONV_2D", "MUL"]),
}


@pytest.mark.parametrize("case", FOLDED)
def test_a_normalization_is_folded_where_outputs_do_not_change(case: str) -> None:
    build, expected = FOLDED[case]
    net = Net(1, 8, 8, 4)
    model = net.done(build(net))
    folded = fold_normalization(model, NOTHING, INT8)
    assert names(folded) == expected
    assert_same(model, folded)


def test_what_a_second_reader_sees_is_not_folded() -> None:
    net = Net(1, 8, 8, 4)
    shared = net.conv("x", 4, act=RELU)
    model = net.done(net.add(shared, net.scale(shared)))
    assert fold_normalization(model, NOTHING, INT8) is model


def test_a_rule_keeps_a_normalization() -> None:
    net = Net(1, 8, 8, 4)
    hidden = net.scale(net.conv("x", 6, act=RELU), name="normal/mul")
    model = net.done(net.conv(hidden, 3))
    ruled = Plan(variant="v", mode="int8", rules=(Rule(layers="normal", mode="float32"),))
    assert fold_normalization(model, NOTHING, ruled) is model
    assert names(fold_normalization(model, NOTHING, INT8)) == ["CONV_2D", "CONV_2D"]


EQUALIZED: dict[str, tuple[Callable[[Net], str], int]] = {
    "convolutions": (lambda net: net.conv(net.conv("x", 6, act=RELU), 3), 1),
    "depthwise": (lambda net: net.conv(net.depthwise(net.conv("x", 6, act=RELU)), 3), 2),
    "dense": (lambda net: net.dense(net.dense(net.mean("x"), 9, act=RELU), 3), 1),
    "through pools and a mean": (
        lambda net: net.dense(net.mean(net.pool(net.relu(net.conv("x", 6)))), 3),
        1,
    ),
    "through a flat layer": (
        lambda net: net.dense(net.flat(net.pool(net.conv("x", 6, act=RELU))), 3),
        1,
    ),
    "through a normalization": (
        lambda net: net.conv(net.shift(net.scale(net.conv("x", 6, act=RELU))), 3),
        1,
    ),
    "to two readers": (
        lambda net: net.add(net.conv(net.conv("x", 6, name="h"), 3), net.conv("h", 3)),
        1,
    ),
    "not through ReLU6": (lambda net: net.conv(net.conv("x", 6, act=RELU6), 3), 0),
    "not through an addition": (
        lambda net: net.conv(net.add(net.conv("x", 6), net.conv("x", 6)), 3),
        0,
    ),
}


@pytest.mark.parametrize("observing", [False, True], ids=["weights", "activations"])
@pytest.mark.parametrize("case", EQUALIZED)
def test_equalized_channels_compute_the_same(case: str, observing: bool) -> None:
    build, groups = EQUALIZED[case]
    net = Net(1, 8, 8, 4)
    model = net.done(build(net))
    tensors = equalizable(model, INT8)
    assert len(tensors) == groups
    seen = observe_channels(model, noise(3, 8, 8, 4), tensors) if observing else NOTHING
    equalized = equalize(model, seen, INT8)
    assert (equalized is not model) == bool(groups)
    assert_same(model, equalized)


def test_an_output_of_the_graph_is_not_rescaled() -> None:
    net = Net(1, 8, 8, 4)
    hidden = net.conv("x", 6)
    model = net.done(net.conv(hidden, 3), hidden)
    assert equalizable(model, INT8) == ()


def test_weights_of_few_values_keep_them() -> None:
    # Given a layer whose weights were clustered to four values
    net = Net(1, 8, 8, 4)
    clustered = net.rng.choice([-0.5, -0.1, 0.2, 0.4], (8, 3, 3, 16)).astype(np.float32)
    model = net.done(net.conv(net.conv("x", 16, act=RELU), 8, weights=clustered))
    # When channels are equalized, then it does not get more of them.
    assert equalize(model, NOTHING, INT8) is model


def test_a_wide_channel_no_longer_takes_the_codes_of_the_others() -> None:
    # Given a normalization after ReLU with one channel that is 200 times wider
    model = outlier_net()
    samples = noise(40, 8, 8, 1)
    folded = fold_normalization(model, NOTHING, INT8)
    assert names(folded) == [
        *("CONV_2D", "ADD", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"),
    ]
    seen = observe_channels(folded, samples, equalizable(folded, INT8))
    equalized = equalize(folded, seen, INT8)
    assert_same(model, equalized)
    expected = outputs(model, (8, 8, 1))
    errors = []
    for graph in (model, equalized):
        known = observe(graph, samples)
        made = make(INT8, read_float_graph(write(graph)), observe=lambda _, known=known: known)
        errors.append(np.square(outputs(made.data, (8, 8, 1)) - expected).mean())
    # Then int8 has a fraction of the noise, in a smaller file.
    assert errors[1] < errors[0] / 20
    assert len(write(equalized)) < len(write(model))


def test_the_weights_of_others_do_not_change() -> None:
    # Given two layers that share their weights
    net = Net(1, 8, 8, 6)
    hidden = net.conv("x", 6, name="a")
    first = net.graph.operators[-1]
    hidden = net.conv(hidden, 6, name="b")
    net.graph.operators[-1].inputs[1:] = first.inputs[1:]
    model = net.done(net.conv(net.scale(hidden, name="s"), 3))
    # When a normalization follows one of them
    folded = fold_normalization(model, NOTHING, INT8)
    # Then it goes into the next layer, and theirs remain one.
    assert names(folded) == ["CONV_2D"] * 3
    assert_same(model, folded)
    graph = folded.subgraphs[0]
    shared = {int(op.inputs[1]) for op in graph.operators[:2]}
    assert len(shared) == 1
    before = constant(model, model.subgraphs[0].tensors[first.inputs[1]])
    np.testing.assert_array_equal(constant(folded, graph.tensors[shared.pop()]), before)

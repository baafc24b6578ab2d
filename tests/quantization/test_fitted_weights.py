"""Rounding of weights by their layers' outputs, and correction of biases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import RELU, SAME, VALID, Net, noise, outputs_on, samples_with

from edgekit.errors import ConversionError, UsageError
from edgekit.isolate import isolated
from edgekit.numerics import dequantize, grid_scales, octav_scales, quantize_balanced
from edgekit.quantization import Calibration, learned, make, passes_named, read_float_graph
from edgekit.quantization.observe import observe
from edgekit.quantization.one_thread import blas_threads, on_one_thread
from edgekit.quantization.passes import round_weights as rounding
from edgekit.quantization.passes import side_by_side
from edgekit.quantization.passes.correct_biases import correct_biases
from edgekit.quantization.passes.grids import grids
from edgekit.quantization.passes.layers import ChannelGraph
from edgekit.quantization.passes.patches import patches, response
from edgekit.quantization.passes.round_weights import round_weights
from edgekit.records import Array, Plan, Ranges, Rule, Samples
from edgekit.tflite import write
from edgekit.tflite.graph import clone
from edgekit.tflite.ranges import with_all_outputs

BOTH = ("round_weights", "correct_biases")
INT4 = Plan(variant="int4", mode="int4")
INT8 = Plan(variant="int8", mode="int8", input_type="float32", output_type="float32")
W4A8 = Plan(
    variant="v",
    mode="int8",
    input_type="float32",
    output_type="float32",
    rules=(Rule(layers=".", mode="int4"),),
)


def small_net(seed: int = 0) -> ModelT:
    """Convolutions, one of them depthwise, and a dense layer; all but one take four bits."""
    net = Net(1, 6, 6, 3, seed=seed)
    hidden = net.conv("x", 48, act=RELU, name="first")
    hidden = net.depthwise(hidden, act=RELU, name="each")
    hidden = net.conv(hidden, 32, k=1, act=RELU, name="second")
    hidden = net.conv(hidden, 16, act=RELU, padding=VALID, name="third")
    return net.done(net.dense(net.flat(net.pool(hidden)), 32))


def correlated(n: int, *shape: int, seed: int = 1) -> Samples:
    """Pictures whose neighbouring values go together, as those of cameras do."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.5, 1, (n, *(1 for _ in shape[:-1]), shape[-1]))
    return samples_with((coarse + rng.normal(0, 0.4, (n, *shape))).astype(np.float32))


def made(model: ModelT, plan: Plan, samples: Samples, *passes: str) -> bytes:
    calibration = Calibration(samples)
    plan = replace(plan, passes=passes)
    return make(plan, read_float_graph(write(model)), observe=calibration.observe).data


def error(model: ModelT, data: bytes, samples: Samples) -> float:
    expected = outputs_on(write(model), samples)
    return float(np.square(outputs_on(data, samples) - expected).mean())


def weights_of(model: ModelT) -> dict[str, tuple[Array, Array | None]]:
    graph = ChannelGraph(model)
    return {
        graph.graph.tensors[layer.output].name: (layer.weights, layer.bias)
        for layer in graph.layers()
    }


@pytest.fixture(scope="module")
def model() -> ModelT:
    return small_net()


@pytest.fixture(scope="module")
def samples() -> Samples:
    return correlated(48, 6, 6, 3)


@pytest.mark.parametrize("plan", [INT4, W4A8], ids=["int4", "int4 in int8"])
def test_rounded_files_are_nearer_to_float(model: ModelT, samples: Samples, plan: Plan) -> None:
    # Given other samples than those of calibration
    others = correlated(40, 6, 6, 3, seed=5)
    balanced, corrected, rounded, both = (
        made(model, plan, samples, *passes) for passes in ((), BOTH[1:], BOTH[:1], BOTH)
    )
    # When they are run, then each pass takes some of the error, in files of the same size.
    errors = [error(model, data, others) for data in (balanced, corrected, rounded, both)]
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < 0.6 * errors[0]
    assert errors[3] < 0.6 * errors[0]
    assert len({len(data) for data in (balanced, corrected, rounded, both)}) == 1


@pytest.mark.parametrize("plan", [INT4, W4A8], ids=["int4", "int4 in int8"])
def test_the_writer_keeps_the_codes(model: ModelT, samples: Samples, plan: Plan) -> None:
    # Given weights that the pass has rounded
    rounded = round_weights(model, observe(model, samples), plan)
    before, after = weights_of(model), weights_of(rounded)
    chosen = grids(model, plan)
    changed = {name for name in chosen if not np.array_equal(after[name][0], before[name][0])}
    # A layer keeps its weights where the writer's codes are better: the dense one may.
    assert {"first", "second", "third"} <= changed
    assert "each" not in changed
    for name in changed:
        # Then what the writer makes of them are themselves.
        weights = after[name][0]
        assert chosen[name].bits == 4
        np.testing.assert_allclose(chosen[name].stored(weights), weights, rtol=1e-6)


def test_every_channel_has_the_mean_of_float(model: ModelT, samples: Samples) -> None:
    # Given a graph whose biases were corrected, and its weights as they are stored
    corrected = correct_biases(model, observe(model, samples), INT4)
    exact, graph = ChannelGraph(model), ChannelGraph(corrected)
    chosen = grids(model, INT4)
    for layer in list(graph.layers()):
        name = graph.graph.tensors[layer.output].name
        if name in chosen:  # the depthwise one is small, and remains float
            layer.graph.replace_constant(layer.op, 1, chosen[name].stored(layer.weights))
    # When both are run
    seen = samples.read(np.arange(samples.n)).inputs["x"]
    for name in ("first", "each", "second", "third"):
        means = [means_before_activation(one, name, seen) for one in (exact, graph)]
        # Then the means of all channels agree before the activation.
        np.testing.assert_allclose(means[1], means[0], atol=2e-5)


def means_before_activation(graph: ChannelGraph, name: str, seen: Array) -> Array:
    interpreter = Interpreter(model_content=write(with_all_outputs(graph.model)), num_threads=1)
    interpreter.allocate_tensors()
    layer = next(one for one in graph.layers() if graph.graph.tensors[one.output].name == name)
    read = int(layer.op.inputs[0])
    found = []
    for values in seen:
        interpreter.set_tensor(int(graph.graph.inputs[0]), values[None])
        interpreter.invoke()
        given = values[None] if read == graph.graph.inputs[0] else interpreter.get_tensor(read)
        found.append(patches(layer, given).mean(axis=0))
    assert layer.bias is not None
    return response(layer, layer.weights, np.mean(found, axis=0)) + layer.bias


def test_biases_of_exact_weights_stay(samples: Samples) -> None:
    # Given weights that are codes of eight bits as they are
    net = Net(1, 6, 6, 3)
    codes = net.rng.integers(-127, 128, (16, 3, 3, 3))
    codes[:, 0, 0, 0] = 127
    hidden = net.conv("x", 16, weights=(codes * np.float32(2**-7)).astype(np.float32), name="a")
    model = net.done(hidden)
    # When biases are corrected, then there is nothing to correct.
    after = weights_of(correct_biases(model, observe(model, samples), INT8))["a"][1]
    np.testing.assert_allclose(after, weights_of(model)["a"][1], atol=1e-6)


def test_the_same_samples_give_the_same_file(model: ModelT, samples: Samples) -> None:
    assert made(model, INT4, samples, *BOTH) == made(model, INT4, samples, *BOTH)


def test_products_are_summed_on_one_thread() -> None:
    before = blas_threads()
    if before is None:
        pytest.skip("numpy has another library here")

    def threads() -> int | None:
        on_one_thread()
        return blas_threads()

    # Given a child, as weights are fitted in, then it has one thread, and its parent as many as
    # before.
    assert isolated(threads) == 1
    assert blas_threads() == before


def test_rounding_twice_changes_nothing_more(model: ModelT, samples: Samples) -> None:
    seen = observe(model, samples)
    once = round_weights(model, seen, INT4)
    twice = round_weights(once, replace(seen, exact=model), INT4)
    for name, (weights, _) in weights_of(once).items():
        np.testing.assert_array_equal(weights_of(twice)[name][0], weights)


def constant_inputs(n: int) -> Samples:
    return samples_with(np.full((n, 6, 6, 3), 0.7, np.float32))


def dead_inputs(n: int) -> Samples:
    values = np.random.default_rng(0).normal(0, 1, (n, 6, 6, 3)).astype(np.float32)
    values[..., 1] = 0
    return samples_with(values)


@pytest.mark.parametrize("given", [constant_inputs, dead_inputs])
@pytest.mark.parametrize("n", [1, 12])
def test_inputs_that_tell_nothing_do_no_harm(
    model: ModelT, given: Callable[[int], Samples], n: int
) -> None:
    samples = given(n)
    data = made(model, INT4, samples, *BOTH)
    balanced = made(model, INT4, samples)
    assert error(model, data, samples) <= error(model, balanced, samples)
    others = noise(8, 6, 6, 3)
    assert error(model, data, others) < 3 * error(model, balanced, others)


def test_dead_channels_do_no_harm(samples: Samples) -> None:
    # Given a layer with a channel that is always zero, and one without weights
    net = Net(1, 6, 6, 3)
    weights = net.rng.normal(0, 0.2, (48, 3, 3, 3)).astype(np.float32)
    weights[5] = 0
    hidden = net.conv("x", 48, act=RELU, weights=weights, name="first")
    bias = net.graph.tensors[net.graph.operators[-1].inputs[2]]
    values = np.zeros(48, np.float32)
    values[7] = -1000
    net.model.buffers[bias.buffer].data = values.view(np.uint8)
    model = net.done(net.conv(hidden, 32, name="second", padding=SAME))
    rounded = round_weights(model, observe(model, samples), INT4)
    first = weights_of(rounded)["first"]
    assert not first[0][5].any()
    assert all(np.isfinite(part).all() for pair in weights_of(rounded).values() for part in pair)
    data = made(model, INT4, samples, *BOTH)
    assert error(model, data, samples) < error(model, made(model, INT4, samples), samples)


def test_a_layer_of_constants_is_left_alone(samples: Samples) -> None:
    # Given a layer that reads no sample at all
    net = Net(1, 6, 6, 3)
    fixed = net._constant(net.rng.normal(0, 1, (1, 6, 6, 3)).astype(np.float32))
    side = net.conv(fixed, 48, name="side")
    model = net.done(net.conv(net.add(net.conv("x", 48, name="main"), side), 48, name="last"))
    # When weights are rounded, then its own stay.
    rounded = weights_of(round_weights(model, observe(model, samples), INT4))
    np.testing.assert_array_equal(rounded["side"][0], weights_of(model)["side"][0])
    assert not np.array_equal(rounded["main"][0], weights_of(model)["main"][0])


def test_rules_and_modes_without_codes_leave_weights_alone(model: ModelT, samples: Samples) -> None:
    seen = observe(model, samples)
    for mode in ("float32", "float16"):
        plan = Plan(variant="v", mode=mode)
        assert round_weights(model, seen, plan) is model
        assert correct_biases(model, seen, plan) is model
    assert round_weights(model, seen, INT8) is model  # eight bits
    kept = Plan(variant="v", mode="int4", rules=(Rule(layers="^second$", mode="float32"),))
    before, after = weights_of(model), weights_of(round_weights(model, seen, kept))
    for part in (0, 1):
        np.testing.assert_array_equal(before["second"][part], after["second"][part])
    after = weights_of(correct_biases(model, seen, kept))
    np.testing.assert_array_equal(before["second"][1], after["second"][1])
    assert not np.array_equal(before["third"][1], after["third"][1])


def test_trained_ranges_are_told(model: ModelT) -> None:
    trained = learned(Ranges(method="trained", low={}, high={}, n=0))
    with pytest.raises(ConversionError, match="were trained"):
        round_weights(model, trained, W4A8)


def test_graphs_with_loops_are_told(model: ModelT, samples: Samples) -> None:
    # Given a graph beside the first, as loops have them
    looped = clone(model)
    looped.subgraphs.append(looped.subgraphs[0])
    with pytest.raises(ConversionError, match="has loops") as caught:
        correct_biases(looped, observe(model, samples), INT4)
    assert "Drop round_weights and correct_biases" in str(caught.value.hint)


def test_weights_are_rounded_once_for_plans_that_begin_alike(
    model: ModelT, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given ranges that are left to edgekit, and two plans that begin with the same pass
    calls: list[ModelT] = []

    def counted(graph: ModelT, *given: Any) -> ModelT:
        calls.append(graph)
        return side_by_side.fitted(graph, *given)

    monkeypatch.setattr(rounding, "fitted", counted)
    calibration = Calibration(samples)
    graph = read_float_graph(write(model))
    first, both = (
        make(
            replace(W4A8, ranges="auto", passes=passes),
            graph,
            observe=calibration.observe,
            calibration=calibration,
        )
        for passes in (BOTH[:1], BOTH)
    )
    # When both files are made, then its weights are rounded once, and the second goes on from them.
    assert len(calls) == 1
    assert first.data != both.data
    alone = Calibration(samples)
    plan = replace(W4A8, ranges="auto", passes=BOTH)
    assert make(plan, graph, observe=alone.observe, calibration=alone).data == both.data


def test_what_would_undo_a_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="would undo") as caught:
        passes_named(("round_weights", "equalize"))
    assert caught.value.hint == "Put equalize before round_weights."
    assert [each.name for each in passes_named(("equalize", *BOTH))] == ["equalize", *BOTH]


@pytest.mark.parametrize("largest", range(1, 8))
def test_codes_are_found_again_whatever_the_largest(largest: int) -> None:
    # Given weights that are codes of four bits, the largest of which may be small
    rng = np.random.default_rng(largest)
    codes = rng.integers(-largest, largest + 1, (5, 40)).astype(np.int8)
    codes[:, 0] = largest
    codes[:, 1] = largest - 1
    scales = rng.uniform(0.001, 1000, 5).astype(np.float32)
    weights = dequantize(codes, scales, 0)
    # When they are rounded again
    found = octav_scales(weights, 0)
    again = dequantize(quantize_balanced(weights, found, 0), found, 0)
    # Then they are what they were.
    np.testing.assert_allclose(again, weights, rtol=1e-6)
    assert not grid_scales(rng.normal(0, 1, (5, 40)), 0).any()


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize(
    ("strides", "dilation"), [((1, 1), 1), ((2, 1), 1), ((3, 2), 1), ((1, 1), 2)]
)
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_patches_give_what_the_runtime_computes(
    kind: str, strides: tuple[int, int], dilation: int, padding: int
) -> None:
    net = Net(1, 9, 8, 4)
    net.conv("x", 4, kind=kind, padding=padding, name="y")
    options = net.graph.operators[-1].builtinOptions
    options.strideH, options.strideW = strides
    options.dilationHFactor = options.dilationWFactor = dilation
    model = net.done("y")
    samples = noise(1, 9, 8, 4)
    (expected,) = outputs_on(write(model), samples)
    graph = ChannelGraph(model)
    (layer,) = graph.layers()
    rows = patches(layer, samples.read(np.arange(1)).inputs["x"])
    found = np.array([response(layer, layer.weights, row) for row in rows])
    np.testing.assert_allclose(found + layer.bias, expected.reshape(found.shape), atol=1e-5)
    np.testing.assert_array_equal(
        patches(layer, samples.read(np.arange(1)).inputs["x"], 1, 3), rows[1::3]
    )

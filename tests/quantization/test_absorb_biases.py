"""Offsets of channels absorbed by the next biases: exact on the samples, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from float_nets import RELU, RELU6, VALID, Net, noise, outputs_on, samples_with

import edgekit
from edgekit.errors import ConversionError
from edgekit.quantization import Calibration, learned, make, observe, read_float_graph
from edgekit.quantization.passes.absorb_biases import absorb_biases
from edgekit.recipe import default_plan
from edgekit.records import Plan, Ranges, Rule
from edgekit.tflite import write

INT8 = Plan(variant="int8", mode="int8", input_type="float32", output_type="float32")
SHAPE = (8, 8, 4)
OFFSET = 40.0


def offset(net: Net, made: str, *channels: int) -> str:
    """Add to the bias of the last layer, so that channels are far above 0 on every sample."""
    bias = net.graph.tensors[net.graph.operators[-1].inputs[2]]
    values = net.model.buffers[bias.buffer].data.view(np.float32).copy()
    values[list(channels)] += OFFSET
    net.model.buffers[bias.buffer].data = values.view(np.uint8)
    return made


def hidden(net: Net, act: int = RELU, name: str | None = None) -> str:
    return offset(net, net.conv("x", 6, act=act, name=name), 1, 4)


CASES: dict[str, tuple[Callable[[Net], str], bool]] = {
    "convolutions": (lambda net: net.conv(hidden(net), 3, padding=VALID), True),
    "convolutions of one point": (lambda net: net.conv(hidden(net), 3, k=1), True),
    "depthwise": (lambda net: net.depthwise(hidden(net), padding=VALID), True),
    "dense": (
        lambda net: net.dense(offset(net, net.dense(net.mean("x"), 9, act=RELU), 2), 3),
        True,
    ),
    "through pools and a mean": (
        lambda net: net.dense(net.mean(net.pool(net.pool(hidden(net), "AVERAGE_POOL_2D"))), 3),
        True,
    ),
    "through a flat layer": (lambda net: net.dense(net.flat(net.pool(hidden(net))), 3), True),
    "to two readers": (
        lambda net: net.add(net.conv(hidden(net, name="h"), 3, k=1), net.conv("h", 3, k=1)),
        True,
    ),
    "without an activation": (lambda net: net.conv(hidden(net, act=0), 3, k=1), True),
    "not where padding adds zeros": (lambda net: net.conv(hidden(net), 3), False),
    "not through ReLU6": (lambda net: net.conv(hidden(net, act=RELU6), 3, k=1), False),
    "not through an addition": (
        lambda net: net.conv(net.add(hidden(net), net.conv("x", 6)), 3, k=1),
        False,
    ),
    "not without an offset": (
        lambda net: net.conv(net.conv("x", 6, act=RELU), 3, padding=VALID),
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_same_on_the_samples(case: str) -> None:
    build, absorbs = CASES[case]
    net = Net(1, *SHAPE)
    model = net.done(build(net))
    samples = noise(6, *SHAPE)
    # When biases absorb what every value of a channel exceeds
    absorbed = absorb_biases(model, observe(model, samples), INT8)
    # Then outputs do not change on any sample, and some range has become narrower.
    assert (absorbed is not model) == absorbs
    expected, found = (outputs_on(write(graph), samples) for graph in (model, absorbed))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    before, after = (observe(graph, samples).ranges() for graph in (model, absorbed))
    widths = [
        (after.high[name] - after.low[name]) / (before.high[name] - before.low[name])
        for name in before.high
    ]
    assert (min(widths) < 0.5) == absorbs


def test_an_output_and_what_a_rule_names_keep_their_offsets() -> None:
    net = Net(1, *SHAPE)
    shared = hidden(net, name="first")
    last = net.conv(shared, 3, k=1)
    model, seen = net.done(last, shared), noise(4, *SHAPE)
    assert absorb_biases(model, observe(model, seen), INT8) is model
    model = net.done(last)
    ruled = replace(INT8, rules=(Rule(layers="^first$", mode="float32"),))
    assert absorb_biases(model, observe(model, seen), ruled) is model
    assert absorb_biases(model, observe(model, seen), INT8) is not model


def test_the_smallest_value_is_that_of_all_samples() -> None:
    # Given a channel that is lowest in the last of many samples, which several processes share
    net = Net(1, *SHAPE)
    model = net.done(net.conv(hidden(net), 3, padding=VALID))
    values = noise(40, *SHAPE).read(np.arange(40)).inputs["x"]
    values[-1] *= 3
    samples = samples_with(values)
    absorbed = absorb_biases(model, observe(model, samples), INT8)
    expected, found = (outputs_on(write(graph), samples) for graph in (model, absorbed))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_trained_ranges_are_told() -> None:
    net = Net(1, *SHAPE)
    model = net.done(net.conv(hidden(net), 3, k=1))
    trained = learned(Ranges(method="trained", low={}, high={}, n=0))
    with pytest.raises(ConversionError, match="were trained") as caught:
        absorb_biases(model, trained, INT8)
    assert "Drop absorb_biases" in str(caught.value.hint)


def test_integers_have_less_noise_where_the_widest_channel_has_an_offset() -> None:
    # Given channels that use a fraction of the codes, for one of them is far from 0
    net = Net(1, *SHAPE)
    model = net.done(net.dense(net.flat(net.pool(hidden(net))), 4))
    samples, others = noise(40, *SHAPE), noise(40, *SHAPE, seed=2)
    expected = outputs_on(write(model), others)
    errors = []
    for passes in ((), ("absorb_biases",)):
        calibration = Calibration(samples)
        plan = replace(INT8, passes=passes)
        made = make(plan, read_float_graph(write(model)), observe=calibration.observe)
        errors.append(np.square(outputs_on(made.data, others) - expected).mean())
    # Then other samples, too, have a fraction of the noise when it is absorbed.
    assert errors[1] < errors[0] / 4


def test_a_recipe_names_it_and_the_manifest_repeats_it(tmp_path: Path) -> None:
    net = Net(1, *SHAPE)
    model = net.done(net.dense(net.flat(net.pool(hidden(net))), 4))
    (tmp_path / "model.tflite").write_bytes(write(model))
    values = noise(60, *SHAPE).read(np.arange(60)).inputs["x"]
    np.savez(tmp_path / "data.npz", x_train=values[:40], x_test=values[40:])
    plan = default_plan("int8")
    report = edgekit.quantize(
        tmp_path / "model.tflite",
        data=str(tmp_path / "data.npz"),
        modes=[],
        plans=[plan, replace(plan, variant="absorbed", passes=("absorb_biases",))],
        latency=False,
        recover=False,
        output=tmp_path / "out",
    )
    plain, absorbed = report.files[1:]
    assert plain.artifact.sha256 != absorbed.artifact.sha256
    assert min(one.sqnr_db for one in absorbed.fidelity) > min(
        one.sqnr_db for one in plain.fidelity
    )
    manifest = absorbed.artifact.path.with_suffix(".json")
    assert json.loads(manifest.read_text())["plan"]["passes"] == ["absorb_biases"]
    assert edgekit.rebuild(manifest).sha256 == absorbed.artifact.sha256

"""Masks of -inf: integers of them are as near to float as those of -1e9."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import outputs_on, samples_with
from test_near_masks import BOOL, FARTHEST, SCORES
from test_writer import graph_of

from edgekit.errors import ConversionError
from edgekit.modes import INT8, INT16X8
from edgekit.quantization import Calibration, make, read_float_graph
from edgekit.quantization.finite_masks import with_finite_masks
from edgekit.records import Array, Plan
from edgekit.tflite import write

Step = tuple[str, Sequence[str], str, object]

INFINITE = np.float32(-np.inf)
ADD, SUB, SELECT = schema.AddOptionsT(), schema.SubOptionsT(), schema.SelectV2OptionsT()
GREATER: Step = ("GREATER", ["x", "one"], "mask", schema.GreaterOptionsT())
ONE = {"one": np.array([1], np.float32)}
SOFTMAX: Step = ("SOFTMAX", ["masked"], "y", schema.SoftmaxOptionsT(beta=1.0))
PLACES = np.array([[0, 1, 0, 0, 1, 0, 0, 1]], np.bool_)


def hidden(value: np.float32) -> Array:
    """`value` where it hides, and zeros."""
    return np.where(PLACES, value, np.float32(0)).astype(np.float32)


def forms(value: np.float32) -> dict[str, tuple[list[Step], dict[str, Array]]]:
    """Ways to hide scores by a value, by name."""
    row = np.full((1, 8), value)
    return {
        "added": ([("ADD", ["x", "far"], "masked", ADD)], {"far": hidden(value)}),
        "subtracted": ([("SUB", ["x", "far"], "masked", SUB)], {"far": -hidden(value)}),
        "selected": (
            [GREATER, ("SELECT_V2", ["mask", "far", "x"], "masked", SELECT)],
            {**ONE, "far": np.array([value])},
        ),
        "a selection, added": (
            [
                GREATER,
                ("SELECT_V2", ["mask", "far", "nothing"], "term", SELECT),
                ("ADD", ["x", "term"], "masked", ADD),
            ],
            {**ONE, "far": row, "nothing": np.zeros((1, 8), np.float32)},
        ),
        "twice": (
            [
                GREATER,
                ("SELECT_V2", ["mask", "far", "x"], "once", SELECT),
                ("ADD", ["once", "term"], "masked", ADD),
            ],
            {**ONE, "far": np.array([value]), "term": hidden(value)},
        ),
    }


FORMS = list(forms(INFINITE))


def graph(form: str, value: np.float32, *, outputs: Sequence[str] = ("y",)) -> ModelT:
    steps, constants = forms(value)[form]
    model = graph_of([*steps, SOFTMAX], constants, shape=(1, 8), outputs=outputs)
    for tensor in model.subgraphs[0].tensors:
        tensor.type = BOOL if tensor.name == "mask" else tensor.type
    return model


def made(model: ModelT, mode: str, scores: Array = SCORES) -> bytes:
    calibration = Calibration(samples_with(scores))
    plan = Plan(variant=mode, mode=mode, input_type="float32", output_type="float32")
    source = read_float_graph(write(model))
    return make(plan, source, observe=calibration.observe, calibration=calibration).data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("mode", "allowed"), [(INT8.name, 0.03), (INT16X8.name, 0.001)])
def test_what_is_hidden_by_infinity_is_hidden_in_integers(
    form: str, mode: str, allowed: float
) -> None:
    # Given scores of which some are hidden from a softmax by -inf
    model = graph(form, INFINITE)
    # When they are integers
    data = made(model, mode)
    # Then the softmax is that of the float graph, as where it is -1e9 that hides.
    samples = samples_with(SCORES)
    exact = outputs_on(write(model), samples)
    difference = np.abs(outputs_on(data, samples) - exact).max()
    usual = np.abs(outputs_on(made(graph(form, np.float32(-1e9)), mode), samples) - exact).max()
    assert difference < allowed
    assert difference <= usual + 1e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [INFINITE, np.finfo(np.float32).min])
def test_the_float_graph_computes_the_same(form: str, value: np.float32) -> None:
    # Given masks that are infinite, or whose sum is
    model = graph(form, value)
    # When they are made finite
    finite = with_finite_masks(model)
    # Then every output is the same.
    assert finite is not model
    samples = samples_with(SCORES)
    assert np.array_equal(outputs_on(write(finite), samples), outputs_on(write(model), samples))


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_that_shows_is_left_infinite(form: str) -> None:
    # Given masked scores that are an output, too; then no other value is as good.
    model = graph(form, INFINITE, outputs=("y", "masked"))
    assert with_finite_masks(model) is model
    with pytest.raises(ConversionError, match="NaN or infinity"):
        made(model, INT8.name)


def test_finite_masks_are_left_alone() -> None:
    for form in FORMS:
        model = graph(form, np.float32(-1e9))
        assert with_finite_masks(model) is model
        # Nor is one whose sum with another is finite.
        model = graph(form, FARTHEST / 2)
        assert with_finite_masks(model) is model


@pytest.mark.parametrize("mode", [INT8.name, INT16X8.name])
def test_a_row_that_is_hidden_altogether_is_refused(mode: str) -> None:
    # Given samples of which one has nothing but hidden scores: its softmax is NaN
    scores = SCORES.copy()
    scores[21] = 2
    model = graph("selected", INFINITE)
    # When integers are asked for, which have no NaN, then there are none, and the message says why.
    with pytest.raises(ConversionError, match="hides everything from a softmax") as caught:
        made(model, mode, scores)
    assert "sample 21" in str(caught.value.found)
    assert "-1e9" in str(caught.value.hint)
    # With what the hint says, there are.
    assert made(graph("selected", np.float32(-1e9)), mode, scores)

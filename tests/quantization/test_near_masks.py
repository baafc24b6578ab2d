"""Masks before a softmax or a maximum, in integers: -1e9 leaves no codes for the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import outputs_on, samples_with
from test_writer import graph_of

from edgekit.modes import INT8, INT16X8, MODES
from edgekit.quantization import observe
from edgekit.quantization.writer import write_integers
from edgekit.quantization.writer.masks import with_near_masks
from edgekit.records import Array, Batch, Plan, Ranges, Samples
from edgekit.tflite import write
from edgekit.tflite.graph import operator_name

BOOL = vars(schema.TensorType)["BOOL"]
FAR, FARTHEST = np.float32(-1e9), np.float32(-2.4e38)
HIDDEN = np.array([[0, FAR, 0, 0, FAR, 0, 0, FAR]], np.float32)
SCORES = np.random.default_rng(4).uniform(-3, 2.4, (64, 8)).astype(np.float32)
SCORES[:, 0] = -np.abs(SCORES[:, 0])  # something is left in every sample
# None is so near to 1 that rounding would decide what is hidden.
SCORES += np.float32(0.6) * np.greater(SCORES, 0.7)
Form = tuple[Sequence[tuple[str, Sequence[str], str, object]], dict[str, Array]]

MUL, ADD, SUB = schema.MulOptionsT, schema.AddOptionsT, schema.SubOptionsT
GREATER = ("GREATER", ["x", "one"], "mask", schema.GreaterOptionsT())
ONE = {"one": np.array([1], np.float32)}
# 1 where a score is below 1, and 0 where it is above 1.6.
KEPT = (
    ("SUB", ["x", "one"], "above", SUB()),
    ("MUL", ["above", "ten"], "steep", MUL()),
    ("MINIMUM", ["steep", "one"], "most", schema.MaximumMinimumOptionsT()),
    ("RELU", ["most"], "over", None),
    ("SUB", ["one", "over"], "kept", SUB()),
)
TWO = {**ONE, "ten": np.array([10], np.float32), "two": ONE["one"]}
# What is hidden: the same places in every sample, or scores above 1.
FORMS: dict[str, Form] = {
    "added": ([("ADD", ["x", "far"], "masked", ADD())], {"far": HIDDEN}),
    "added first": ([("ADD", ["far", "x"], "masked", ADD())], {"far": HIDDEN}),
    "subtracted": ([("SUB", ["x", "far"], "masked", SUB())], {"far": -HIDDEN}),
    "computed": (
        [
            ("SUB", ["x", "one"], "above", SUB()),
            ("RELU", ["above"], "over", None),
            ("MUL", ["over", "far"], "product", MUL()),
            ("RESHAPE", ["product", "shape"], "term", schema.ReshapeOptionsT()),
            ("ADD", ["x", "term"], "masked", ADD()),
        ],
        {**ONE, "far": np.array([FAR]), "shape": np.array([1, 8], np.int32)},
    ),
    "computed, subtracted": (
        [
            ("SUB", ["x", "one"], "above", SUB()),
            ("RELU", ["above"], "over", None),
            ("MUL", ["over", "far"], "term", MUL()),
            ("SUB", ["x", "term"], "masked", SUB()),
        ],
        {**ONE, "far": np.array([-FAR])},
    ),
    # 1 where a score counts and 0 where not, as masks are given.
    "a difference of products": (
        [
            *KEPT,
            ("MUL", ["kept", "far"], "large", MUL()),
            ("SUB", ["large", "far"], "term", SUB()),
            ("ADD", ["x", "term"], "masked", ADD()),
        ],
        {**TWO, "far": np.array([-FAR])},
    ),
    "a sum of products": (
        [
            *KEPT,
            ("MUL", ["kept", "large"], "product", MUL()),
            ("ADD", ["far", "product"], "term", ADD()),
            ("ADD", ["x", "term"], "masked", ADD()),
        ],
        {**TWO, "far": np.array([FAR]), "large": np.array([-FAR])},
    ),
    "a product that is subtracted": (
        [
            *KEPT,
            ("MUL", ["kept", "far"], "large", MUL()),
            ("SUB", ["far", "large"], "term", SUB()),
            ("SUB", ["x", "term"], "masked", SUB()),
        ],
        {**TWO, "far": np.array([-FAR])},
    ),
    "a selection, added": (
        [
            GREATER,
            ("SELECT_V2", ["mask", "far", "nothing"], "term", schema.SelectV2OptionsT()),
            ("ADD", ["x", "term"], "masked", ADD()),
        ],
        {**ONE, "far": np.full((1, 8), FAR), "nothing": np.zeros((1, 8), np.float32)},
    ),
    "a selection, subtracted": (
        [
            GREATER,
            ("SELECT_V2", ["mask", "far", "nothing"], "term", schema.SelectV2OptionsT()),
            ("SUB", ["x", "term"], "masked", SUB()),
        ],
        {**ONE, "far": np.full((1, 8), -FAR), "nothing": np.zeros((1, 8), np.float32)},
    ),
    "two masks": (
        [
            GREATER,
            ("SELECT_V2", ["mask", "far", "nothing"], "one mask", schema.SelectV2OptionsT()),
            *KEPT,
            ("SUB", ["kept", "two"], "hidden", SUB()),
            ("MUL", ["hidden", "large"], "another", MUL()),
            ("ADD", ["one mask", "another"], "term", ADD()),
            ("ADD", ["x", "term"], "masked", ADD()),
        ],
        {
            **ONE,
            **TWO,
            "far": np.full((1, 8), FAR),
            "nothing": np.zeros((1, 8), np.float32),
            "large": np.array([-FAR]),
        },
    ),
    "selected": (
        [GREATER, ("SELECT_V2", ["mask", "far", "x"], "masked", schema.SelectV2OptionsT())],
        {**ONE, "far": np.array([FARTHEST])},
    ),
    "selected sums": (
        [
            GREATER,
            ("ADD", ["x", "far"], "moved", ADD()),
            ("SELECT_V2", ["mask", "moved", "x"], "masked", schema.SelectV2OptionsT()),
        ],
        {**ONE, "far": np.array([FAR])},
    ),
    "twice": (
        [
            GREATER,
            ("SELECT_V2", ["mask", "farther", "x"], "once", schema.SelectV2OptionsT()),
            ("ADD", ["once", "far"], "masked", ADD()),
        ],
        {**ONE, "farther": np.array([FARTHEST]), "far": HIDDEN},
    ),
}


def graph(form: str, *, last: str = "SOFTMAX", outputs: Sequence[str] = ("y",)) -> ModelT:
    steps, constants = FORMS[form]
    ends = {
        "SOFTMAX": ("SOFTMAX", ["masked"], "y", schema.SoftmaxOptionsT(beta=1.0)),
        "REDUCE_MAX": ("REDUCE_MAX", ["masked", "axis"], "y", schema.ReducerOptionsT(True)),
    }
    model = graph_of(
        [*steps, ends[last]],
        {**constants, "axis": np.array([1], np.int32)} if last == "REDUCE_MAX" else constants,
        shape=(1, 8),
        outputs=outputs,
    )
    for tensor in model.subgraphs[0].tensors:
        if tensor.name == "mask":
            tensor.type = BOOL
        if tensor.name == "y" and last == "REDUCE_MAX":
            tensor.shape = np.array([1, 1], np.int32)
    return model


def worst(model: ModelT, mode: str, ranges: Ranges | None = None) -> float:
    """The largest difference between the outputs of a graph and of its integers."""
    plan = Plan(variant=mode, mode=mode, input_type="float32", output_type="float32")
    inputs = samples_with(SCORES)
    made = write_integers(model, ranges or observe(model, inputs).ranges(), plan).model
    difference = outputs_on(write(made), inputs) - outputs_on(write(model), inputs)
    return float(np.abs(difference).max())


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize(("mode", "allowed"), [(INT8.name, 0.03), (INT16X8.name, 0.001)])
def test_scores_beside_a_mask_keep_their_codes(form: str, mode: str, allowed: float) -> None:
    # Given scores of which a mask hides some from a softmax, by -1e9 and less
    # When they are integers, then the softmax of the others is that of the float graph.
    assert worst(graph(form), mode) < allowed


@pytest.mark.parametrize("form", ["added", "computed", "selected", "selected sums"])
def test_a_maximum_of_what_is_not_masked(form: str) -> None:
    assert worst(graph(form, last="REDUCE_MAX"), INT8.name) < 0.05


def test_a_mask_that_no_sample_has_hides_all_the_same() -> None:
    # Given ranges of samples of which nothing was hidden
    model = graph("selected")
    ranges = observe(model, samples_with(SCORES)).ranges()
    seen = replace(ranges, low={**ranges.low, "masked": ranges.low["x"]})
    # When some is, then it is hidden, although no range tells of it.
    assert worst(model, INT8.name, seen) < 0.03


@pytest.mark.parametrize("form", list(FORMS))
def test_what_is_seen_elsewhere_is_left_alone(form: str) -> None:
    # Given masked scores that are an output, too
    model = graph(form, outputs=("y", "masked"))
    ranges = observe(model, samples_with(SCORES)).ranges()
    # When masks are looked for, then there are none that may be brought near.
    found, same, terms = with_near_masks(model, ranges, 8)
    assert found is model
    assert same is ranges
    assert not terms


def test_a_mask_of_two_softmaxes_hides_from_both() -> None:
    # Given a computed mask that is added to scores, and to scores ten times as large
    steps, constants = FORMS["computed"]
    model = graph_of(
        [
            *steps,
            ("MUL", ["x", "ten"], "large", MUL()),
            ("ADD", ["large", "term"], "masked too", ADD()),
            ("SOFTMAX", ["masked"], "first", schema.SoftmaxOptionsT(beta=1.0)),
            ("SOFTMAX", ["masked too"], "second", schema.SoftmaxOptionsT(beta=1.0)),
            ("ADD", ["first", "second"], "y", ADD()),
        ],
        {**constants, "ten": np.array([10], np.float32)},
        shape=(1, 8),
    )
    assert worst(model, INT16X8.name) < 0.005


@pytest.mark.parametrize(("mode", "allowed"), [(INT8.name, 0.03), (INT16X8.name, 0.001)])
def test_a_mask_that_is_an_input_hides(mode: str, allowed: float) -> None:
    # Given scores and a mask of ones and zeros, that becomes what is added to them: 0 or -1e9
    model = graph_of(
        [
            ("MUL", ["kept", "far"], "product", MUL()),
            ("SUB", ["product", "far"], "term", SUB()),
            ("ADD", ["x", "term"], "masked", ADD()),
            ("SOFTMAX", ["masked"], "y", schema.SoftmaxOptionsT(beta=1.0)),
        ],
        {"far": np.array([-FAR])},
        shape=(1, 8),
    )
    graph = model.subgraphs[0]
    places = {tensor.name: place for place, tensor in enumerate(graph.tensors)}
    graph.inputs = np.array([places["x"], places["kept"]], np.int32)
    kept = np.random.default_rng(2).integers(0, 2, SCORES.shape).astype(np.float32)
    kept[:, 0] = 1
    samples = Samples(
        split="calibrate",
        n=len(kept),
        sha256="",
        read=lambda rows: Batch(inputs={"x": SCORES[rows], "kept": kept[rows]}),
    )
    plan = Plan(variant=mode, mode=mode, input_type="float32", output_type="float32")
    made = write_integers(model, observe(model, samples).ranges(), plan)
    # When they are integers, all of them, then the softmax is that of the float graph.
    assert not made.reasons
    codes = replace(plan, input_type=MODES[mode].io_types[0])
    assert not write_integers(model, observe(model, samples).ranges(), codes).lost
    exact = np.exp(SCORES) * kept
    exact /= exact.sum(axis=1, keepdims=True)
    interpreter = Interpreter(model_content=write(made.model), num_threads=1)
    interpreter.allocate_tensors()
    for row, expected in enumerate(exact):
        for place, values in zip(interpreter.get_input_details(), (SCORES, kept), strict=True):
            interpreter.set_tensor(place["index"], values[row : row + 1])
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        assert np.abs(found - expected).max() < allowed


def test_scores_without_a_mask_are_left_alone() -> None:
    model = graph_of(
        [
            ("ADD", ["x", "near"], "sum", ADD()),
            ("SOFTMAX", ["sum"], "y", schema.SoftmaxOptionsT(beta=1.0)),
        ],
        {"near": np.full((1, 8), -4, np.float32)},
        shape=(1, 8),
    )
    found, *_ = with_near_masks(model, observe(model, samples_with(SCORES)).ranges(), 8)
    assert [operator_name(found, op) for op in found.subgraphs[0].operators] == ["ADD", "SOFTMAX"]
    assert found is model


def test_what_surrounds_a_maximum_leaves_codes() -> None:
    # Given values that are padded by the least number there is, and pooled (as of ONNX)
    model = graph_of(
        [
            ("PADV2", ["x", "around", "far"], "padded", schema.PadV2OptionsT()),
            ("REDUCE_MAX", ["padded", "axis"], "y", schema.ReducerOptionsT(True)),
        ],
        {
            "around": np.array([[0, 0], [1, 1]], np.int32),
            "far": np.array([FARTHEST]).reshape(()),
            "axis": np.array([1], np.int32),
        },
        shape=(1, 8),
    )
    for tensor in model.subgraphs[0].tensors:
        if tensor.name in {"padded", "y"}:
            tensor.shape = np.array([1, 10 if tensor.name == "padded" else 1], np.int32)
    assert worst(model, INT8.name) < 0.05

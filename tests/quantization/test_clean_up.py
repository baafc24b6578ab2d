"""What is tidied up in a float graph before it is written in integers: exact in float."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT
from test_writer import Step, graph_of, operators_of, reshape, run

from edgekit.quantization import PASSES, make, passes, read_float_graph
from edgekit.quantization.observe import NOTHING, Observed
from edgekit.quantization.passes import CLEANUP, cleaned
from edgekit.quantization.passes.drop_identities import drop_identities
from edgekit.quantization.passes.fold_constants import fold_constants
from edgekit.quantization.passes.fold_padding import FOLD_PADDING, fold_padding
from edgekit.recipe import default_plan
from edgekit.records import Array, Plan, Ranges
from edgekit.tflite import read, write
from edgekit.tflite.graph import DTYPES, clone, constant
from edgekit.tflite.ranges import activations

FLOAT = Plan(variant="float", mode="float32")
RNG = np.random.default_rng(5)
PICTURE = RNG.normal(size=(1, 8, 9, 2)).astype(np.float32)


def shaped(model: ModelT, **shapes: Sequence[int]) -> ModelT:
    for tensor in model.subgraphs[0].tensors:
        if tensor.name in shapes:
            tensor.shape = np.array(shapes[tensor.name], np.int32)
    return model


def ints(*values: Any) -> Array:
    return np.array(values, np.int32)


def conv(stride: int, dilation: int = 1, *, same: bool = False) -> object:
    return schema.Conv2DOptionsT(
        padding=0 if same else 1,
        strideW=stride,
        strideH=stride,
        dilationWFactor=dilation,
        dilationHFactor=dilation,
    )


def padded(amounts: Array, stride: int, dilation: int = 1, taps: int = 3) -> ModelT:
    """A convolution of a padded picture of 8 rows and 9 columns."""
    rows, columns = (size + int(a.sum()) for size, a in zip((8, 9), amounts[1:3], strict=True))
    reach = (taps - 1) * dilation + 1
    steps: list[Step] = [
        ("PAD", ["x", "amounts"], "p", schema.PadOptionsT()),
        ("CONV_2D", ["p", "w", "b"], "y", conv(stride, dilation)),
    ]
    constants = {
        "amounts": amounts,
        "w": RNG.normal(size=(3, taps, taps, 2)).astype(np.float32),
        "b": np.array([0.1, 0.2, -0.3], np.float32),
    }
    return shaped(
        graph_of(steps, constants, shape=PICTURE.shape),
        p=(1, rows, columns, 2),
        y=(1, (rows - reach) // stride + 1, (columns - reach) // stride + 1, 3),
    )


def assert_same(model: ModelT, changed: ModelT, x: Array) -> None:
    for expected, found in zip(run(write(model), x), run(write(changed), x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("amounts", "stride", "dilation", "taps"),
    [
        (ints((0, 0), (1, 1), (1, 1), (0, 0)), 1, 1, 3),
        (ints((0, 0), (0, 1), (1, 1), (0, 0)), 2, 1, 3),
        (ints((0, 0), (2, 2), (2, 2), (0, 0)), 1, 2, 3),
        (ints((0, 0), (1, 2), (1, 2), (0, 0)), 1, 1, 4),
        # More zeros after the last row than are read.
        (ints((0, 0), (0, 2), (1, 2), (0, 0)), 2, 1, 3),
    ],
)
def test_a_pad_that_same_padding_equals_is_folded(
    amounts: Array, stride: int, dilation: int, taps: int
) -> None:
    model = padded(amounts, stride, dilation, taps)
    changed = fold_padding(model, NOTHING, FLOAT)
    assert operators_of(changed) == ["CONV_2D"]
    assert operators_of(model) == ["PAD", "CONV_2D"]
    assert_same(model, changed, PICTURE)


@pytest.mark.parametrize(
    ("amounts", "stride"),
    [
        (ints((0, 0), (1, 1), (1, 1), (0, 0)), 2),  # SAME pads rows after the last only
        (ints((0, 0), (2, 2), (2, 2), (0, 0)), 1),  # the output is larger
        (ints((0, 0), (0, 0), (1, 1), (0, 0)), 1),
    ],
)
def test_a_pad_that_differs_is_left(amounts: Array, stride: int) -> None:
    model = padded(amounts, stride)
    assert fold_padding(model, NOTHING, FLOAT) is model


def test_a_pad_that_others_read_is_left() -> None:
    model = padded(ints((0, 0), (1, 1), (1, 1), (0, 0)), 1)
    model.subgraphs[0].outputs = np.append(model.subgraphs[0].outputs, 2).astype(np.int32)
    assert fold_padding(model, NOTHING, FLOAT) is model


def test_a_pad_of_other_values_is_left() -> None:
    model = padded(ints((0, 0), (1, 1), (1, 1), (0, 0)), 1)
    other = clone(model)
    other.operatorCodes[0].builtinCode = other.operatorCodes[0].deprecatedBuiltinCode = 60  # PADV2
    op = other.subgraphs[0].operators[0]
    op.inputs = np.append(op.inputs, _scalar(other, 1.5)).astype(np.int32)
    assert fold_padding(other, NOTHING, FLOAT) is other


def _scalar(model: ModelT, value: float) -> int:
    model.buffers.append(schema.BufferT(data=np.array([value], np.float32).view(np.uint8)))
    tensors = model.subgraphs[0].tensors
    tensors.append(schema.TensorT(shape=ints(), buffer=len(model.buffers) - 1, name="v"))
    return len(tensors) - 1


def test_operators_of_constants_are_computed_once() -> None:
    # Given weights of half precision that are converted, transposed and halved in the graph
    steps: list[Step] = [
        ("DEQUANTIZE", ["half"], "single", None),
        ("TRANSPOSE", ["single", "order"], "turned", schema.TransposeOptionsT()),
        ("MUL", ["turned", "factor"], "w", schema.MulOptionsT()),
        ("FULLY_CONNECTED", ["x", "w", "b"], "y", schema.FullyConnectedOptionsT()),
    ]
    weights = RNG.normal(size=(4, 3))
    constants = {
        "half": weights.astype(np.float32),
        "order": ints(1, 0),
        "factor": np.array(0.5, np.float32),
        "b": np.zeros(3, np.float32),
    }
    model = shaped(graph_of(steps, constants), single=(4, 3), turned=(3, 4), w=(3, 4), y=(1, 3))
    stored = next(t for t in model.subgraphs[0].tensors if t.name == "half")
    stored.type = 1
    model.buffers[stored.buffer].data = weights.astype(np.float16).reshape(-1).view(np.uint8)
    model = read(write(model))
    # When they are computed
    changed = fold_constants(model, NOTHING, FLOAT)
    # Then only the layer is left, whose weights can be quantized.
    assert operators_of(changed) == ["FULLY_CONNECTED"]
    x = RNG.normal(size=(1, 4)).astype(np.float32)
    # The runtime has another kernel for weights that it computes.
    (expected,), (found,) = run(write(model), x), run(write(changed), x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    kernel = next(t for t in changed.subgraphs[0].tensors if t.name == "w")
    np.testing.assert_array_equal(
        constant(changed, kernel), weights.astype(np.float16).T.astype(np.float32) * 0.5
    )


def test_a_shape_that_is_known_is_a_constant() -> None:
    # Given a flattening that is put together at run time, as from an open batch
    steps: list[Step] = [
        ("SHAPE", ["x"], "sizes", schema.ShapeOptionsT(outType=2)),
        ("STRIDED_SLICE", ["sizes", "zero", "one", "one"], "batch", _shrinking()),
        ("PACK", ["batch", "rest"], "shape", schema.PackOptionsT(valuesCount=2)),
        ("RESHAPE", ["x", "shape"], "y", reshape()),
    ]
    constants = {"zero": ints(0), "one": ints(1), "rest": ints(144).reshape(())}
    model = shaped(
        graph_of(steps, constants, shape=PICTURE.shape),
        sizes=(4,),
        batch=(),
        shape=(2,),
        y=(1, 144),
    )
    for tensor in model.subgraphs[0].tensors:
        if tensor.name in {"sizes", "batch", "shape"}:
            tensor.type = 2
    model = read(write(model))
    changed = fold_constants(model, NOTHING, FLOAT)
    assert operators_of(changed) == ["RESHAPE"]
    assert_same(model, changed, PICTURE)
    # Whereas one that is open is not.
    model.subgraphs[0].tensors[0].shapeSignature = ints(-1, 8, 9, 2)
    assert fold_constants(model, NOTHING, FLOAT) is model


def _shrinking() -> object:
    return schema.StridedSliceOptionsT(shrinkAxisMask=1)


def test_large_and_random_results_are_not_stored() -> None:
    steps: list[Step] = [
        ("RANDOM_UNIFORM", ["four"], "r", schema.RandomOptionsT(seed=1, seed2=2)),
        ("FILL", ["sizes", "value"], "f", schema.FillOptionsT()),
        ("ADD", ["f", "x"], "g", schema.AddOptionsT()),
        ("ADD", ["g", "r"], "y", schema.AddOptionsT()),
    ]
    constants = {"four": ints(1, 4), "sizes": ints(300, 4), "value": np.array(2, np.float32)}
    model = shaped(graph_of(steps, constants), f=(300, 4), g=(300, 4), y=(300, 4))
    assert fold_constants(model, NOTHING, FLOAT) is model


def test_what_changes_nothing_is_dropped() -> None:
    # Given conversions, reshapes, products and transpositions that give back what they got
    steps: list[Step] = [
        ("CAST", ["x"], "a", schema.CastOptionsT()),
        ("MUL", ["a", "one"], "b", schema.MulOptionsT()),
        ("RESHAPE", ["b", "line"], "c", reshape()),
        ("RESHAPE", ["c", "back"], "d", reshape()),
        ("TRANSPOSE", ["d", "there"], "e", schema.TransposeOptionsT()),
        ("TRANSPOSE", ["e", "here"], "f", schema.TransposeOptionsT()),
        ("ABS", ["f"], "g", None),
        ("PAD", ["g", "nothing"], "h", schema.PadOptionsT()),
        ("SIN", ["h"], "i", None),
        ("RESHAPE", ["i", "back"], "y", reshape()),
    ]
    constants = {
        "one": np.array(1, np.float32),
        "line": ints(144),
        "back": ints(1, 8, 9, 2),
        "there": ints(0, 3, 1, 2),
        "here": ints(0, 2, 3, 1),
        "nothing": np.zeros((4, 2), np.int32),
    }
    model = shaped(graph_of(steps, constants, shape=PICTURE.shape), c=(144,), e=(1, 2, 8, 9))
    changed = drop_identities(model, NOTHING, FLOAT)
    # Then what computes is left, and what makes an output, whose name others may know.
    assert operators_of(changed) == ["ABS", "SIN", "RESHAPE"]
    assert_same(model, changed, PICTURE)


def test_two_transpositions_become_one() -> None:
    steps: list[Step] = [
        ("TRANSPOSE", ["x", "there"], "a", schema.TransposeOptionsT()),
        ("TRANSPOSE", ["a", "swap"], "b", schema.TransposeOptionsT()),
        ("ABS", ["b"], "y", None),
    ]
    constants = {"there": ints(0, 3, 1, 2), "swap": ints(0, 2, 1, 3)}
    model = graph_of(steps, constants, shape=PICTURE.shape)
    model = shaped(model, a=(1, 2, 8, 9), b=(1, 8, 2, 9), y=(1, 8, 2, 9))
    changed = drop_identities(model, NOTHING, FLOAT)
    assert operators_of(changed) == ["TRANSPOSE", "ABS"]
    assert_same(model, changed, PICTURE)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MUL", schema.MulOptionsT(fusedActivationFunction=1)),
        ("SUB", schema.SubOptionsT()),
        ("ADD", schema.AddOptionsT()),
    ],
)
def test_what_changes_something_is_left(name: str, options: object) -> None:
    model = graph_of(
        [(name, ["x", "one"], "a", options), ("ABS", ["a"], "y", None)],
        {"one": np.array(1, np.float32)},
    )
    assert drop_identities(model, NOTHING, FLOAT) is model


def test_reversing_is_no_identity() -> None:
    steps: list[Step] = [
        ("STRIDED_SLICE", ["x", "start", "end", "step"], "a", schema.StridedSliceOptionsT()),
        ("ABS", ["a"], "y", None),
    ]
    constants = {"start": ints(0, 3), "end": ints(1, -5), "step": ints(1, -1)}
    model = graph_of(steps, constants)
    assert drop_identities(model, NOTHING, FLOAT) is model


def test_integer_files_are_tidied_without_being_asked(speech: bytes) -> None:
    model = padded(ints((0, 0), (0, 1), (1, 1), (0, 0)), 2)
    names = [model.subgraphs[0].tensors[i].name for i in activations(model)]
    seen = Observed(low=dict.fromkeys(names, -3.0), high=dict.fromkeys(names, 3.0), n=1)
    file = make(
        Plan(variant="int8", mode="int8"),
        read_float_graph(write(model)),
        observe=lambda _: seen,
    )
    assert operators_of(file.model) == ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    assert {each.name for each in CLEANUP} < {each.name for each in PASSES}
    # A graph that is tidy is returned itself.
    tidy = read(speech)
    for each in CLEANUP:
        assert each.apply(tidy, NOTHING, FLOAT) is tidy


def test_graphs_with_states_keep_them(golden: Any) -> None:
    for path in sorted((golden / "inspect").glob("*.tflite")):
        model = read(path)
        states = [t.name for graph in model.subgraphs for t in graph.tensors if t.isVariable]
        for each in CLEANUP:
            model = each.apply(model, NOTHING, FLOAT)
        assert states == [t.name for g in model.subgraphs for t in g.tensors if t.isVariable]
        assert {t.type for g in model.subgraphs for t in g.tensors} & {*DTYPES}


def test_a_graph_is_tidied_once_for_all_variants_that_are_written_of_it(monkeypatch) -> None:
    # Given a graph with something to tidy
    untidy = padded(ints((0, 0), (1, 1), (1, 1), (0, 0)), 1)
    calls: list[ModelT] = []

    def counted(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
        calls.append(model)
        return fold_padding(model, observed, settings)

    monkeypatch.setattr(passes, "CLEANUP", (replace(FOLD_PADDING, apply=counted),))
    ranges = Ranges(method="minmax", low={}, high={}, n=1)
    gc.collect()
    known = len(passes._known)

    # When it is cleaned for several variants, and what is left as well
    tidy, *others = [cleaned(untidy, ranges, default_plan(m))[0] for m in ("int8", "int16x8")]
    again = [cleaned(tidy, ranges, default_plan(m))[0] for m in ("int8", "int16x8")]

    # Then the passes run once for each, and what is kept of them ends with them.
    assert operators_of(tidy) == ["CONV_2D"]
    assert {id(each) for each in (*others, *again)} == {id(tidy)}
    assert [id(each) for each in calls] == [id(untidy), id(tidy)]
    assert len(passes._known) == known + 2
    calls.clear()
    del tidy, others, again, untidy
    gc.collect()
    assert len(passes._known) == known

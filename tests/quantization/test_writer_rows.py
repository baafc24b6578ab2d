"""Every row of the writer's table, in every width, run against the float operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from test_writer import INT8, INT16, graph_of, operators_of, run

from edgekit.isolate import isolated
from edgekit.quantization.writer import OPERATORS, write_integers
from edgekit.records import Array, Ranges
from edgekit.tflite import signature, write
from edgekit.tflite.graph import DTYPES
from edgekit.tflite.lstm import FUSED_LSTM

RNG = np.random.default_rng(4)
VALUES = RNG.uniform(-2, 2, (1, 4, 4, 4)).astype(np.float32)
SQUARE = VALUES.shape


def ints(*values: Any) -> Array:
    return np.array(values, np.int32)


def weights(*shape: int) -> Array:
    return RNG.normal(0, 0.4, shape).astype(np.float32)


def flat(**fields: Any) -> Any:
    """Options with some fields set."""
    kind = getattr(schema, fields.pop("kind"))
    made = kind()
    for name, value in fields.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


CONV = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
POOL = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
REDUCED = ((1, 4), {"axes": ints(1, 2)}, flat(kind="ReducerOptionsT"))
HALF = (1, 2, 2, 4)
# Operator -> shape of the output, constants after the input `x`, options.
CASES: dict[str, tuple[tuple[int, ...], dict[str, Array], Any]] = {
    "ADD": (SQUARE, {"c": weights(4)}, flat(kind="AddOptionsT")),
    "ARG_MAX": ((1, 4, 4), {"axis": ints(3)}, flat(kind="ArgMaxOptionsT", outputType=2)),
    "ARG_MIN": ((1, 4, 4), {"axis": ints(3)}, flat(kind="ArgMinOptionsT", outputType=2)),
    "AVERAGE_POOL_2D": (HALF, {}, flat(kind="Pool2DOptionsT", **POOL)),
    "BATCH_MATMUL": ((1, 4, 4, 3), {"c": weights(1, 1, 4, 3)}, flat(kind="BatchMatMulOptionsT")),
    "BATCH_TO_SPACE_ND": (SQUARE, {"b": ints(1, 1), "c": np.zeros((2, 2), np.int32)}, None),
    "CONCATENATION": (
        (1, 4, 4, 8),
        {"c": weights(*SQUARE)},
        flat(kind="ConcatenationOptionsT", axis=3),
    ),
    "CONV_2D": (
        (1, 4, 4, 3),
        {"w": weights(3, 3, 3, 4), "b": weights(3)},
        flat(kind="Conv2DOptionsT", **CONV),
    ),
    "DEPTHWISE_CONV_2D": (
        SQUARE,
        {"w": weights(1, 3, 3, 4), "b": weights(4)},
        flat(kind="DepthwiseConv2DOptionsT", depthMultiplier=1, **CONV),
    ),
    "DEPTH_TO_SPACE": ((1, 8, 8, 1), {}, flat(kind="DepthToSpaceOptionsT", blockSize=2)),
    "DIV": (SQUARE, {"c": np.full(4, 1.7, np.float32)}, flat(kind="DivOptionsT")),
    "DYNAMIC_UPDATE_SLICE": (SQUARE, {"c": weights(1, 2, 4, 4), "at": ints(0, 1, 0, 0)}, None),
    "EXPAND_DIMS": ((1, 1, 4, 4, 4), {"axis": ints(1).reshape(())}, None),
    "FULLY_CONNECTED": (
        (1, 5),
        {"w": weights(5, 64), "b": weights(5)},
        flat(kind="FullyConnectedOptionsT"),
    ),
    "GATHER": ((1, 4, 4, 2), {"i": ints(3, 1)}, flat(kind="GatherOptionsT", axis=3)),
    "GATHER_ND": ((1, 4), {"i": ints([0, 1, 2])}, None),
    "LEAKY_RELU": (SQUARE, {}, flat(kind="LeakyReluOptionsT", alpha=0.2)),
    "MAX_POOL_2D": (HALF, {}, flat(kind="Pool2DOptionsT", **POOL)),
    "MIRROR_PAD": (
        (1, 6, 4, 4),
        {"p": ints([0, 0], [1, 1], [0, 0], [0, 0])},
        flat(kind="MirrorPadOptionsT"),
    ),
    "MUL": (SQUARE, {"c": weights(4)}, flat(kind="MulOptionsT")),
    "PACK": ((2, *SQUARE), {"c": weights(*SQUARE)}, flat(kind="PackOptionsT", valuesCount=2)),
    "PAD": ((1, 6, 4, 4), {"p": ints([0, 0], [1, 1], [0, 0], [0, 0])}, None),
    "PADV2": (
        (1, 6, 4, 4),
        {"p": ints([0, 0], [1, 1], [0, 0], [0, 0]), "v": np.float32([1.5]).reshape(())},
        None,
    ),
    "PRELU": (SQUARE, {"a": np.abs(weights(1, 1, 4))}, None),
    "RESHAPE": ((1, 64), {"shape": ints(1, 64)}, flat(kind="ReshapeOptionsT")),
    "RESIZE_BILINEAR": ((1, 8, 8, 4), {"size": ints(8, 8)}, flat(kind="ResizeBilinearOptionsT")),
    "RESIZE_NEAREST_NEIGHBOR": (
        (1, 8, 8, 4),
        {"size": ints(8, 8)},
        flat(kind="ResizeNearestNeighborOptionsT"),
    ),
    "REVERSE_V2": (SQUARE, {"axis": ints(1)}, None),
    "SLICE": ((1, 2, 4, 4), {"b": ints(0, 1, 0, 0), "s": ints(1, 2, 4, 4)}, None),
    "SOFTMAX": (SQUARE, {}, flat(kind="SoftmaxOptionsT", beta=1.0)),
    "SPACE_TO_BATCH_ND": (SQUARE, {"b": ints(1, 1), "p": np.zeros((2, 2), np.int32)}, None),
    "SPACE_TO_DEPTH": ((1, 2, 2, 16), {}, flat(kind="SpaceToDepthOptionsT", blockSize=2)),
    "SPLIT_V": (
        SQUARE,
        {"s": ints(4), "a": ints(3).reshape(())},
        flat(kind="SplitVOptionsT", numSplits=1),
    ),
    "SQUEEZE": ((4, 4, 4), {}, flat(kind="SqueezeOptionsT", squeezeDims=[0])),
    "STRIDED_SLICE": (
        (1, 2, 4, 4),
        {"b": ints(0, 0, 0, 0), "e": ints(1, 4, 4, 4), "s": ints(1, 2, 1, 1)},
        flat(kind="StridedSliceOptionsT"),
    ),
    "SUB": (SQUARE, {"c": weights(4)}, flat(kind="SubOptionsT")),
    "TILE": ((2, 4, 4, 4), {"m": ints(2, 1, 1, 1)}, None),
    "TRANSPOSE": (SQUARE, {"p": ints(0, 3, 1, 2)}, flat(kind="TransposeOptionsT")),
    "UNPACK": ((4, 4, 4), {}, flat(kind="UnpackOptionsT", num=1, axis=0)),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"), REDUCED),
    **dict.fromkeys(
        ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), (SQUARE, {"c": weights(4)}, None)
    ),
    **dict.fromkeys(
        ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"),
        (SQUARE, {"c": np.full(4, 0.3, np.float32)}, None),
    ),
    **dict.fromkeys(
        (
            *("ABS", "EXP", "GELU", "HARD_SWISH", "L2_NORMALIZATION", "LOGISTIC", "LOG_SOFTMAX"),
            *("RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "TANH", "LOG", "RSQRT", "SQRT"),
        ),
        (SQUARE, {}, None),
    ),
}
# Others read the constants first, have two inputs or a state: the graphs of Keras models hold them.
ELSEWHERE = {"SELECT", "SELECT_V2", "SPLIT", "TRANSPOSE_CONV", FUSED_LSTM}
POSITIVE = {"LOG", "RSQRT", "SQRT"}
KINDS = {
    "ARG_MAX": "int32",
    "ARG_MIN": "int32",
    **dict.fromkeys(
        ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"), "bool"
    ),
}


def test_every_row_is_tried() -> None:
    assert {*CASES, *ELSEWHERE} == set(OPERATORS)


@pytest.mark.parametrize(
    ("name", "bits"), [(name, bits) for name in sorted(CASES) for bits in OPERATORS[name].bits]
)
def test_an_operator_computes_in_integers_what_it_does_in_float(name: str, bits: int) -> None:
    # Given a graph of this operator alone
    row = OPERATORS[name]
    shape, constants, options = CASES[name]
    values = np.abs(VALUES) + 0.4 if name in POSITIVE else VALUES
    model = graph_of([(name, ["x", *constants], "y", options)], constants, shape=SQUARE)
    graph = model.subgraphs[0]
    output = graph.tensors[graph.outputs[0]]
    output.shape = ints(*shape)
    types = {kind: code for code, kind in DTYPES.items()}
    output.type = types[KINDS.get(name, "float32")]
    expected = isolated(lambda: run(write(model), values))[0]
    assert expected.shape == shape
    # When it is written in integers, with the ranges of these values
    low = {"x": float(values.min()), "y": float(expected.min())}
    high = {"x": float(values.max()), "y": float(expected.max())}
    ranges = Ranges(method="minmax", low=low, high=high, n=1)
    kind = f"int{bits}"
    plan = replace(INT8 if bits == 8 else INT16, input_type=kind)
    plan = plan if name in KINDS else replace(plan, output_type=kind)
    written = write_integers(model, ranges, plan)
    # Then it is the only operator, and computes the same.
    assert operators_of(written.model) == [name]
    assert not written.reasons
    (given, *_), (made, *_) = signature(written.model)
    ends = np.iinfo(kind)
    codes = np.rint(values / given.scale) + given.zero_point
    codes = np.clip(codes, ends.min, ends.max).astype(kind)
    found = isolated(lambda: run(write(written.model), codes))[0]
    if name in KINDS:
        assert np.mean(found == expected) > 0.9
        return
    found = (found.astype(np.float64) - made.zero_point) * made.scale
    noise = np.square(found - expected).mean() / np.square(expected).mean()
    finest = 1e-5 if row.weight is None else 1e-4  # weights have 8 bits at either width
    assert noise < (1e-3 if bits == 8 else finest)

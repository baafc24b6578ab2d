"""The prediction for Android, compared with what LiteRT delegates to XNNPACK here.

The delegate's checks are the same code on every processor.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from one_operator import delegated, one_operator

from edgekit.targets import android, fit
from edgekit.targets.node import Node, Tensor
from edgekit.tflite import read
from edgekit.tflite.nodes import nodes

IMAGE = (1, 4, 4, 8)
TWO = [IMAGE, IMAGE]
BINARY = {
    "ADD": "AddOptions",
    "DIV": "DivOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "SUB": "SubOptions",
}
POOL = {"options": "Pool2DOptions", "filterHeight": 2, "filterWidth": 2, "outputs": [(1, 4, 4, 8)]}
SLICE = {"options": "StridedSliceOptions", "outputs": [(1, 2, 2, 8)]}
BEGIN = [0, 0, 0, 0]
IN_FLOAT_ONLY = "float32 only"

# operator, how it is written, words of the rule that it breaks (None: XNNPACK takes it)
CASES: list[tuple[str, dict[str, Any], str | None]] = [
    *((name, {}, None) for name in ("ABS", "EXP", "GELU", "HARD_SWISH", "LOG", "RELU6", "TANH")),
    *((name, {}, "no such operator") for name in ("SIGN", "LOG_SOFTMAX", "L2_NORMALIZATION")),
    *((name, {"dtype": "int8"}, IN_FLOAT_ONLY) for name in ("ABS", "EXP", "RELU", "RSQRT")),
    *((name, {"dtype": "int8"}, None) for name in ("LOGISTIC", "TANH")),
    ("LEAKY_RELU", {"options": "LeakyReluOptions", "alpha": 0.1, "dtype": "int8"}, None),
    ("LEAKY_RELU", {"options": "LeakyReluOptions", "alpha": 0.1, "dtype": "int16"},
     "float32, int8 and uint8 only"),
    *((n, {"shapes": TWO, "options": o}, None) for n, o in BINARY.items()),
    *(
        (
            name,
            {"shapes": TWO, "options": options, "dtype": dtype},
            None if name in {"ADD", "MUL", "SUB"} else IN_FLOAT_ONLY,
        )
        for name, options in BINARY.items()
        for dtype in ("int8", "uint8")
    ),
    ("ADD", {"shapes": TWO, "options": "AddOptions", "dtype": "int16"}, "int8 and uint8 only"),
    ("ADD", {"shapes": TWO, "options": "AddOptions", "fusedActivationFunction": 3}, None),
    ("ADD", {"shapes": TWO, "options": "AddOptions", "fusedActivationFunction": 4}, "activation"),
    ("ABS", {"shapes": [(1,) * 7], "outputs": [(1,) * 7]}, "six dimensions"),
    *(
        (
            "CONCATENATION",
            {
                "shapes": [IMAGE] * count,
                "outputs": [(1, 4, 4, 8 * count)],
                "options": "ConcatenationOptions",
                "axis": 3,
            },
            None if 2 <= count <= 5 else "two to five",
        )
        for count in (1, 2, 5, 6)
    ),
    *(
        (
            "SPLIT",
            {
                "shapes": [(1, 4, 4, count)],
                "outputs": [(1, 4, 4, 1)] * count,
                "constants": [np.int32(3)],
                "first": True,
                "options": "SplitOptions",
                "numSplits": count,
            },
            None if count <= 4 else "two to four",
        )
        for count in (2, 4, 5)
    ),
    ("AVERAGE_POOL_2D", {**POOL, "strideH": 1, "strideW": 1}, None),
    ("AVERAGE_POOL_2D", {**POOL, "strideH": 1, "strideW": 1, "dtype": "int8"}, IN_FLOAT_ONLY),
    ("MAX_POOL_2D", {**POOL, "strideH": 1, "strideW": 1, "dtype": "int8"}, None),
    (
        "MAX_POOL_2D",
        {
            "options": "Pool2DOptions",
            "filterHeight": 1, "filterWidth": 1, "strideH": 2, "strideW": 2,
            "outputs": [(1, 2, 2, 8)],
        },
        "1x1 must have stride 1",
    ),
    ("SOFTMAX", {"options": "SoftmaxOptions", "beta": 1.0}, None),
    ("SOFTMAX", {"options": "SoftmaxOptions", "beta": 2.0}, "beta"),
    ("MEAN", {"options": "ReducerOptions", "constants": [[1, 2]], "outputs": [(1, 8)]}, None),
    ("PRELU", {"constants": [np.ones((1, 1, 8), np.float32)]}, None),
    ("STRIDED_SLICE", {**SLICE, "constants": [BEGIN, [1, 2, 2, 8], [1, 1, 1, 1]]}, None),
    ("STRIDED_SLICE", {**SLICE, "constants": [BEGIN, [1, 4, 4, 8], [1, 2, 2, 1]]}, "strides"),
    ("SPACE_TO_DEPTH",
     {"options": "SpaceToDepthOptions", "blockSize": 2, "outputs": [(1, 2, 2, 32)]}, None),
    ("EXPAND_DIMS",
     {"constants": [np.int32(1)], "outputs": [(1, 1, 4, 4, 8)]}, "no such operator"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "written", "words"), CASES)
def test_an_operator_is_predicted_as_the_runtime_takes_it(
    tmp_path: Path, name: str, written: dict[str, Any], words: str | None
) -> None:
    path = tmp_path / "one.tflite"
    path.write_bytes(one_operator(name, **written))

    (answer,) = fit("android", nodes(read(path))).values()

    assert answer.mapped == (words is None)
    assert (words or "") in (answer.reason or "")
    assert delegated(path) == {0: answer.mapped}


@pytest.mark.parametrize("room", ["tests/golden/evaluate", "tests/golden/inspect", "quantized"])
def test_real_files_are_predicted_as_the_runtime_takes_them(repository: Path, room: str) -> None:
    paths = sorted((repository / room).rglob("*.tflite"))
    assert paths

    for path in paths:
        operators = [node for node in nodes(read(path)) if node.graph == 0]

        answers = {index: each.mapped for index, each in fit("android", operators).items()}

        assert answers == delegated(path), path


def tensor(index: int, *shape: int, dtype: str = "float32", constant: bool = False) -> Tensor:
    data = np.zeros(8, np.uint8) if constant else None
    return Tensor(index=index, name=f"t{index}", shape=shape, dtype=dtype, data=data)


def node(name: str, *inputs: Tensor | None, output: Tensor | None = None, **options: int) -> Node:
    outputs = (output or tensor(9, 1, 8),)
    return Node(
        index=0, name=name, inputs=inputs, outputs=outputs, options=SimpleNamespace(**options)
    )


X = tensor(0, 1, 4, 4, 8)
INT8 = tensor(0, 1, 4, 4, 8, dtype="int8")
KERNEL = tensor(1, 8, 3, 3, 8, constant=True)
BIAS = tensor(2, 8, constant=True)
ROW = tensor(0, 1, 8)
DENSE = tensor(1, 8, 8, constant=True)

# operator that keeps the rule, operator that breaks it, words of the rule
RULES = [
    (node("ADD", X, X), replace(node("ADD", X, X), graph=1), "loop"),
    (node("ADD", X, X), node("ADD", X, INT8), "operands"),
    (node("ELU", X), node("ELU", tensor(0, 1, 8, dtype="uint8")), "float32 and int8 only"),
    (node("TANH", X), node("TANH", INT8), "must have one type"),
    (node("CONV_2D", X, KERNEL, BIAS), node("CONV_2D", X, KERNEL, None), "bias"),
    (node("CONV_2D", X, KERNEL, BIAS),
     node("CONV_2D", X, tensor(1, 8, 3, 3, 8), BIAS), "bias must be constants"),
    (node("CONV_2D", X, replace(KERNEL, dtype="int8"), BIAS),
     node("CONV_2D", X, replace(KERNEL, dtype="int4"), BIAS), "Beside a float32"),
    (node("DEPTHWISE_CONV_2D", X, KERNEL, BIAS),
     node("DEPTHWISE_CONV_2D", X, replace(KERNEL, dtype="int8"), BIAS), "type of its input."),
    (node("FULLY_CONNECTED", ROW, replace(DENSE, dtype="int4"), None),
     node("FULLY_CONNECTED", ROW, replace(DENSE, dtype="int4", shape=(8, 7)), None), "even number"),
    (node("DEQUANTIZE", replace(BIAS, dtype="float16")),
     node("DEQUANTIZE", tensor(0, 8, dtype="float16")), "float16 constant"),
    (node("QUANTIZE", X, output=INT8),
     node("QUANTIZE", tensor(0, 1, 8, dtype="uint8"), output=INT8), "one 8-bit type"),
    (node("DENSIFY", BIAS), node("DENSIFY", X), "stored sparse"),
    (node("PRELU", X, BIAS), node("PRELU", X, tensor(1, 8)), "slopes"),
    (node("MEAN", X, BIAS), node("MEAN", X, tensor(1, 2, dtype="int8")), "Axes"),
]  # fmt: skip


@pytest.mark.parametrize(("keeps", "breaks", "words"), RULES, ids=lambda v: getattr(v, "name", v))
def test_each_rule_tells_its_two_sides_apart(keeps: Node, breaks: Node, words: str) -> None:
    assert android.broken_rule(keeps) is None
    assert words in (android.broken_rule(breaks) or "")


def test_every_rule_is_tried_above() -> None:
    rules = {*android.EVERY_OPERATOR, *(r for rules in android.OPERATORS.values() for r in rules)}
    tried = [words for *_, words in (*CASES, *RULES) if words]

    untried = {rule.__name__ for rule in rules if not any(w in (rule.__doc__ or "") for w in tried)}

    assert untried == set()


def test_float16_weights_stay_constants_once_they_are_unpacked() -> None:
    # given float16 weights that reach their convolution through a DEQUANTIZE
    half = replace(KERNEL, index=5, dtype="float16")
    unpack = Node(index=0, name="DEQUANTIZE", inputs=(half,), outputs=(tensor(1, 8, 3, 3, 8),))
    convolve = replace(node("CONV_2D", X, tensor(1, 8, 3, 3, 8), BIAS), index=1)

    answers = android.fit([unpack, convolve])

    assert [answers[index].mapped for index in (0, 1)] == [True, True]

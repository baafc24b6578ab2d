"""Files of a single operator with tensors of any type, and what TFLite Micro does with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.tflite import write

TYPES = {k.lower(): v for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
QUANTIZED = {"int4", "int8", "uint8", "int16"}
IMAGE = (1, 4, 4, 8)
ACTIVATIONS = {
    # dtype -> scale and zero point that sigmoid and softmax must have
    "int8": (1 / 256, -128),
    "int16": (1 / 32768, 0),
    "uint8": (1 / 256, 0),
}


class T(NamedTuple):
    """A tensor of a file.

    `data` is None for a computed one, else its values or one for all; `scales` counts scales.
    """

    shape: tuple[int, ...]
    dtype: str
    data: Any = None
    scales: int = 1
    axis: int = 0
    variable: bool = False
    scale: float | None = None
    zero_point: int = 0


def operator_file(
    name: str,
    inputs: Sequence[T | None],
    outputs: Sequence[T],
    options: str | None = None,
    *,
    version: int = 1,
    custom: str | None = None,
    **fields: Any,
) -> bytes:
    """Write a file of one operator; computed inputs are those of the model.

    Args:
        name: The operator.
        inputs: Its inputs; None for one that is left out.
        outputs: Its outputs.
        options: Name of the options' table in the schema.
        version: The operator's version.
        custom: Name of a custom operator.
        **fields: Fields of the options.
    """
    tensors: list[Any] = []
    buffers = [schema.BufferT()]

    def add(tensor: T | None) -> int:
        if tensor is None:
            return -1
        if tensor.data is not None:
            buffers.append(schema.BufferT(data=stored(tensor)))
        tensors.append(
            schema.TensorT(
                name=f"t{len(tensors)}",
                shape=np.array(tensor.shape, np.int32),
                type=TYPES[tensor.dtype],
                quantization=quantization(tensor),
                buffer=len(buffers) - 1 if tensor.data is not None else 0,
                isVariable=tensor.variable,
            )
        )
        return len(tensors) - 1

    used, made = [add(t) for t in inputs], [add(t) for t in outputs]
    ends = [
        index
        for index, tensor in zip(used, inputs, strict=True)
        if tensor is not None and tensor.data is None and not tensor.variable
    ]
    table = getattr(schema, f"{options}T")() if options else None
    for key, value in fields.items():
        setattr(table, key, value)
    operator = schema.OperatorT(
        inputs=np.array(used, np.int32),
        outputs=np.array(made, np.int32),
        builtinOptionsType=getattr(schema.BuiltinOptions, options) if options else 0,
        builtinOptions=table,
    )
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=np.array(ends, np.int32),
        outputs=np.array(made, np.int32),
        operators=[operator],
    )
    number = schema.BuiltinOperator.CUSTOM if custom else getattr(schema.BuiltinOperator, name)
    code = schema.OperatorCodeT(
        version=version,
        builtinCode=number,
        deprecatedBuiltinCode=min(number, 127),
        customCode=custom,
    )
    return write(schema.ModelT(version=3, operatorCodes=[code], buffers=buffers, subgraphs=[graph]))


def stored(tensor: T) -> np.ndarray:
    """Return the bytes of a constant."""
    if tensor.dtype == "int4":
        return np.resize(
            np.arange(7, 250, 13, dtype=np.uint8), (int(np.prod(tensor.shape)) + 1) // 2
        )
    values = np.broadcast_to(np.asarray(tensor.data, tensor.dtype), tensor.shape)
    return np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)


def quantization(tensor: T) -> Any:
    """Return the quantization of a tensor, 0.1 unless said otherwise; biases get 0.01."""
    if tensor.dtype not in QUANTIZED and tensor.scale is None and tensor.scales == 1:
        return None
    scale = tensor.scale or (0.1 if tensor.dtype in QUANTIZED else 0.01)
    return schema.QuantizationParametersT(
        scale=np.full(tensor.scales, scale, np.float32),
        zeroPoint=np.full(tensor.scales, tensor.zero_point, np.int64),
        quantizedDimension=tensor.axis,
    )


def integers(*values: int) -> T:
    """Return a constant list of int32."""
    return T((len(values),), "int32", list(values))


def scalar(value: int) -> T:
    """Return a constant int32."""
    return T((), "int32", value)


def same(name: str, options: str | None = None, *, inputs: int = 1, **fields: Any) -> Writer:
    """Return a writer of an operator whose inputs and output have one shape and type."""
    return lambda dtype: operator_file(
        name, [T(IMAGE, dtype)] * inputs, [T(IMAGE, dtype)], options, **fields
    )


def bounded(name: str, options: str | None = None, **fields: Any) -> Writer:
    """Return a writer of an operator whose quantized output has a prescribed scale."""

    def write_it(dtype: str) -> bytes:
        scale, zero_point = ACTIVATIONS.get(dtype, (None, 0))
        if name == "TANH" and dtype == "int8":
            scale, zero_point = 1 / 128, 0
        if name == "LOG_SOFTMAX" and dtype == "int8":
            scale, zero_point = 16 / 256, 127
        output = T(IMAGE, dtype, scale=scale, zero_point=zero_point)
        return operator_file(name, [T(IMAGE, dtype)], [output], options, **fields)

    return write_it


def positive(dtype: str) -> bytes:
    """Write a RSQRT, which takes no negative values."""
    low = -128 if dtype == "int8" else 0
    ends = T(IMAGE, dtype, zero_point=low)
    return operator_file("RSQRT", [ends], [ends])


def compares(name: str, options: str) -> Writer:
    """Return a writer of a comparison."""
    return lambda dtype: operator_file(name, [T(IMAGE, dtype)] * 2, [T(IMAGE, "bool")], options)


def reduces(name: str) -> Writer:
    """Return a writer of a reduction over height and width."""
    return lambda dtype: operator_file(
        name, [T(IMAGE, dtype), integers(1, 2)], [T((1, 8), dtype)], "ReducerOptions"
    )


def pools(name: str) -> Writer:
    """Return a writer of a pooling."""
    return lambda dtype: operator_file(
        name,
        [T(IMAGE, dtype)],
        [T((1, 2, 2, 8), dtype)],
        "Pool2DOptions",
        filterHeight=2,
        filterWidth=2,
        strideH=2,
        strideW=2,
        padding=1,
    )


def weighted(dtype: str, shape: tuple[int, ...], channels: int, axis: int = 0) -> list[T]:
    """Return weights and bias for activations of a type."""
    weights = {"float32": "float32", "uint8": "uint8"}.get(dtype, "int8")
    bias = {"float32": "float32", "int16": "int64"}.get(dtype, "int32")
    count = 1 if dtype == "float32" else channels
    return [T(shape, weights, 1, count, axis), T((channels,), bias, 0, count)]


def convolution(dtype: str) -> bytes:
    """Write a CONV_2D."""
    inputs = [T(IMAGE, dtype), *weighted(dtype, (3, 1, 1, 8), 3)]
    return operator_file(
        "CONV_2D", inputs, [T((1, 4, 4, 3), dtype)], "Conv2DOptions", strideH=1, strideW=1
    )


def depthwise(dtype: str) -> bytes:
    """Write a DEPTHWISE_CONV_2D."""
    inputs = [T(IMAGE, dtype), *weighted(dtype, (1, 3, 3, 8), 8, 3)]
    return operator_file(
        "DEPTHWISE_CONV_2D",
        inputs,
        [T((1, 2, 2, 8), dtype)],
        "DepthwiseConv2DOptions",
        strideH=1,
        strideW=1,
        depthMultiplier=1,
        padding=1,
    )


def dense(dtype: str) -> bytes:
    """Write a FULLY_CONNECTED."""
    weights, bias = weighted(dtype, (3, 8), 3)
    bias = bias._replace(scale=None if dtype == "float32" else 0.01)
    return operator_file(
        "FULLY_CONNECTED",
        [T((1, 8), dtype), weights, bias],
        [T((1, 3), dtype)],
        "FullyConnectedOptions",
    )


def transposed(dtype: str) -> bytes:
    """Write a TRANSPOSE_CONV."""
    weights, bias = weighted(dtype, (3, 2, 2, 8), 3)
    return operator_file(
        "TRANSPOSE_CONV",
        [integers(1, 8, 8, 3), weights, T(IMAGE, dtype), bias],
        [T((1, 8, 8, 3), dtype)],
        "TransposeConvOptions",
        strideH=2,
        strideW=2,
    )


Writer = Callable[[str], bytes]
PADDINGS = T((4, 2), "int32", [[0, 0], [1, 1], [1, 1], [0, 0]])
PADDED = (1, 6, 6, 8)
HALF = (1, 4, 4, 4)

OPERATORS: Mapping[str, Writer] = {
    **{
        name: same(name)
        for name in (
            *("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG"),
            *("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ROUND", "SIGN", "SIN", "SQRT"),
            *("SQUARE", "ZEROS_LIKE", "LOGICAL_NOT"),
        )
    },
    "L2_NORMALIZATION": same("L2_NORMALIZATION", "L2NormOptions"),
    "LEAKY_RELU": same("LEAKY_RELU", "LeakyReluOptions", alpha=0.1),
    "LOGISTIC": bounded("LOGISTIC"),
    "LOG_SOFTMAX": bounded("LOG_SOFTMAX"),
    "RSQRT": positive,
    "SOFTMAX": bounded("SOFTMAX", "SoftmaxOptions", beta=1.0),
    "TANH": bounded("TANH"),
    **{
        name: same(name, options, inputs=2)
        for name, options in {
            "ADD": "AddOptions",
            "ADD_N": "AddNOptions",
            "DIV": "DivOptions",
            "FLOOR_MOD": "FloorModOptions",
            "MAXIMUM": "MaximumMinimumOptions",
            "MINIMUM": "MaximumMinimumOptions",
            "MUL": "MulOptions",
            "POW": "PowOptions",
            "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
            "SUB": "SubOptions",
        }.items()
    },
    **{
        name: compares(name, options)
        for name, options in {
            "EQUAL": "EqualOptions",
            "GREATER": "GreaterOptions",
            "GREATER_EQUAL": "GreaterEqualOptions",
            "LESS": "LessOptions",
            "LESS_EQUAL": "LessEqualOptions",
            "NOT_EQUAL": "NotEqualOptions",
        }.items()
    },
    **{
        name: reduces(name)
        for name in (
            *("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"),
            *("REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"),
        )
    },
    **{name: pools(name) for name in ("AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D")},
    "ARG_MAX": lambda d: operator_file(
        "ARG_MAX", [T(IMAGE, d), scalar(3)], [T((1, 4, 4), "int32")], "ArgMaxOptions", outputType=2
    ),
    "BATCH_MATMUL": lambda d: operator_file(
        "BATCH_MATMUL",
        [T((1, 4, 8), d), T((1, 8, 3), d)],
        [T((1, 4, 3), d)],
        "BatchMatMulOptions",
    ),
    "BATCH_TO_SPACE_ND": lambda d: operator_file(
        "BATCH_TO_SPACE_ND",
        [T((4, 2, 2, 8), d), integers(2, 2), T((2, 2), "int32", 0)],
        [T(IMAGE, d)],
        "BatchToSpaceNDOptions",
    ),
    "BROADCAST_TO": lambda d: operator_file(
        "BROADCAST_TO",
        [T((1, 1, 1, 8), d), integers(*IMAGE)],
        [T(IMAGE, d)],
        "BroadcastToOptions",
    ),
    "CAST": lambda d: operator_file("CAST", [T(IMAGE, d)], [T(IMAGE, "float32")], "CastOptions"),
    "CONCATENATION": lambda d: operator_file(
        "CONCATENATION",
        [T(IMAGE, d)] * 2,
        [T((1, 4, 4, 16), d)],
        "ConcatenationOptions",
        axis=3,
    ),
    "CONV_2D": convolution,
    "CUMSUM": lambda d: operator_file(
        "CUMSUM", [T(IMAGE, d), scalar(1)], [T(IMAGE, d)], "CumsumOptions"
    ),
    "DEPTHWISE_CONV_2D": depthwise,
    "DEPTH_TO_SPACE": lambda d: operator_file(
        "DEPTH_TO_SPACE", [T(IMAGE, d)], [T((1, 8, 8, 2), d)], "DepthToSpaceOptions", blockSize=2
    ),
    "DEQUANTIZE": lambda d: operator_file(
        "DEQUANTIZE", [T(IMAGE, d)], [T(IMAGE, "float32")], "DequantizeOptions"
    ),
    "DYNAMIC_UPDATE_SLICE": lambda d: operator_file(
        "DYNAMIC_UPDATE_SLICE",
        [T(IMAGE, d), T((1, 1, 1, 8), d), integers(0, 0, 0, 0)],
        [T(IMAGE, d)],
    ),
    "EXPAND_DIMS": lambda d: operator_file(
        "EXPAND_DIMS", [T(IMAGE, d), scalar(1)], [T((1, 1, 4, 4, 8), d)], "ExpandDimsOptions"
    ),
    "FILL": lambda d: operator_file(
        "FILL", [integers(2, 3), T((), d)], [T((2, 3), d)], "FillOptions"
    ),
    "FULLY_CONNECTED": dense,
    "GATHER": lambda d: operator_file(
        "GATHER", [T(IMAGE, d), integers(0, 1)], [T((1, 2, 4, 8), d)], "GatherOptions", axis=1
    ),
    "GATHER_ND": lambda d: operator_file(
        "GATHER_ND",
        [T((4, 8), d), T((2, 1), "int32", [[0], [1]])],
        [T((2, 8), d)],
        "GatherNdOptions",
    ),
    "MIRROR_PAD": lambda d: operator_file(
        "MIRROR_PAD", [T(IMAGE, d), PADDINGS], [T(PADDED, d)], "MirrorPadOptions"
    ),
    "PACK": lambda d: operator_file(
        "PACK", [T(IMAGE, d)] * 2, [T((2, *IMAGE), d)], "PackOptions", axis=0, valuesCount=2
    ),
    "PAD": lambda d: operator_file("PAD", [T(IMAGE, d), PADDINGS], [T(PADDED, d)], "PadOptions"),
    "PADV2": lambda d: operator_file(
        "PADV2", [T(IMAGE, d), PADDINGS, T((1,), d, 0)], [T(PADDED, d)], "PadV2Options"
    ),
    "PRELU": lambda d: operator_file("PRELU", [T(IMAGE, d), T((1, 1, 8), d, 1)], [T(IMAGE, d)]),
    "QUANTIZE": lambda d: operator_file(
        "QUANTIZE", [T(IMAGE, d)], [T(IMAGE, "int8")], "QuantizeOptions"
    ),
    "QUANTIZE to int16": lambda d: operator_file(
        "QUANTIZE", [T(IMAGE, d)], [T(IMAGE, "int16")], "QuantizeOptions"
    ),
    "QUANTIZE to uint8": lambda d: operator_file(
        "QUANTIZE", [T(IMAGE, d)], [T(IMAGE, "uint8")], "QuantizeOptions"
    ),
    "RESHAPE": lambda d: operator_file(
        "RESHAPE", [T(IMAGE, d), integers(1, 128)], [T((1, 128), d)], "ReshapeOptions"
    ),
    "RESIZE_BILINEAR": lambda d: operator_file(
        "RESIZE_BILINEAR",
        [T(IMAGE, d), integers(8, 8)],
        [T((1, 8, 8, 8), d)],
        "ResizeBilinearOptions",
    ),
    "RESIZE_NEAREST_NEIGHBOR": lambda d: operator_file(
        "RESIZE_NEAREST_NEIGHBOR",
        [T(IMAGE, d), integers(8, 8)],
        [T((1, 8, 8, 8), d)],
        "ResizeNearestNeighborOptions",
    ),
    "REVERSE_V2": lambda d: operator_file(
        "REVERSE_V2", [T(IMAGE, d), integers(1)], [T(IMAGE, d)], "ReverseV2Options"
    ),
    "SELECT": lambda d: operator_file(
        "SELECT", [T(IMAGE, "bool"), T(IMAGE, d), T(IMAGE, d)], [T(IMAGE, d)], "SelectOptions"
    ),
    "SELECT_V2": lambda d: operator_file(
        "SELECT_V2", [T(IMAGE, "bool"), T(IMAGE, d), T(IMAGE, d)], [T(IMAGE, d)], "SelectV2Options"
    ),
    "SHAPE": lambda d: operator_file(
        "SHAPE", [T(IMAGE, d)], [T((4,), "int32")], "ShapeOptions", outType=2
    ),
    "SLICE": lambda d: operator_file(
        "SLICE",
        [T(IMAGE, d), integers(0, 0, 0, 0), integers(1, 2, 2, 8)],
        [T((1, 2, 2, 8), d)],
        "SliceOptions",
    ),
    "SPACE_TO_BATCH_ND": lambda d: operator_file(
        "SPACE_TO_BATCH_ND",
        [T(IMAGE, d), integers(2, 2), T((2, 2), "int32", 0)],
        [T((4, 2, 2, 8), d)],
        "SpaceToBatchNDOptions",
    ),
    "SPACE_TO_DEPTH": lambda d: operator_file(
        "SPACE_TO_DEPTH", [T(IMAGE, d)], [T((1, 2, 2, 32), d)], "SpaceToDepthOptions", blockSize=2
    ),
    "SPLIT": lambda d: operator_file(
        "SPLIT", [scalar(3), T(IMAGE, d)], [T(HALF, d)] * 2, "SplitOptions", numSplits=2
    ),
    "SPLIT_V": lambda d: operator_file(
        "SPLIT_V",
        [T(IMAGE, d), integers(4, 4), scalar(3)],
        [T(HALF, d)] * 2,
        "SplitVOptions",
        numSplits=2,
    ),
    "SQUEEZE": lambda d: operator_file(
        "SQUEEZE", [T(IMAGE, d)], [T((4, 4, 8), d)], "SqueezeOptions"
    ),
    "STRIDED_SLICE": lambda d: operator_file(
        "STRIDED_SLICE",
        [T(IMAGE, d), integers(0, 0, 0, 0), integers(1, 2, 2, 8), integers(1, 1, 1, 1)],
        [T((1, 2, 2, 8), d)],
        "StridedSliceOptions",
    ),
    "SVDF": lambda d: operator_file(
        "SVDF",
        [
            T((1, 8), d),
            T((4, 8), d, 1),
            T((4, 3), {"int8": "int16"}.get(d, d), 1),
            T((4,), {"int8": "int32"}.get(d, d), 0, scale=0.01 if d == "int8" else None),
            T((1, 12), {"int8": "int16"}.get(d, d), variable=True),
        ],
        [T((1, 4), d)],
        "SVDFOptions",
        rank=1,
    ),
    "TILE": lambda d: operator_file(
        "TILE", [T(IMAGE, d), integers(1, 2, 1, 1)], [T((1, 8, 4, 8), d)], "TileOptions"
    ),
    "TRANSPOSE": lambda d: operator_file(
        "TRANSPOSE", [T(IMAGE, d), integers(0, 3, 1, 2)], [T((1, 8, 4, 4), d)], "TransposeOptions"
    ),
    "TRANSPOSE_CONV": transposed,
    "UNPACK": lambda d: operator_file(
        "UNPACK", [T((2, 8), d)], [T((8,), d)] * 2, "UnpackOptions", axis=0, num=2
    ),
}
"""Operator -> writer of a file of it, for a type."""

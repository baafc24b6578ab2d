"""Store int4 weights in a file with int8 activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics import pack_int4
from edgekit.records import Array
from edgekit.tflite.graph import (
    INT4,
    INT8,
    INT32,
    constant,
    is_constant,
    operator_code,
    operator_name,
    quantized,
)
from edgekit.tflite.rewriter import Rewriter

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

# The first versions that older runtimes refuse rather than compute wrongly (`tflite.weights`).
# Not every kernel library has depthwise kernels with int4 weights.
INT4_VERSIONS: Final = {"CONV_2D": 8, "FULLY_CONNECTED": 12}
"""Operator that takes int4 weights beside int8 activations -> its version."""
_LARGEST = 7


def narrow_weights(model: ModelT) -> ModelT:
    """Store int8 weights as int4 where their values are those of 4-bit codes.

    A converter scales a channel's largest weight to 127, so weights that were trained on codes up
    to m <= 7 come out as round(code * 127 / m); here the codes are recovered. A layer remains int8
    if a channel has other values. The scales of biases, which are those of the products, are
    changed accordingly.

    Args:
        model: A fully integer model; it is not changed.
    """
    rewriter = Rewriter(model)
    model = rewriter.model
    for graph in model.subgraphs:
        users: dict[int, int] = {}
        for op in graph.operators:
            for index in map(int, op.inputs):
                users[index] = users.get(index, 0) + 1
        for op in graph.operators:
            name = operator_name(model, op)
            if name not in INT4_VERSIONS or any(users[int(i)] > 1 for i in op.inputs[1:] if i >= 0):
                continue
            if _narrow(model, graph, op.inputs):
                op.opcodeIndex = operator_code(model, name, INT4_VERSIONS[name])
    return rewriter.finish()


def four_bit_codes(codes: Array) -> tuple[NDArray[np.int8], Array] | None:
    """Recover 4-bit codes from 8-bit codes, or return None where these have other values.

    >>> four_bit_codes(np.array([[127, -54, 18, 0]]))
    (array([[ 7, -3,  1,  0]], dtype=int8), array([7.]))

    Args:
        codes: `[channels, ...]`, int8.

    Returns:
        Codes in [-7, 7] of the same shape, and the largest of each channel, `[channels]`.
    """
    flat = codes.reshape(len(codes), -1).astype(np.float64)
    found = np.zeros(flat.shape, np.int8)
    largest = np.zeros(len(flat))
    for m in range(_LARGEST, 0, -1):
        candidates = np.rint(flat * m / 127)
        # Slightly over 0.5: the converter may round 63.5 either way.
        fits = (np.abs(candidates * 127 / m - flat) < 0.51).all(axis=1) & (largest == 0)
        found[fits], largest[fits] = candidates[fits], m
    return (found.reshape(codes.shape), largest) if largest.all() else None


def _narrow(model: ModelT, graph: SubGraphT, inputs: Sequence[int]) -> bool:
    """Convert the weights and the bias of one operator, if its weights are 4-bit codes."""
    from ai_edge_litert import schema_py_generated as schema

    weight = graph.tensors[inputs[1]]
    scales = weight.quantization.scale if weight.quantization is not None else None
    if weight.type != INT8 or scales is None or len(scales) != weight.shape[0]:
        return False
    values = constant(model, weight)
    recovered = four_bit_codes(values) if values.size else None
    bias = graph.tensors[inputs[2]] if len(inputs) > 2 and inputs[2] >= 0 else None
    if recovered is None or not (bias is None or _follows(model, bias, len(values))):
        return False
    codes, largest = recovered
    wider = 127.0 / largest

    def store(values: Array) -> int:
        # A separate buffer: converters let equal constants share one.
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        model.buffers.append(schema.BufferT(data=raw))
        return len(model.buffers) - 1

    if bias is not None:
        bias.buffer = store(np.rint(constant(model, bias) / wider).astype(np.int32))
        bias.quantization.scale = (bias.quantization.scale * wider).astype(np.float32)
    weight.type = INT4
    weight.buffer = store(pack_int4(codes))
    weight.quantization.scale = (scales * wider).astype(np.float32)
    return True


def _follows(model: ModelT, bias: TensorT, channels: int) -> bool:
    """Whether a bias is constant, has one integer per channel, and can have other scales."""
    return (
        bias.type == INT32
        and is_constant(model, bias)
        and bias.shape.tolist() == [channels]
        and quantized(bias)
        and len(bias.quantization.scale) in {1, channels}
    )

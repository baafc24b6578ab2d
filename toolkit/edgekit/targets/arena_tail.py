"""Estimate what TFLite Micro keeps beside the planned activations: the tail of its arena.

The tail holds the structures of the interpreter, of tensors and of operators. Sizes are those of a
64-bit build of October 2026, measured on files of one operator; on 32 bits they are smaller. Where
alignment may add bytes, it is counted, so that the estimate is rather too large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.targets.arena import aligned, scratch, size_of
from edgekit.targets.node import Node, Tensor

_INTERPRETER: Final = 560
_TENSOR: Final = 24
_OPERATOR: Final = 64
_END: Final = 64  # an input or output of the model
_QUANTIZATION: Final = 32
_HANDLE: Final = 8  # of a scratch buffer
_GRAPH: Final = 32
_VARIABLE: Final = 48  # of a resource variable
_SOFTMAX_TABLES: Final = 2096  # of exponentials, for int16
_KERNEL: Final = 16
_KERNELS: Final[Mapping[str, int]] = {
    "ABS": 48,
    "ADD": 88,
    "ADD_N": 64,
    "AVERAGE_POOL_2D": 80,
    "BATCH_MATMUL": 112,
    "CONCATENATION": 104,
    "CONV_2D": 128,
    "CUMSUM": 56,
    "DEPTHWISE_CONV_2D": 128,
    "DEPTH_TO_SPACE": 32,
    "DEQUANTIZE": 48,
    "DIV": 40,
    "ELU": 272,
    "EMBEDDING_LOOKUP": 40,
    "EQUAL": 40,
    "FULLY_CONNECTED": 120,
    "GATHER": 40,
    "GATHER_ND": 24,
    "GREATER": 40,
    "GREATER_EQUAL": 40,
    "HARD_SWISH": 32,
    "L2_POOL_2D": 80,
    "LEAKY_RELU": 48,
    "LESS": 40,
    "LESS_EQUAL": 40,
    "LOGISTIC": 32,
    "LOG_SOFTMAX": 48,
    "MAX_POOL_2D": 80,
    "MEAN": 64,
    "MIRROR_PAD": 40,
    "MUL": 56,
    "NOT_EQUAL": 40,
    "PACK": 24,
    "PAD": 72,
    "PADV2": 64,
    "PRELU": 40,
    "QUANTIZE": 48,
    "REDUCE_ALL": 64,
    "REDUCE_MAX": 64,
    "REDUCE_MIN": 64,
    "RELU": 48,
    "RESHAPE": 56,
    "RSQRT": 48,
    "SELECT_V2": 32,
    "SOFTMAX": 96,
    "SPACE_TO_DEPTH": 32,
    "SQUARED_DIFFERENCE": 120,
    "SQUEEZE": 48,
    "STRIDED_SLICE": 120,
    "SUB": 72,
    "SUM": 64,
    "SVDF": 120,
    "TANH": 32,
    "TRANSPOSE_CONV": 128,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 800,
}
"""Operator -> bytes that its options and its kernel keep; others take `_KERNEL`."""

_CHANNEL_AXES: Final[Mapping[str, int]] = {
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 3,
    "TRANSPOSE_CONV": 0,
}
_KERNEL_OPERATORS: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What of a model decides the tail of its arena.

    Attributes:
        nodes: Its operators.
        tensors: Number of tensors of all graphs, constants included.
        graphs: Number of graphs.
        ends: Inputs and outputs of the main graph.
        variables: Tensors that keep their values.
    """

    nodes: Sequence[Node]
    tensors: int
    graphs: int
    ends: Sequence[Tensor]
    variables: Sequence[Tensor]


def tail_bytes(model: Model) -> int:
    """Estimate the tail of the arena on a 64-bit machine, rather too large than too small."""
    scratches = sum(len(scratch(node)) for node in model.nodes)
    return (
        _INTERPRETER
        + _TENSOR * model.tensors
        + _OPERATOR * len(model.nodes)
        + sum(_END + _quantization(tensor) for tensor in model.ends)
        + _HANDLE * scratches * model.graphs
        + _GRAPH * (model.graphs - 1)
        + sum(aligned(size_of(tensor) or 0) + _GRAPH for tensor in model.variables)
        + sum(map(_kept, model.nodes))
    )


def planning_bytes(model: Model, buffers: int) -> int:
    """Return what planning takes of the arena's head while the model loads, rather too much.

    Of small models it is more than the activations take afterwards.

    Args:
        model: The model.
        buffers: Number of planned buffers.
    """
    scratches = sum(len(scratch(node)) for node in model.nodes)
    # While an operator is prepared, all its tensors are described in full, by convolutions twice.
    prepared = max((_prepared(node) for node in model.nodes), default=0)
    return 208 + 16 * scratches + max(32 * model.tensors + 48 * buffers, prepared)


def _prepared(node: Node) -> int:
    tensors = (*(tensor for tensor in node.inputs if tensor is not None), *node.outputs)
    return 2 * sum(_END + _quantization(tensor) for tensor in tensors)


def arena_bytes_32(model: Model, arena_bytes: int) -> int:
    """Estimate the whole arena on a 32-bit processor with the reference kernels.

    Fitted on nine files that ran on an emulated Cortex-M4: within 24 bytes on these.

    Args:
        model: The model.
        arena_bytes: Its whole arena on a 64-bit machine.
    """
    kernels = sum(node.name in _KERNEL_OPERATORS for node in model.nodes)
    quantized = sum(_quantization(tensor) > 0 for tensor in model.ends)
    narrower = (
        12 * model.tensors
        + 32 * len(model.nodes)
        + 32 * len(model.ends)
        + 24 * quantized
        + 24 * kernels
        + 400
    )
    return max(0, arena_bytes - narrower)


def _quantization(tensor: Tensor) -> int:
    channels = 0 if tensor.scales is None else len(tensor.scales)
    return _QUANTIZATION + 4 * (channels - 1) if channels else 0


def _kept(node: Node) -> int:
    """Return what one operator keeps: options, the kernel's data, multipliers of its channels."""
    size = _KERNELS.get(node.name, _KERNEL)
    data, weights = node.input(0), node.input(1)
    if node.name == "SOFTMAX" and data is not None and data.dtype == "int16":
        size += _SOFTMAX_TABLES
    if node.name in {"VAR_HANDLE", "CALL_ONCE"}:
        size += _VARIABLE
    if node.name == "ASSIGN_VARIABLE" and weights is not None:
        size += aligned(size_of(weights) or 0)
    if weights is not None and node.name in _CHANNEL_AXES and len(weights.shape) == 4:
        size += 2 * aligned(4 * weights.shape[_CHANNEL_AXES[node.name]])
    if weights is not None and node.name == "FULLY_CONNECTED" and weights.scales is not None:
        size += 2 * aligned(4 * len(weights.scales)) if len(weights.scales) > 1 else 0
    if node.name == "BATCH_MATMUL":
        size += sum(aligned(size_of(t) or 0) + 48 for t in node.inputs if t is not None)
    return size

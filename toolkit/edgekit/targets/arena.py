"""Plan the memory arena of TFLite Micro: where each buffer lies, and how many bytes that takes.

The rules are those of TFLite Micro's `GreedyMemoryPlanner` (`greedy_memory_planner.cc`) and of the
scratch buffers that its reference kernels request, so that the result is the size of the arena's
head, to the byte. Optimized kernels (CMSIS-NN, ESP-NN) request further scratch buffers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.targets.node import Node, Tensor

ALIGNMENT: Final = 16
"""Every buffer starts and ends on a multiple of this many bytes."""

SIZES: Final[Mapping[str, int]] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "uint16": 2,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "resource": 4,
    "float64": 8,
    "int64": 8,
    "uint64": 8,
    "complex64": 8,
}
"""Bytes of one element."""


UNKNOWN: Final = frozenset({"SignalRfft", "TFLM_DECODE", "TFLite_Detection_PostProcess", "ethos-u"})
"""Custom operators whose scratch buffers depend on options of their own: not planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """A piece of memory that is needed for a while.

    Attributes:
        size_bytes: Its size, before alignment.
        first: The step at which it is first needed.
        last: The step at which it is last needed.
        name: What it holds.
    """

    size_bytes: int
    first: int
    last: int
    name: str = ""


def aligned(size_bytes: int) -> int:
    """Round a size up to the alignment.

    >>> aligned(0), aligned(1), aligned(16)
    (0, 16, 16)
    """
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def place(buffers: Sequence[Buffer]) -> list[int]:
    """Return the offset of each buffer, in bytes, as TFLite Micro's planner chooses it.

    The largest buffer is placed first; of equal ones the last. Each goes into the first gap between
    those already placed that are needed at the same time.

    >>> chain = [Buffer(size_bytes=s, first=i, last=i + 1) for i, s in enumerate((32, 64, 16))]
    >>> place(chain)
    [64, 0, 64]

    Args:
        buffers: What has to lie in memory; the time taken grows with the square of their number.
    """
    offsets = [0] * len(buffers)
    starts: list[int] = []
    placed: list[tuple[int, Buffer]] = []
    for number in sorted(
        range(len(buffers) - 1, -1, -1), key=lambda index: -aligned(buffers[index].size_bytes)
    ):
        wanted = buffers[number]
        size = aligned(wanted.size_bytes)
        offset = 0
        for start, other in placed:
            if other.first > wanted.last or wanted.first > other.last:
                continue
            if start - offset >= size:
                break
            offset = max(offset, start + aligned(other.size_bytes))
        offsets[number] = offset
        position = bisect.bisect_right(starts, offset)
        starts.insert(position, offset)
        placed.insert(position, (offset, wanted))
    return offsets


def size_of(tensor: Tensor) -> int | None:
    """Return the bytes of a tensor in memory; None if TFLite Micro has no such type."""
    if tensor.dtype == "int4":
        return -(-tensor.elements // 2)
    size = SIZES.get(tensor.dtype)
    return None if size is None else size * tensor.elements


def scratch(node: Node) -> tuple[int, ...]:
    """Return the bytes of each scratch buffer that the reference kernel of an operator requests."""
    request = _SCRATCH.get(node.name)
    return request(node) if request is not None else ()


def _unpacked_filter(node: Node) -> tuple[int, ...]:
    # int4 weights are unpacked before every use.
    weights = node.input(1)
    return (weights.elements,) if weights is not None and weights.dtype == "int4" else ()


def _transpose_convolution(node: Node) -> tuple[int, ...]:
    data, bias = node.input(2), node.input(3)
    if data is None or data.dtype not in _ACCUMULATORS or not node.outputs:
        return ()
    wide = bias.elements * 8 if bias is not None and bias.dtype == "int16" else 0
    sums = node.outputs[0].elements * _ACCUMULATORS[data.dtype]
    return (sums, wide) if wide else (sums,)


def _reduction(node: Node) -> tuple[int, ...]:
    data, axes = node.input(0), node.input(1)
    if data is None or axes is None:
        return ()
    return 4 * len(data.shape), 4 * axes.elements


def _mean_or_sum(node: Node) -> tuple[int, ...]:
    data = node.input(0)
    integer = data is not None and data.dtype in _ACCUMULATORS and node.outputs
    return (*((4 * node.outputs[0].elements,) if integer else ()), *_reduction(node))


def _mirror_pad(node: Node) -> tuple[int, ...]:
    data = node.input(0)
    return (4 * len(data.shape),) * 2 if data is not None else ()


def _sum_of_many(node: Node) -> tuple[int, ...]:
    # Pointers to the inputs: half of it on a 32-bit processor.
    return (8 * len(node.inputs),)


def _svdf(node: Node) -> tuple[int, ...]:
    data, feature = node.input(0), node.input(1)
    if data is None or feature is None or not data.shape or not feature.shape:
        return ()
    filters = 4 * data.shape[0] * feature.shape[0]
    units = filters // max(1, node.option("rank", 1))
    return (filters, units) if data.dtype == "int8" else (filters,)


def _lstm(node: Node) -> tuple[int, ...]:
    data, state, cell = node.input(0), node.input(18), node.input(19)
    if data is None or state is None or cell is None:
        return ()
    size = SIZES.get(cell.dtype, 0) * math.prod(cell.shape)
    return (size,) * _GATES


_GATES: Final = 4
_ACCUMULATORS: Final[Mapping[str, int]] = {"int8": 4, "int16": 8}
"""Type of the input -> bytes of an element of the sums."""

_SCRATCH: Final[Mapping[str, Callable[[Node], tuple[int, ...]]]] = {
    "ADD_N": _sum_of_many,
    "CONV_2D": _unpacked_filter,
    "DEPTHWISE_CONV_2D": _unpacked_filter,
    "FULLY_CONNECTED": _unpacked_filter,
    "MEAN": _mean_or_sum,
    "MIRROR_PAD": _mirror_pad,
    "REDUCE_ALL": _reduction,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "SUM": _mean_or_sum,
    "SVDF": _svdf,
    "TRANSPOSE_CONV": _transpose_convolution,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}

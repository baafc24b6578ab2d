"""How far factors and shifts of channels pass through a graph.

They pass through operators that treat all channels alike, up to the layers that read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.quantization.passes.layers import (
    NO_ACTIVATION,
    RELU,
    ChannelGraph,
    Layer,
    by_channel,
    fused,
)
from edgekit.tflite.graph import FLOAT32, constant, is_constant

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import OperatorT

# What is the same for all channels passes through these, too.
_MOVING: Final = frozenset(
    {"EXPAND_DIMS", "SPACE_TO_DEPTH", "SQUEEZE", "TRANSPOSE"}
    | {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
)
# Factors pass through these, whatever their signs; MEAN and RESHAPE as far as they keep the axis.
_LINEAR: Final = frozenset({"AVERAGE_POOL_2D", "MEAN", "PAD", "RESHAPE", *_MOVING})
# Positive factors pass through these too: f(s x) = s f(x) for s > 0.
_HOMOGENEOUS: Final = _LINEAR | {"RELU", "LEAKY_RELU", "MAX_POOL_2D"}
# Shifts pass through these: f(x + c) = f(x) + c. Pools leave their padding out.
_SHIFTED: Final = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "RESHAPE", *_MOVING})


@dataclass(frozen=True, slots=True)
class Reached:
    """What factors or shifts of an activation's channels reach.

    Attributes:
        ends: The layers that absorb them.
        passed: The operators that they pass through.
    """

    ends: tuple[Layer, ...]
    passed: tuple[OperatorT, ...]


def reach_of_factors(
    graph: ChannelGraph,
    tensor: int,
    *,
    positive: bool,
    shifts: bool = False,
    channels: int | None = None,
) -> Reached | None:
    """Follow factors of a tensor's channels to the layers that read them; None if others do.

    Args:
        graph: The graph.
        tensor: The tensor.
        positive: Whether no factor is negative.
        shifts: Whether constants that are added on the way can be rescaled.
        channels: 1 where the factor is the same for all channels; None for one of each.
    """
    through = _HOMOGENEOUS if positive else _LINEAR
    return _followed(graph, tensor, through, shifts=shifts, channels=channels)


def reach_of_shift(
    graph: ChannelGraph, tensor: int, *, channels: int | None = None
) -> Reached | None:
    """Follow shifts of a tensor's channels to the layers that read them; None if others do.

    Args:
        graph: The graph.
        tensor: The tensor.
        channels: As of `reach_of_factors`.
    """
    found = _followed(graph, tensor, _SHIFTED, shifts=False, channels=channels)
    if found is None or any(end.padded or not end.can_add() for end in found.ends):
        return None
    return found


def _followed(
    graph: ChannelGraph,
    tensor: int,
    through: frozenset[str],
    *,
    shifts: bool,
    channels: int | None,
) -> Reached | None:
    channels = graph.channels(tensor) if channels is None else channels
    ends: list[Layer] = []
    passed: list[OperatorT] = []
    pending = [tensor]
    while pending:
        current = pending.pop()
        readers = graph.readers(current)
        if not readers or current in graph.outputs or not channels:
            return None
        for op in readers:
            layer = graph.layer(op)
            if layer is not None and int(op.inputs[0]) == current:
                if not layer.takes(channels):
                    return None
                ends.append(layer)
            elif _passes(graph, op, current, channels, through, shifts=shifts):
                passed.append(op)
                pending.append(int(op.outputs[0]))
            else:
                return None
    return Reached(tuple(ends), tuple(passed))


def _passes(
    graph: ChannelGraph,
    op: OperatorT,
    tensor: int,
    channels: int,
    through: frozenset[str],
    *,
    shifts: bool,
) -> bool:
    """Whether channels of an operator's input are the same channels of its only output."""
    if graph.is_kept(op) or len(op.outputs) != 1 or int(op.inputs[0]) != tensor:
        return False
    name = graph.name(op)
    if name in ("MUL", "ADD"):
        combined = by_channel(graph, op) if shifts else None
        alone = fused(op) in (NO_ACTIVATION, RELU)
        return alone and combined is not None and combined[0] == tensor
    if name not in through or fused(op) not in _allowed(through):
        return False
    output = int(op.outputs[0])
    if name in _MOVING:
        return channels == 1
    if name == "RESHAPE":
        divides = graph.channels(output) % channels == 0 and graph.channels(tensor) == channels
        return channels == 1 or divides
    if name == "MEAN":
        return _keeps_last(graph, op, tensor) and graph.channels(output) == graph.channels(tensor)
    if name == "PAD":
        padding = _integers(graph, int(op.inputs[1]))
        return padding is not None and not padding.reshape(-1, 2)[-1].any()
    return True


def _allowed(through: frozenset[str]) -> tuple[int, ...]:
    return (NO_ACTIVATION, RELU) if "RELU" in through else (NO_ACTIVATION,)


def _keeps_last(graph: ChannelGraph, op: OperatorT, tensor: int) -> bool:
    axes = _integers(graph, int(op.inputs[1]))
    rank = len(graph.graph.tensors[tensor].shape)
    return axes is not None and not np.any(axes.reshape(-1) % rank == rank - 1)


def _integers(graph: ChannelGraph, tensor: int) -> Any:
    found = graph.graph.tensors[tensor]
    if not is_constant(graph.model, found) or found.type == FLOAT32:
        return None
    return constant(graph.model, found)

"""Fold what scales the inputs of a graph into the layers that read them.

A model that is fed with pixels scales them itself (`Rescaling`, `Normalization`, `x / 127.5 - 1`):
`W (a x + b) + c` is `(W a) x + (c + W b)`. The input keeps its meaning and its codes, whatever type
the file gives it, and the operators with their rounding errors disappear. What stays:

- the sum, where zeros are padded behind it: they would be `-b / a` before it. Only the factors are
  folded then, and one operator is left: `x + b / a`;
- all of it, where codes of the input itself would be too coarse for some channel (`writer.ends`),
  where factors differ by more than `MOST_UNEVEN`, or where others than layers read the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.modes import MODES
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.layers import NO_ACTIVATION, ChannelGraph, by_channel, fused
from edgekit.quantization.passes.reach import reach_of_factors, reach_of_shift
from edgekit.quantization.rules import ruled_otherwise
from edgekit.quantization.writer.ends import LEAST_BITS
from edgekit.quantization.writer.scales import parameters_of
from edgekit.tflite.graph import FLOAT32, clone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgekit.records import Plan, Ranges

MOST_UNEVEN: Final = 2.0
"""Factors of channels beyond this ratio would cost weights more than one of their eight bits."""

# What may stand between an input and its scaling.
_BEFORE: Final = frozenset(
    {"CAST", "EXPAND_DIMS", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
)
# What may stand behind a scaling by channels: operators with one scale for inputs and outputs.
_COPYING: Final = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RESHAPE"})

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Scaling:
    """Operators that compute `factor * x + shift` of a tensor, one after the other.

    Attributes:
        start: Index of the tensor.
        operators: The operators.
        factor: `[1]` where it is the same for all channels, else `[channels]`.
        shift: Likewise; both have the same size.
    """

    start: int
    operators: tuple[OperatorT, ...]
    factor: Values
    shift: Values

    @property
    def end(self) -> int:
        """Return the index of what they compute."""
        return int(self.operators[-1].outputs[0])


def fold_scaling(
    model: ModelT, ranges: Ranges, settings: Plan, *, even: bool = False
) -> tuple[ModelT, Ranges]:
    """Return a graph without the scaling of its inputs, as far as outputs do not change.

    Args:
        model: A float graph; it is not changed.
        ranges: Ranges of its activations.
        settings: The mode; operators that a rule of the plan names are not changed.
        even: Whether weights lie on the grid of their codes, so that all must get one factor.

    Returns:
        The graph, and ranges that hold those of what is new in it.
    """
    changed = clone(model)
    graph = ChannelGraph(changed, ruled_otherwise(settings, model))
    before = ranges
    for scaling in list(_scalings(graph)):
        if even and scaling.factor.size > 1:
            continue
        if _is_fine(graph, scaling, ranges, settings.mode):
            ranges = _folded(graph, scaling, ranges) or ranges
    if len(changed.subgraphs[0].operators) == len(model.subgraphs[0].operators):
        return model, before
    return drop_unused(changed, NOTHING, settings), ranges


def _scalings(graph: ChannelGraph) -> Iterator[_Scaling]:
    """Yield what scales the inputs of a graph."""
    pending = sorted(graph.inputs)
    while pending:
        start = pending.pop()
        for op in graph.readers(start):
            if graph.name(op) in _BEFORE and int(op.inputs[0]) == start:
                pending.append(int(op.outputs[0]))
            elif (found := _scaling(graph, start, op)) is not None:
                yield found


def _scaling(graph: ChannelGraph, start: int, first: OperatorT) -> _Scaling | None:
    """Return what scales a tensor, from one of its readers on; None if that does something else."""
    tensor, readers = start, [first]
    operators: list[OperatorT] = []
    factor, shift = np.ones(1), np.zeros(1)
    while len(readers) == 1:
        (op,) = readers
        step = _step(graph, op, tensor)
        sizes = {v.size for v in (factor, *(step or ()))} - {1}
        if step is None or len(sizes) > 1 or int(op.outputs[0]) in graph.outputs:
            break
        factor, shift = np.broadcast_arrays(factor * step[0], shift * step[0] + step[1])
        operators.append(op)
        tensor = int(op.outputs[0])
        readers = graph.readers(tensor)
    return _Scaling(start, tuple(operators), factor, shift) if operators else None


def _step(graph: ChannelGraph, op: OperatorT, tensor: int) -> tuple[Values, Values] | None:
    """Return factor and term of an operator with a constant; None where it is something else."""
    name = graph.name(op)
    if name not in ("ADD", "DIV", "MUL", "SUB") or fused(op) != NO_ACTIVATION or graph.is_kept(op):
        return None
    combined = by_channel(graph, op)
    if combined is None or combined[0] != tensor:
        return None
    _, place, channels = combined
    values = channels.astype(np.float64)
    if (values == values[0]).all():
        values = values[:1]
    one, zero = np.ones(1), np.zeros(1)
    match name, place:
        case "ADD", _:
            return one, values
        case "SUB", 1:
            return one, -values
        case "SUB", _:
            return -one, values
        case _ if not values.all():
            return None
        case "MUL", _:
            return values, zero
        case "DIV", 1:
            return 1 / values, zero
    return None


def _is_fine(graph: ChannelGraph, scaling: _Scaling, ranges: Ranges, mode: str) -> bool:
    """Whether codes of what is scaled are fine enough for the scaled values of all channels."""
    bits = 8 * np.dtype(MODES[mode].activations).itemsize
    sizes = np.abs(scaling.factor)
    names = [graph.graph.tensors[index].name for index in (scaling.start, scaling.end)]
    if graph.graph.tensors[scaling.start].type != FLOAT32 or not ranges.low.keys() >= {*names}:
        return False
    given, wanted = (
        parameters_of(ranges.low[name], ranges.high[name], bits).scale for name in names
    )
    least = 1 << LEAST_BITS
    return bool(
        (1 << bits) * wanted >= least * sizes.max() * given
        and sizes.max() <= MOST_UNEVEN * sizes.min()
    )


def _folded(graph: ChannelGraph, scaling: _Scaling, ranges: Ranges) -> Ranges | None:
    """Fold one scaling, as far as possible; None where nothing was."""
    factor, shift = scaling.factor, scaling.shift
    channels = 1 if factor.size == 1 else None
    positive = bool((factor > 0).all())
    reached = reach_of_factors(graph, scaling.end, positive=positive, channels=channels)
    if reached is None or not (
        channels or all(graph.name(op) in _COPYING for op in reached.passed)
    ):
        return None
    whole = not shift.any() or reach_of_shift(graph, scaling.end, channels=channels) is not None
    left = None if whole else _sum_of(graph, scaling)
    if not whole and left is None:
        return None
    for end in reached.ends:
        if whole and shift.any():
            end.add(end.response(shift.astype(np.float32)))
            name = graph.graph.tensors[end.output].name
            center = tuple((-shift / factor).tolist())
            ranges = replace(ranges, centers={**ranges.centers, name: center})
        end.scale_inputs(factor.astype(np.float32))
    given = graph.graph.tensors[scaling.start].name
    ends = np.array([ranges.low[given], ranges.high[given]])
    if left is not None:
        rest = shift / factor
        ends += rest.min(), rest.max()
        _add(graph, left, rest)
        ranges = _renamed(graph, int(left.outputs[0]), ends, ranges)
    for op in reached.passed:
        name = graph.graph.tensors[op.outputs[0]].name
        if channels and name in ranges.low:
            scaled = np.array([ranges.low[name], ranges.high[name]])
            ends = np.sort((scaled - (shift if whole else 0)) / factor)
        ranges = _renamed(graph, int(op.outputs[0]), ends, ranges)
    tensor = scaling.start
    for op in scaling.operators:
        if left is not None and op is left:
            tensor = int(op.outputs[0])
        else:
            graph.bypass(op, tensor)
    return ranges


def _sum_of(graph: ChannelGraph, scaling: _Scaling) -> OperatorT | None:
    """Return the operator that adds what is left of a scaling; None where that saves nothing."""
    if len(scaling.operators) < 2:
        return None
    sums = (op for op in scaling.operators if graph.name(op) == "ADD" or _is_difference(graph, op))
    return next(sums, None)


def _is_difference(graph: ChannelGraph, op: OperatorT) -> bool:
    """Whether an operator subtracts a constant."""
    return graph.name(op) == "SUB" and graph.values(int(op.inputs[1])) is not None


def _add(graph: ChannelGraph, op: OperatorT, values: Values) -> None:
    """Let a sum or a difference add other values."""
    combined = by_channel(graph, op)
    assert combined is not None
    graph.replace_constant(op, combined[1], -values if _is_difference(graph, op) else values)


def _renamed(graph: ChannelGraph, index: int, ends: Values, ranges: Ranges) -> Ranges:
    """Give a tensor a range, and a name of a layer of its own.

    It no longer holds what the layer of the float graph computes, nor is it compared with that.
    """
    tensor = graph.graph.tensors[index]
    tensor.name = f"{tensor.name.partition(';')[0]}/unscaled"
    low, high = ends.tolist()
    return replace(
        ranges,
        low={**ranges.low, tensor.name: low},
        high={**ranges.high, tensor.name: high},
    )

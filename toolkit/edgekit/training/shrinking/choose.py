"""Choose the channels to remove: greedily, by the least importance lost per unit of cost saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgekit.records import Array
from edgekit.training.shrinking.graph import ChannelGraph, Family

CountedGoal = Literal["macs", "parameters"]

Widths = Mapping[tuple[str, ...], int]
"""Layers of a family -> number of its channels before any removal."""


def widths_of(graph: ChannelGraph) -> Widths:
    """Return the number of channels of each family."""
    return {family.layers: len(family.channels) + family.fixed for family in graph.families}


def choose(
    graph: ChannelGraph,
    ranked: Mapping[int, float],
    target: float,
    *,
    goal: CountedGoal,
    multiple: int,
    widths: Widths,
) -> set[int]:
    """Choose channels to remove until the cost is at most `target`, or no more can be removed.

    The importance lost by a family counts as `all / kept - 1`, so that channels of a narrow layer
    are costly to remove however many multiply-accumulates they save.

    Args:
        graph: The model's channels.
        ranked: Importance of each.
        target: Multiply-accumulates, or weights, that may remain.
        goal: Which of the two is counted.
        multiple: Families of at least twice as many channels keep a multiple of it.
        widths: Number of channels of each family before the first round.
    """
    queues = [_queue(family, ranked, widths[family.layers]) for family in graph.families]
    tally = _Tally.of(graph, goal)
    left = tally.cost()
    cut: set[int] = set()
    while left > target:
        best: tuple[float, _Queue, Array, int] | None = None
        for queue in queues:
            chunk = queue.chunk(multiple)
            saving = tally.saving(chunk)
            if saving and (best is None or queue.loss(len(chunk)) / saving < best[0]):
                best = queue.loss(len(chunk)) / saving, queue, chunk, saving
        if best is None:
            break
        _, queue, chunk, saving = best
        queue.gone += len(chunk)
        tally.remove(chunk)
        left -= saving
        cut.update(chunk.tolist())
    return cut


def least(graph: ChannelGraph, goal: CountedGoal, multiple: int) -> int:
    """Return the least possible cost: multiply-accumulates, or weights, after the largest cut."""
    tally = _Tally.of(graph, goal)
    for family in graph.families:
        ranked = dict.fromkeys(family.channels.tolist(), 1.0)
        queue = _queue(family, ranked, len(ranked) + family.fixed)
        while len(chunk := queue.chunk(multiple)):
            queue.gone += len(chunk)
            tally.remove(chunk)
    return tally.cost()


@dataclass(slots=True)
class _Queue:
    """Channels of a family, least important first.

    Attributes:
        family: The family.
        width: Number of its channels before any cut.
        channels: `[n]` channel numbers.
        kept: `[n + 1]` importance that remains after that many of them are removed.
        gone: Number of channels removed so far.
    """

    family: Family
    width: int
    channels: Array
    kept: Array
    gone: int = 0

    def chunk(self, multiple: int) -> Array:
        """Return the next channels to remove together; empty where no more may be removed."""
        total = len(self.channels) + self.family.fixed
        left = total - self.gone
        count = (left % multiple or multiple) if self.width >= 2 * multiple else 1
        if count >= left or self.gone + count > len(self.channels):
            count = 0
        return self.channels[self.gone : self.gone + count]

    def loss(self, count: int) -> float:
        """Return the increase of lost importance relative to what is kept."""
        total = len(self.channels) + self.family.fixed
        before, after = self.kept[self.gone], self.kept[self.gone + count]
        # importances are relative to their mean, so channels removed in earlier rounds count 1 each
        return float(self.kept[0] * self.width / total * (1 / after - 1 / before))


@dataclass(slots=True)
class _Tally:
    """Cost of the model while channels are removed.

    Attributes:
        units: Cost per element of each weight, times the sizes of its axes without channels.
        sizes: Weight -> axis -> number of remaining channels.
        touches: Channel -> (weight, axis, number of its occurrences there).
    """

    units: list[int] = field(default_factory=list)
    sizes: list[dict[int, int]] = field(default_factory=list)
    touches: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ChannelGraph, goal: CountedGoal) -> _Tally:
        tally = cls()
        for number, weight in enumerate(graph.weights):
            shape = weight.variable.shape
            fixed = math.prod(n for axis, n in enumerate(shape) if axis not in weight.axes)
            tally.units.append(fixed * (weight.macs if goal == "macs" else 1))
            tally.sizes.append({axis: shape[axis] for axis in weight.axes})
            for axis, row in weight.axes.items():
                for channel, times in zip(*np.unique(row, return_counts=True), strict=True):
                    place = (number, axis, int(times))
                    tally.touches.setdefault(int(channel), []).append(place)
        return tally

    def cost(self) -> int:
        return sum(
            unit * math.prod(sizes.values())
            for unit, sizes in zip(self.units, self.sizes, strict=True)
        )

    def saving(self, channels: Array) -> int:
        """Return the cost saved by removing these channels."""
        smaller: dict[int, dict[int, int]] = {}
        for channel in channels.tolist():
            for number, axis, times in self.touches[channel]:
                smaller.setdefault(number, dict(self.sizes[number]))[axis] -= times
        return sum(
            self.units[number] * (math.prod(self.sizes[number].values()) - math.prod(new.values()))
            for number, new in smaller.items()
        )

    def remove(self, channels: Array) -> None:
        for channel in channels.tolist():
            for number, axis, times in self.touches[channel]:
                self.sizes[number][axis] -= times


def _queue(family: Family, ranked: Mapping[int, float], width: int) -> _Queue:
    figures = np.array([ranked[channel] for channel in family.channels.tolist()])
    # zero filters get a small importance, because the kept importance is a divisor
    figures += 1e-6 * figures.mean() or 1.0
    order = np.argsort(figures, kind="stable")
    fixed = family.fixed * figures.mean()
    gone = np.concatenate([[0.0], np.cumsum(figures[order])])
    kept = np.maximum(gone[-1] + fixed - gone, 1e-9 * gone[-1])
    return _Queue(family=family, width=width, channels=family.channels[order], kept=kept)

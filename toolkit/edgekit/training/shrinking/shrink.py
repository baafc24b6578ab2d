"""Choosing the channels to remove, and removing them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgekit.errors import UsageError
from edgekit.records import Array
from edgekit.training.shrinking.graph import ChannelGraph, Family, trace
from edgekit.training.shrinking.importance import Importance, importances
from edgekit.training.shrinking.rebuild import rebuild

Goal = Literal["macs", "parameters"]

_WORDS = {"macs": "multiply-accumulates", "parameters": "parameters"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A smaller model, and what it lacks.

    Attributes:
        model: A plain Keras model with the names of the old one.
        removed: Path of each layer -> indices, in the old model, of the channels it no longer
            puts out.
        kept_whole: Path of each layer that makes channels none of which may be cut -> why.
        macs_before: Multiply-accumulates for one sample (convolutions and dense layers).
        macs_after: Of the smaller model.
        parameters_before: Number of weights.
        parameters_after: Of the smaller model.
    """

    model: Any
    removed: Mapping[str, Array]
    kept_whole: Mapping[str, str]
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int


def shrink(
    model: Any,
    *,
    share: float,
    goal: Goal = "macs",
    importance: Importance = "l2",
    data: tuple[Array, Array] | None = None,
    exclude: Sequence[str] = (),
    multiple: int = 8,
) -> Shrunk:
    """Remove whole channels until `share` of the work or of the weights is gone.

    Channels leave greedily, those first that lose least importance for what they save. What a
    family of channels has lost counts as `all / kept - 1` of its importance, so that a thin layer
    is dear however many multiply-accumulates it has.

    Args:
        model: A functional or sequential Keras model; it is left as it is.
        share: Share to remove, above 0 and below 1.
        goal: Of what: multiply-accumulates, or weights.
        importance: How channels are ranked; see `importances`.
        data: `(x, y)` for `taylor`.
        exclude: Paths of layers to keep whole.
        multiple: Layers of at least two times as many channels keep a multiple of it, because
            SIMD kernels work on blocks; 1 rounds nothing.

    Raises:
        UsageError: An option that means nothing for this model, or a share that cannot be reached.
        ModelError: A subclassed model, one without fixed shapes, or a layer that cannot be rebuilt.
        DataError: The data does not fit the model or its loss.
    """
    if not 0 < share < 1 or multiple < 1:
        raise UsageError(
            "A share to remove is above 0 and below 1, a multiple at least 1.",
            found=f"Received share={share}, multiple={multiple}.",
        )
    graph = trace(model, exclude=exclude)
    _check_names(exclude, graph)
    ranked = importances(model, graph, importance, data=data)
    cut = _choose(graph, ranked, share, goal, multiple)
    smaller = rebuild(model, graph, cut)
    after = trace(smaller)
    gone = np.array(sorted(cut))
    removed = {path: np.flatnonzero(np.isin(row, gone)) for path, row in graph.outputs.items()}
    return Shrunk(
        model=smaller,
        removed={path: indices for path, indices in removed.items() if len(indices)},
        kept_whole=graph.kept_whole,
        macs_before=graph.macs,
        macs_after=after.macs,
        parameters_before=graph.parameters,
        parameters_after=after.parameters,
    )


def _check_names(exclude: Sequence[str], graph: ChannelGraph) -> None:
    known = set(graph.layers.values())
    for path in exclude:
        if path not in known:
            match = difflib.get_close_matches(path, known, n=1)
            raise UsageError(
                f"There is no layer {path!r} to exclude.",
                found=f"Did you mean {match[0]!r}?" if match else None,
            )


@dataclass(slots=True)
class _Queue:
    """The channels of a family, least important first.

    Attributes:
        family: The family.
        channels: `[n]` numbers.
        kept: `[n + 1]` importance that stays when that many of them are gone.
        gone: How many are.
    """

    family: Family
    channels: Array
    kept: Array
    gone: int = 0

    def chunk(self, multiple: int) -> Array:
        """The next channels to leave together; none where one would be too many."""
        total = len(self.channels) + self.family.fixed
        left = total - self.gone
        count = (left % multiple or multiple) if total >= 2 * multiple else 1
        if count >= left or self.gone + count > len(self.channels):
            count = 0
        return self.channels[self.gone : self.gone + count]

    def loss(self, count: int) -> float:
        """What leaves in units of what stays, more than before."""
        before, after = self.kept[self.gone], self.kept[self.gone + count]
        return float(self.kept[0] * (1 / after - 1 / before))


@dataclass(slots=True)
class _Tally:
    """Cost of the model as it shrinks.

    Attributes:
        units: Cost of an element of each weight, times the sizes of axes that count no channels.
        sizes: Weight -> axis -> channels left.
        touches: Channel -> (weight, axis, how often it stands there).
    """

    units: list[int] = field(default_factory=list)
    sizes: list[dict[int, int]] = field(default_factory=list)
    touches: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ChannelGraph, goal: Goal) -> _Tally:
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
        """What the model would cost less without these channels."""
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


def _choose(
    graph: ChannelGraph, ranked: Mapping[int, float], share: float, goal: Goal, multiple: int
) -> set[int]:
    """Channels to cut."""
    queues = [_queue(family, ranked) for family in graph.families]
    tally = _Tally.of(graph, goal)
    before = left = tally.cost()
    cut: set[int] = set()
    while left > (1 - share) * before:
        best: tuple[float, _Queue, Array, int] | None = None
        for queue in queues:
            chunk = queue.chunk(multiple)
            saving = tally.saving(chunk)
            if saving and (best is None or queue.loss(len(chunk)) / saving < best[0]):
                best = queue.loss(len(chunk)) / saving, queue, chunk, saving
        if best is None:
            most = 100 * (1 - left / before)
            stays = f", {multiple} of the wide ones" if multiple > 1 else ""
            raise UsageError(
                f"{100 * share:g} % of the {_WORDS[goal]} cannot be removed.",
                found=f"At most {most:.0f} % can: a channel of each layer stays{stays}.",
                cure="Ask for less" + (", or round less (multiple=1)." if multiple > 1 else "."),
            )
        _, queue, chunk, saving = best
        queue.gone += len(chunk)
        tally.remove(chunk)
        left -= saving
        cut.update(chunk.tolist())
    return cut


def _queue(family: Family, ranked: Mapping[int, float]) -> _Queue:
    figures = np.array([ranked[channel] for channel in family.channels.tolist()])
    # dead filters count a little: what stays is divided by
    figures += 1e-6 * figures.mean() or 1.0
    order = np.argsort(figures, kind="stable")
    fixed = family.fixed * figures.mean()
    gone = np.concatenate([[0.0], np.cumsum(figures[order])])
    kept = np.maximum(gone[-1] + fixed - gone, 1e-9 * gone[-1])
    return _Queue(family=family, channels=family.channels[order], kept=kept)

"""Average precision of each label of a multi-label task, averaged over the labels that occur.

The columns are `target`, `[n, k]` flags, and `score`, `[n, k]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns
from edgekit.records import Array


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One label's samples, the highest score first.

    Attributes:
        order: `[n]`, samples by falling score.
        hit: `[n]`, which of these have the label.
        ends: `[t]`, the last place of each different score.
    """

    order: Array
    hit: Array
    ends: Array

    @classmethod
    def of(cls, score: Array, target: Array) -> _Ranking:
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
        return cls(order, target[order].astype(bool), ends)

    def steps(self, counts: Array) -> tuple[Array, Array, Array]:
        """Return samples and hits `[..., t]` down to each score, and the hits at it."""
        ranked = counts[..., self.order]
        named = ranked.cumsum(axis=-1)[..., self.ends]
        reached = (ranked * self.hit).cumsum(axis=-1)[..., self.ends]
        return named, reached, np.diff(reached, axis=-1, prepend=0)

    def area(self, counts: Array) -> Array:
        """Return the average precision, `[...]`, of samples counted `[..., n]` times."""
        named, reached, found = self.steps(counts)
        area: Array = (found * (reached / np.maximum(named, 1))).sum(axis=-1)
        return area / np.maximum(reached[..., -1], 1)

    def gradient(self) -> Array:
        """Return the derivative of the area by each sample's count, `[n]`."""
        named, reached, found = self.steps(np.ones(len(self.order), np.int64))
        area = float(self.area(np.ones(len(self.order), np.int64)))
        below_hit = found * (named - reached) / named**2
        below_miss = -found * reached / named**2
        of_hit, of_miss = (x[::-1].cumsum()[::-1] for x in (below_hit, below_miss))
        of_hit = of_hit + reached / named - area
        place = np.searchsorted(self.ends, np.arange(len(self.order)))
        gradient = np.empty(len(self.order))
        gradient[self.order] = np.where(self.hit, of_hit[place], of_miss[place]) / reached[-1]
        return gradient


def _rankings(columns: Columns) -> list[_Ranking]:
    target, score = columns["target"], columns["score"]
    return [_Ranking.of(score[:, i], target[:, i]) for i in np.flatnonzero(target.any(axis=0))]


def _mean(rankings: list[_Ranking], counts: Array) -> Array:
    """Return the mean over the labels that occur among samples counted `[..., n]` times."""
    areas = np.stack([one.area(counts) for one in rankings], axis=-1)
    present = np.stack([counts[..., one.order[one.hit]].any(axis=-1) for one in rankings], axis=-1)
    mean: Array = areas.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return mean


def value(columns: Columns) -> float:
    """Return the mean of the labels' average precisions."""
    return float(_mean(_rankings(columns), np.ones(len(columns["target"]), np.int64)))


def interval(columns: Columns) -> intervals.Interval:
    """Return its interval, by a bootstrap over samples."""
    rankings = _rankings(columns)
    low, high = _bootstrap(
        columns,
        lambda counts: _mean(rankings, counts),
        np.mean([one.gradient() for one in rankings], axis=0),
    )
    slack = _unseen(columns) if low == high else 0.0
    return max(0.0, low - slack), min(1.0, high + slack)


def paired(reference: Columns, variant: Columns) -> intervals.Interval:
    """Return the interval of the loss on the same samples."""
    if np.array_equal(reference["score"], variant["score"]):
        return 0.0, 0.0
    before, after = _rankings(reference), _rankings(variant)
    slopes = [np.mean([one.gradient() for one in side], axis=0) for side in (before, after)]
    low, high = _bootstrap(
        reference,
        lambda counts: _mean(before, counts) - _mean(after, counts),
        slopes[0] - slopes[1],
    )
    slack = _unseen(reference) if low == high else 0.0
    return low - slack, high + slack


def _bootstrap(
    columns: Columns, statistic: Callable[[Array], Array], gradient: Array
) -> intervals.Interval:
    """Resample samples, each of which is a kind of its own.

    Ranking one of a label takes as long as counting four.
    """
    n, k = columns["target"].shape
    return intervals.count_bootstrap(
        np.ones(n, np.int64), np.zeros(n, np.int64), statistic, gradient, cells=4 * n * k
    )


def _unseen(columns: Columns) -> float:
    """Return how much may hide where not a single pair of samples speaks against the scores."""
    target = columns["target"].astype(bool)
    present = np.flatnonzero(target.any(axis=0))
    slacks = [intervals.unseen(target[:, i]) for i in present if not target[:, i].all()]
    return float(np.sqrt(np.sum(np.square(slacks)))) / len(present)

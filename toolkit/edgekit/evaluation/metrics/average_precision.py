"""Average precision: the area under the steps of the precision-recall curve of one class.

Where samples have any number of labels, the mean over the labels (`label_ranks`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics import label_ranks
from edgekit.evaluation.metrics.label_counts import has_labels
from edgekit.evaluation.metrics.metric import Columns, Metric, lacks_either_kind
from edgekit.records import Array


@dataclass(frozen=True, slots=True)
class _Ranks:
    """Samples that have their kind and their place in every model's ranking in common.

    A place is the number of different scores of samples of class 1 that are higher: what lies
    between two of these thresholds may be in any order.

    Attributes:
        hit: `[c]`, whether they are of class 1.
        places: One `[c]` for each model.
        thresholds: Number of thresholds, one for each model; a place at it is below them all.
        counts: `[c]` samples of each kind.
    """

    hit: Array
    places: tuple[Array, ...]
    thresholds: tuple[int, ...]
    counts: Array

    @classmethod
    def of(cls, *models: Columns) -> _Ranks:
        hit = models[0]["target"].astype(bool)
        code = hit.astype(np.int64)
        thresholds = []
        for columns in models:
            steps = np.unique(columns["score"][hit])
            place = len(steps) - np.searchsorted(steps, columns["score"], side="right")
            thresholds.append(len(steps))
            code = code * (len(steps) + 1) + place
        codes, counts = np.unique(code, return_counts=True)
        places: list[Array] = []
        for size in reversed(thresholds):
            codes, last = np.divmod(codes, size + 1)
            places.insert(0, last)
        return cls(codes.astype(bool), tuple(places), tuple(thresholds), counts)

    def steps(self, counts: Array, model: int) -> tuple[Array, Array]:
        """Return how many samples `[..., g]` reach each threshold, and how many are hits at it."""
        place, size = self.places[model], self.thresholds[model]
        order = np.argsort(place, kind="stable")
        order = order[place[order] < size]
        hits = order[self.hit[order]]

        def at_thresholds(some: Array) -> Array:
            # Every threshold has a hit, so that none is empty.
            starts = np.searchsorted(place[some], np.arange(size))
            sums: Array = np.add.reduceat(counts[..., some], starts, axis=-1)
            return sums

        return at_thresholds(order).cumsum(axis=-1), at_thresholds(hits)

    def area(self, counts: Array, model: int) -> Array:
        """Return the average precision, `[...]`, of counts `[..., c]`."""
        named, found = self.steps(counts, model)
        precision = found.cumsum(axis=-1) / np.maximum(named, 1)
        area: Array = (found * precision).sum(axis=-1) / found.sum(axis=-1)
        return area

    def gradient(self, model: int) -> Array:
        """Return the derivative of the area by each count, `[c]`, the number of hits fixed."""
        named, found = self.steps(self.counts, model)
        reached = found.cumsum()
        below_hit = found * (named - reached) / named**2
        below_miss = -found * reached / named**2
        # Of all thresholds from a place on; 0 for a place below them all.
        of_hit, of_miss = (np.append(x[::-1].cumsum()[::-1], 0.0) for x in (below_hit, below_miss))
        of_hit += np.append(reached / named, 0.0)
        place = self.places[model]
        gradient: Array = np.where(self.hit, of_hit[place], of_miss[place]) / found.sum()
        return gradient


def _value(columns: Columns) -> float:
    """Return `sum over thresholds of (recall - recall before) * precision`.

    Thresholds are the different scores, the highest first; ties are one step. There is no
    interpolation between steps, which would flatter (J. Davis, M. Goadrich, "The relationship
    between precision-recall and ROC curves", ICML 2006).
    """
    if has_labels(columns):
        return label_ranks.value(columns)
    ranks = _Ranks.of(columns)
    return float(ranks.area(ranks.counts[None], 0)[0])


def _interval(columns: Columns) -> intervals.Interval:
    if has_labels(columns):
        return label_ranks.interval(columns)
    ranks = _Ranks.of(columns)
    low, high = intervals.count_bootstrap(
        ranks.counts,
        ranks.hit.astype(np.int64),
        lambda counts: ranks.area(counts, 0),
        ranks.gradient(0),
    )
    slack = intervals.unseen(columns["target"].astype(bool)) if low == high else 0.0
    return max(0.0, low - slack), min(1.0, high + slack)


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    if has_labels(reference):
        return label_ranks.paired(reference, variant)
    if np.array_equal(reference["score"], variant["score"]):
        return 0.0, 0.0
    ranks = _Ranks.of(reference, variant)
    low, high = intervals.count_bootstrap(
        ranks.counts,
        ranks.hit.astype(np.int64),
        lambda counts: ranks.area(counts, 0) - ranks.area(counts, 1),
        ranks.gradient(0) - ranks.gradient(1),
    )
    slack = intervals.unseen(reference["target"].astype(bool)) if low == high else 0.0
    return low - slack, high + slack


def _guess(columns: Columns) -> float:
    """Return the share of class 1, or the mean of the labels' shares."""
    shares = np.atleast_1d(np.mean(columns["target"] == 1, axis=0))
    return float(shares[shares > 0].mean()) if shares.any() else 0.0


AVERAGE_PRECISION = Metric(
    name="average_precision",
    title="average precision",
    meaning="The precision at each score of a sample of class 1, averaged over these: how clean "
    "the list is that begins with the highest scores. Guessing gets the share of class 1. With "
    "several labels, the mean over the labels.",
    unit="fraction",
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    guess=_guess,
    lacks=lambda columns: None if has_labels(columns) else lacks_either_kind(columns),
)

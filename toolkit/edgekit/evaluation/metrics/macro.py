"""Figures of a class by its counts, averaged over the classes: F1, precision.

The mean is over the classes that occur among the targets, as with balanced accuracy. Samples are
counted by target and prediction: what is resampled, a class at a time, is a table of counts.
Samples with any number of labels are counted by label (`label_counts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics import label_counts
from edgekit.evaluation.metrics.figure import Figure
from edgekit.evaluation.metrics.metric import Columns, Metric, shrink_by_count
from edgekit.records import Array


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Samples that have target and predictions in common.

    Classes count from 0 among those that occur; a prediction of any other is `k`.

    Attributes:
        k: Number of classes.
        target: `[c]`.
        predicted: One `[c]` for each model.
        counts: `[c]` samples of each kind.
    """

    k: int
    target: Array
    predicted: tuple[Array, ...]
    counts: Array

    @classmethod
    def of(cls, *models: Columns) -> _Kinds:
        classes, target = np.unique(models[0]["target"], return_inverse=True)
        k = len(classes)
        code = target.astype(np.int64)
        for columns in models:
            place = np.searchsorted(classes, columns["predicted"]).clip(max=k - 1)
            known = classes[place] == columns["predicted"]
            code = code * (k + 1) + np.where(known, place, k)
        codes, counts = np.unique(code, return_counts=True)
        predicted: list[Array] = []
        for _ in models:
            codes, last = np.divmod(codes, k + 1)
            predicted.insert(0, last)
        return cls(k, codes, tuple(predicted), counts)

    @property
    def sizes(self) -> Array:
        return np.bincount(self.target, self.counts, minlength=self.k)

    def tallies(self, counts: Array, model: int) -> tuple[Array, Array]:
        """Return hits and predictions of each class, `[..., k]`, of counts `[..., c]`."""
        predicted = self.predicted[model]
        right = np.flatnonzero(predicted == self.target)
        known = np.flatnonzero(predicted < self.k)
        return (
            _sum_by(counts[..., right], self.target[right], self.k),
            _sum_by(counts[..., known], predicted[known], self.k),
        )

    def mean(self, figure: Figure, counts: Array, model: int) -> Array:
        """Return the figure's mean over classes, `[...]`, of counts `[..., c]`."""
        hits, named = self.tallies(counts, model)
        mean: Array = figure.value(hits, self.sizes, named).mean(axis=-1)
        return mean

    def gradient(self, figure: Figure, model: int) -> Array:
        """Return the derivative of that mean by each count, `[c]`."""
        hits, named = self.tallies(self.counts, model)
        by_hits, by_named = figure.slopes(hits, self.sizes, named)
        predicted = self.predicted[model]
        slope = np.append(by_named, 0.0)[predicted]
        slope += np.where(predicted == self.target, by_hits[self.target], 0.0)
        gradient: Array = slope / self.k
        return gradient


def _sum_by(counts: Array, groups: Array, k: int) -> Array:
    """Sum the last axis by group."""
    sums = np.zeros((*counts.shape[:-1], k))
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    if len(present):
        sums[..., present] = np.add.reduceat(counts[..., order], starts, axis=-1)
    return sums


def _hidden_loss(figure: Figure, kinds: _Kinds, quiet: Array) -> float:
    """Return how much the mean may fall by losses that no sample of the `quiet` classes shows.

    Of each such class a share may be lost though none was (`intervals.hidden_share`); it is taken
    to be given to the class that suffers most. The losses are independent: their squares add up,
    as in Zou et al. 2009, eq. 3 (`balanced_accuracy`).
    """
    sizes = kinds.sizes
    hits, named = kinds.tallies(kinds.counts, 0)
    now = figure.value(hits, sizes, named)
    lost = np.minimum(intervals.hidden_share(sizes) * sizes, hits)
    own = now - figure.value(hits - lost, sizes, named - lost)
    others = now - figure.value(hits, sizes, named + lost[:, None])
    np.fill_diagonal(others, 0.0)
    return float(np.sqrt(np.sum((own + others.max(axis=1))[quiet] ** 2))) / kinds.k


def _hidden_gain(figure: Figure, kinds: _Kinds, quiet: Array) -> float:
    """Return how much the mean may rise by hits that no sample of the `quiet` classes shows."""
    sizes = kinds.sizes
    hits, named = kinds.tallies(kinds.counts, 0)
    won = np.minimum(intervals.hidden_share(sizes) * sizes, sizes - hits)
    gain = figure.value(hits + won, sizes, named + won) - figure.value(hits, sizes, named)
    return float(np.sqrt(np.sum(gain[quiet] ** 2))) / kinds.k


def macro_metric(
    *, name: str, title: str, meaning: str, unit: Literal["percent", "fraction"], figure: Figure
) -> Metric:
    """Return the metric that is the mean of a figure over the classes that occur."""

    def value(columns: Columns) -> float:
        if label_counts.has_labels(columns):
            return label_counts.value(figure, columns)
        kinds = _Kinds.of(columns)
        return float(kinds.mean(figure, kinds.counts[None], 0)[0])

    def interval(columns: Columns) -> intervals.Interval:
        if label_counts.has_labels(columns):
            return label_counts.interval(figure, columns)
        kinds = _Kinds.of(columns)
        middle = float(kinds.mean(figure, kinds.counts[None], 0)[0])
        low, high = intervals.count_bootstrap(
            kinds.counts,
            kinds.target,
            lambda counts: kinds.mean(figure, counts, 0),
            kinds.gradient(figure, 0),
        )
        hits, _ = kinds.tallies(kinds.counts, 0)
        loss = _hidden_loss(figure, kinds, hits == kinds.sizes)
        gain = _hidden_gain(figure, kinds, hits == 0)
        return (
            max(0.0, middle - float(np.hypot(middle - low, loss))),
            min(1.0, middle + float(np.hypot(high - middle, gain))),
        )

    def paired(reference: Columns, variant: Columns) -> intervals.Interval:
        if label_counts.has_labels(reference):
            return label_counts.paired(figure, reference, variant)
        kinds = _Kinds.of(reference, variant)

        def loss(counts: Array) -> Array:
            return kinds.mean(figure, counts, 0) - kinds.mean(figure, counts, 1)

        middle = float(loss(kinds.counts[None])[0])
        low, high = intervals.count_bootstrap(
            kinds.counts,
            kinds.target,
            loss,
            kinds.gradient(figure, 0) - kinds.gradient(figure, 1),
        )
        before, after = kinds.predicted
        changed = np.bincount(kinds.target, before != after, minlength=kinds.k)
        hidden = _hidden_loss(figure, kinds, changed == 0)
        return (
            middle - float(np.hypot(middle - low, hidden)),
            middle + float(np.hypot(high - middle, hidden)),
        )

    def guess(columns: Columns) -> float:
        """Return what the largest class gets for all samples; the others get 0."""
        if label_counts.has_labels(columns):
            return label_counts.guess(figure, columns)
        _, sizes = np.unique(columns["target"], return_counts=True)
        largest = sizes.max()
        return float(figure.value(largest, largest, sizes.sum())) / len(sizes)

    return Metric(
        name=name,
        title=title,
        meaning=meaning,
        unit=unit,
        value=value,
        interval=interval,
        paired_interval=paired,
        extrapolate=shrink_by_count,
        guess=guess,
    )

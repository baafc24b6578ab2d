"""Figures of each label of a multi-label task by its counts, averaged over the labels that occur.

The columns are `target` and `predicted`, `[n, k]` flags. Labels of one sample belong together:
samples are resampled, and each brings all its labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.figure import Figure
from edgekit.evaluation.metrics.metric import Columns
from edgekit.records import Array


def has_labels(columns: Columns) -> bool:
    """Whether a sample has any number of labels, instead of one class."""
    return columns["target"].ndim > 1


@dataclass(frozen=True, slots=True)
class _Tallies:
    """Counts of the labels that occur, each `[k]`, of `n` samples."""

    n: int
    hits: Array
    sizes: Array
    named: Array

    @classmethod
    def of(cls, columns: Columns) -> _Tallies:
        target, predicted = (columns[name].astype(bool) for name in ("target", "predicted"))
        present = target.any(axis=0)
        target, predicted = target[:, present], predicted[:, present]
        hits = target & predicted
        return cls(len(target), *(flags.sum(axis=0) for flags in (hits, target, predicted)))

    def unseen_loss(self, figure: Figure, found: Array, quiet: Array) -> float:
        """Return how much the mean may fall by losses that no sample shows.

        Of a label's samples a share may be missed though none was, and of the others a share may
        be false alarms (`intervals.hidden_share`). They are independent: their squares add up, as
        in Zou et al. 2009, eq. 3 (`balanced_accuracy`).

        Args:
            figure: What is averaged.
            found: `[k]`, labels whose samples show no loss.
            quiet: `[k]`, labels whose other samples show no false alarm.
        """
        hits, sizes, named, others = self.hits, self.sizes, self.named, self.n - self.sizes
        now = figure.value(hits, sizes, named)
        missed = np.minimum(intervals.hidden_share(sizes) * sizes, hits)
        alarms = np.minimum(intervals.hidden_share(others) * others, others - (named - hits))
        below = now - figure.value(hits - missed, sizes, named - missed)
        above = now - figure.value(hits, sizes, named + alarms)
        return _mean_of_independent(np.where(found, below, 0.0), np.where(quiet, above, 0.0))

    def unseen_gain(self, figure: Figure, lost: Array) -> float:
        """Return how much the mean may rise by hits that no sample of the `lost` labels shows."""
        hits, sizes, named = self.hits, self.sizes, self.named
        won = np.minimum(intervals.hidden_share(sizes) * sizes, sizes - hits)
        gain = figure.value(hits + won, sizes, named + won) - figure.value(hits, sizes, named)
        return _mean_of_independent(np.where(lost, gain, 0.0))


def value(figure: Figure, columns: Columns) -> float:
    """Return the mean of the figure over the labels that occur."""
    return float(_mean(figure, _counts(columns).sum(axis=0)))


def interval(figure: Figure, columns: Columns) -> intervals.Interval:
    """Return its interval: a bootstrap over samples, and what they do not show."""
    counts, tallies, middle = _counts(columns), _Tallies.of(columns), value(figure, columns)
    low, high = intervals.bootstrap(counts, lambda means: _mean(figure, means))
    loss = tallies.unseen_loss(figure, tallies.hits == tallies.sizes, tallies.named == tallies.hits)
    gain = tallies.unseen_gain(figure, tallies.hits == 0)
    return (
        max(0.0, middle - float(np.hypot(middle - low, loss))),
        min(1.0, middle + float(np.hypot(high - middle, gain))),
    )


def paired(figure: Figure, reference: Columns, variant: Columns) -> intervals.Interval:
    """Return the interval of the loss on the same samples."""
    counts = np.concatenate([_counts(reference), _counts(variant)], axis=1)

    def loss(means: Array) -> Array:
        before, after = np.split(means, 2, axis=-1)
        return _mean(figure, before) - _mean(figure, after)

    middle = value(figure, reference) - value(figure, variant)
    low, high = intervals.bootstrap(counts, loss)
    target = reference["target"].astype(bool)
    changed = reference["predicted"] != variant["predicted"]
    present = target.any(axis=0)
    hidden = _Tallies.of(reference).unseen_loss(
        figure,
        ~(changed & target).any(axis=0)[present],
        ~(changed & ~target).any(axis=0)[present],
    )
    return (
        middle - float(np.hypot(middle - low, hidden)),
        middle + float(np.hypot(high - middle, hidden)),
    )


def guess(figure: Figure, columns: Columns) -> float:
    """Return what all labels for all samples get: no label at all would find nothing."""
    sizes = columns["target"].astype(bool).sum(axis=0)
    sizes = sizes[sizes > 0]
    return float(figure.value(sizes, sizes, np.full(len(sizes), len(columns["target"]))).mean())


def _counts(columns: Columns) -> Array:
    """Return hits, labels and predictions of each sample, int64 `[n, 3 k]`."""
    target, predicted = (columns[name].astype(np.int64) for name in ("target", "predicted"))
    return np.concatenate([target * predicted, target, predicted], axis=1)


def _mean(figure: Figure, counts: Array) -> Array:
    """Return the figure's mean over the labels that occur, `[...]`, of counts `[..., 3 k]`."""
    hits, sizes, named = np.split(counts, 3, axis=-1)
    present = sizes > 0
    each = np.where(present, figure.value(hits, np.where(present, sizes, 1.0), named), 0.0)
    mean: Array = each.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return mean


def _mean_of_independent(*parts: Array) -> float:
    return float(np.sqrt(sum(np.sum(part**2) for part in parts))) / len(parts[0])

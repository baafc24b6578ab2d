"""Binary accuracy of a multi-label task: the share of all labels of all samples that are right."""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.records import Array


def _right(columns: Columns) -> Array:
    right: Array = columns["predicted"] == columns["target"]
    return right


def _value(columns: Columns) -> float:
    return float(_right(columns).mean())


def _unseen(quiet: Array, n: int) -> float:
    """Return how much may hide in `quiet` labels `[k]`, of which `n` samples show no change.

    The share of `intervals.hidden_share` in each; independent, so that squares add up (Zou et al.
    2009, eq. 3, see `balanced_accuracy`).
    """
    return float(intervals.hidden_share(n) * np.sqrt(quiet.sum()) / len(quiet))


def _interval(columns: Columns) -> intervals.Interval:
    right = _right(columns)
    n, k = right.shape
    middle = _value(columns)
    found = right.sum(axis=0)
    low, high = intervals.bootstrap(
        right.sum(axis=1, keepdims=True), lambda means: means[..., 0] / k
    )
    return (
        max(0.0, middle - float(np.hypot(middle - low, _unseen(found == n, n)))),
        min(1.0, middle + float(np.hypot(high - middle, _unseen(found == 0, n)))),
    )


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    before, after = _right(reference), _right(variant)
    n, k = before.shape
    counts = np.stack([before.sum(axis=1), after.sum(axis=1)], axis=1)
    low, high = intervals.bootstrap(counts, lambda means: (means[..., 0] - means[..., 1]) / k)
    middle = _value(reference) - _value(variant)
    hidden = _unseen((before == after).all(axis=0), n)
    return (
        middle - float(np.hypot(middle - low, hidden)),
        middle + float(np.hypot(high - middle, hidden)),
    )


def _guess(columns: Columns) -> float:
    """Return what the commoner value of each label gets."""
    shares = columns["target"].mean(axis=0)
    return float(np.maximum(shares, 1 - shares).mean())


BINARY_ACCURACY = Metric(
    name="binary_accuracy",
    title="binary accuracy",
    meaning="The share of right decisions over all labels of all samples (1 - Hamming loss). Where "
    "most labels are absent, a model that gives none has a high one.",
    unit="percent",
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    guess=_guess,
)

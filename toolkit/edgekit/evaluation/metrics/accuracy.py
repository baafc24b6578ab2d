"""Accuracy: the share of samples whose class, or whose labels all, are right."""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Extrapolation, Metric
from edgekit.records import Array, Drop


def _right(columns: Columns) -> Array:
    right = np.asarray(columns["predicted"] == columns["target"])
    whole: Array = np.asarray(right.reshape(len(right), -1).all(axis=1))
    return whole


def _value(columns: Columns) -> float:
    return float(np.mean(_right(columns)))


def _interval(columns: Columns) -> intervals.Interval:
    right = _right(columns)
    return intervals.wilson(int(right.sum()), len(right))


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    return paired_shares(_right(reference), _right(variant))


def paired_shares(before: Array, after: Array) -> intervals.Interval:
    """Return the interval of what is lost of a share, of flags `[n]` on the same samples."""
    lost, won = int(np.sum(before & ~after)), int(np.sum(~before & after))
    return intervals.tango(lost, won, len(before))


def _guess(columns: Columns) -> float:
    """Return the share of the largest class, or of the most frequent set of labels."""
    _, counts = np.unique(columns["target"], axis=0, return_counts=True)
    return float(counts.max() / counts.sum())


def _extrapolate(drop: Drop, n: int) -> Extrapolation:
    """Return Tango's intervals of proportionally more lost and won samples."""
    value, high = drop.value, drop.ci95[1]
    ahead = max(0.0, -value * n)
    # The number of samples that the variant alone gets right makes the interval as wide as it is.
    won = intervals.crossing(
        lambda w: high - intervals.tango(w + value * n, w, n)[1], ahead, (n + ahead) / 2
    )
    return lambda more: intervals.tango((won + value * n) * more, won * more, n * more)


ACCURACY = Metric(
    name="accuracy",
    title="accuracy",
    unit="percent",
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    extrapolate=_extrapolate,
    guess=_guess,
)

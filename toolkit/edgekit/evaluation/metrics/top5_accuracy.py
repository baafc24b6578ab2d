"""Top-5 accuracy: the share of samples whose class is among the five of the highest scores."""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.accuracy import paired_shares
from edgekit.evaluation.metrics.metric import Columns, Metric, shrink_by_count
from edgekit.records import Array

BEST = 5


def _found(columns: Columns) -> Array:
    found: Array = columns["rank"] < BEST
    return found


def _interval(columns: Columns) -> intervals.Interval:
    found = _found(columns)
    return intervals.wilson(int(found.sum()), len(found))


def _guess(columns: Columns) -> float:
    """Return the share of the five largest classes."""
    _, counts = np.unique(columns["target"], return_counts=True)
    return float(np.sort(counts)[-BEST:].sum() / counts.sum())


TOP5_ACCURACY = Metric(
    name="top5_accuracy",
    title="top-5 accuracy",
    meaning="The share of samples whose class is among the five with the highest scores.",
    unit="percent",
    value=lambda columns: float(_found(columns).mean()),
    interval=_interval,
    paired_interval=lambda reference, variant: paired_shares(_found(reference), _found(variant)),
    extrapolate=shrink_by_count,
    guess=_guess,
)

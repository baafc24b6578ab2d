"""Balanced accuracy: the mean of the classes' recalls, so that a rare class counts as any other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric, shrink_by_count
from edgekit.records import Array


def _classes(columns: Columns) -> Iterator[Array]:
    """Yield for each class that occurs which samples are of it."""
    for label in np.unique(columns["target"]):
        yield columns["target"] == label


def _value(columns: Columns) -> float:
    right = columns["predicted"] == columns["target"]
    return float(np.mean([np.mean(right[of_class]) for of_class in _classes(columns)]))


def _mean_interval(values: list[float], parts: list[intervals.Interval]) -> intervals.Interval:
    """Return the interval of the mean of independent estimates from the interval of each.

    G. Zou, W. Huang, X. Zhang, "A note on confidence interval estimation for a linear function of
    binomial proportions", Computational Statistics & Data Analysis 53 (2009), eq. 3: the squared
    distances of the ends from their estimates add up.
    """
    count = len(values)
    middle = sum(values) / count
    below = sum((value - low) ** 2 for value, (low, _) in zip(values, parts, strict=True)) ** 0.5
    above = sum((high - value) ** 2 for value, (_, high) in zip(values, parts, strict=True)) ** 0.5
    return middle - below / count, middle + above / count


def _interval(columns: Columns) -> intervals.Interval:
    right = columns["predicted"] == columns["target"]
    counts = [(int(right[of].sum()), int(of.sum())) for of in _classes(columns)]
    low, high = _mean_interval(
        [found / n for found, n in counts], [intervals.wilson(found, n) for found, n in counts]
    )
    return max(0.0, low), min(1.0, high)


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    before = reference["predicted"] == reference["target"]
    after = variant["predicted"] == variant["target"]
    counts = [
        (int(np.sum(before & ~after & of)), int(np.sum(~before & after & of)), int(of.sum()))
        for of in _classes(reference)
    ]
    return _mean_interval(
        [(lost - won) / n for lost, won, n in counts],
        [intervals.tango(lost, won, n) for lost, won, n in counts],
    )


def _guess(columns: Columns) -> float:
    """Return what any one class for all samples gets: 1 / number of classes that occur."""
    return 1 / len(np.unique(columns["target"]))


BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    title="balanced accuracy",
    meaning="The mean of the classes' recalls: a class that is rare in the test split counts as "
    "much as any other.",
    unit="percent",
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    extrapolate=shrink_by_count,
    guess=_guess,
)

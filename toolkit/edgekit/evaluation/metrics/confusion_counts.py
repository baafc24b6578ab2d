"""Figures of a segmentation, from the pixels that each picture has of every pair of classes.

The column is `confusion`, `[n, k, k]` pixels: true class, predicted class. Pixels of one picture
belong together: pictures are resampled, and their counts summed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric, Unit
from edgekit.records import Array

Counts = Callable[[Columns], Array]
"""Columns -> `[n, m]` counts of each picture."""
Statistic = Callable[[Array], Array]
"""`[..., m]` sums or means of these -> `[...]` figures."""


def tallies(columns: Columns) -> tuple[Array, Array, Array]:
    """Return hits, pixels of each class, and predictions of it, each `[n, k]`."""
    confusion = columns["confusion"]
    return np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2), confusion.sum(axis=1)


def iou(hits: Array, sizes: Array, named: Array) -> Array:
    """Return the intersection over union of each class, `hits / (sizes + named - hits)`."""
    union = sizes + named - hits
    each: Array = hits / np.where(union > 0, union, 1.0)
    return each


def counts_metric(
    *,
    name: str,
    title: str,
    meaning: str,
    unit: Unit,
    counts: Counts,
    statistic: Statistic,
    guess: Callable[[Columns], float],
) -> Metric:
    """Return the metric that is a function of counts summed over the pictures.

    The intervals are a bootstrap over pictures (`intervals.bootstrap`).
    """

    def paired(reference: Columns, variant: Columns) -> intervals.Interval:
        def loss(means: Array) -> Array:
            before, after = np.split(means, 2, axis=-1)
            return statistic(before) - statistic(after)

        both = np.concatenate([counts(reference), counts(variant)], axis=1)
        return intervals.bootstrap(both, loss)

    return Metric(
        name=name,
        title=title,
        meaning=meaning,
        unit=unit,
        value=lambda columns: float(statistic(counts(columns).sum(axis=0))),
        interval=lambda columns: intervals.bootstrap(counts(columns), statistic),
        paired_interval=paired,
        guess=guess,
    )

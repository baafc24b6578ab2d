"""Recall, macro: the mean over classes, or labels, of the share of its samples that are found.

Of one class a sample it is balanced accuracy, and has its intervals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics import label_counts
from edgekit.evaluation.metrics.balanced_accuracy import BALANCED_ACCURACY
from edgekit.evaluation.metrics.figure import Figure
from edgekit.evaluation.metrics.metric import Columns
from edgekit.records import Array


def _of_label(hits: Array, samples: Array, predictions: Array) -> Array:
    _ = predictions
    return hits / samples


def _slopes(hits: Array, samples: Array, predictions: Array) -> tuple[Array, Array]:
    _ = hits
    return 1 / samples, np.zeros_like(predictions, float)


_FIGURE = Figure(value=_of_label, slopes=_slopes)


def _value(columns: Columns) -> float:
    if label_counts.has_labels(columns):
        return label_counts.value(_FIGURE, columns)
    return BALANCED_ACCURACY.value(columns)


def _interval(columns: Columns) -> intervals.Interval:
    if label_counts.has_labels(columns):
        return label_counts.interval(_FIGURE, columns)
    return BALANCED_ACCURACY.interval(columns)


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    if label_counts.has_labels(reference):
        return label_counts.paired(_FIGURE, reference, variant)
    return BALANCED_ACCURACY.paired_interval(reference, variant)


def _guess(columns: Columns) -> float | None:
    """Return that of one class for all samples; with all labels for all nothing is missed."""
    if label_counts.has_labels(columns):
        return None
    return BALANCED_ACCURACY.guess(columns) if BALANCED_ACCURACY.guess else None


RECALL = replace(
    BALANCED_ACCURACY,
    name="recall",
    title="recall",
    meaning="The share of the samples of each class that are found, averaged over the classes. "
    "Several labels: a model that gives all of them has a perfect one.",
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    guess=_guess,
)

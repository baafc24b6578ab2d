"""Precision, macro: the mean over classes of the share of right predictions of a class.

The mean of the recalls is balanced accuracy.
"""

from __future__ import annotations

import numpy as np

from edgekit.evaluation.metrics.figure import Figure
from edgekit.evaluation.metrics.macro import macro_metric
from edgekit.records import Array


def _value(hits: Array, samples: Array, predictions: Array) -> Array:
    """Return `hits / predictions`; 0 for a class that is never predicted."""
    _ = samples
    return hits / np.maximum(predictions, NEVER)


def _slopes(hits: Array, samples: Array, predictions: Array) -> tuple[Array, Array]:
    _ = samples
    some = np.maximum(predictions, NEVER)
    return np.where(predictions > 0, 1 / some, 0.0), -hits / some**2


# Less than any number of samples that can be lost or won.
NEVER = 1e-9


PRECISION = macro_metric(
    name="precision",
    title="precision",
    meaning="The share of right ones among the predictions of each class, averaged over the "
    "classes; 0 for a class that is never predicted.",
    unit="percent",
    figure=Figure(value=_value, slopes=_slopes),
)

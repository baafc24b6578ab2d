"""F1, macro: the mean over classes of the harmonic mean of precision and recall."""

from __future__ import annotations

from edgekit.evaluation.metrics.figure import Figure
from edgekit.evaluation.metrics.macro import macro_metric
from edgekit.records import Array


def _value(hits: Array, samples: Array, predictions: Array) -> Array:
    """Return `2 hits / (samples + predictions)`."""
    value: Array = 2 * hits / (samples + predictions)
    return value


def _slopes(hits: Array, samples: Array, predictions: Array) -> tuple[Array, Array]:
    both = samples + predictions
    return 2 / both, -2 * hits / both**2


F1 = macro_metric(
    name="f1",
    title="F1",
    meaning="The harmonic mean of precision and recall of each class, averaged over the classes: "
    "misses and false alarms of a rare class count as much as those of any other.",
    unit="fraction",
    figure=Figure(value=_value, slopes=_slopes),
)

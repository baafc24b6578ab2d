"""The metrics, one module each. A new one is a module here and a line in `METRICS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from edgekit.errors import UsageError
from edgekit.evaluation.metrics.accuracy import ACCURACY
from edgekit.evaluation.metrics.average_precision import AVERAGE_PRECISION
from edgekit.evaluation.metrics.balanced_accuracy import BALANCED_ACCURACY
from edgekit.evaluation.metrics.binary_accuracy import BINARY_ACCURACY
from edgekit.evaluation.metrics.f1 import F1
from edgekit.evaluation.metrics.map import MAP
from edgekit.evaluation.metrics.map50 import MAP50
from edgekit.evaluation.metrics.mean_iou import MEAN_IOU
from edgekit.evaluation.metrics.metric import Columns, Metric, Unit
from edgekit.evaluation.metrics.pixel_accuracy import PIXEL_ACCURACY
from edgekit.evaluation.metrics.precision import PRECISION
from edgekit.evaluation.metrics.rmse import RMSE
from edgekit.evaluation.metrics.roc_auc import ROC_AUC

__all__ = [
    "ACCURACY",
    "AVERAGE_PRECISION",
    "BALANCED_ACCURACY",
    "BINARY_ACCURACY",
    "F1",
    "MAP",
    "MAP50",
    "MEAN_IOU",
    "METRICS",
    "PIXEL_ACCURACY",
    "PRECISION",
    "RMSE",
    "ROC_AUC",
    "Columns",
    "Metric",
    "Unit",
    "add_described_metric",
    "add_metric",
    "added_metric",
    "metric_named",
]

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        ACCURACY,
        BALANCED_ACCURACY,
        BINARY_ACCURACY,
        F1,
        PRECISION,
        AVERAGE_PRECISION,
        ROC_AUC,
        MEAN_IOU,
        PIXEL_ACCURACY,
        MAP,
        MAP50,
        RMSE,
    )
}


_ADDED: dict[str, Metric] = {}
"""Metrics of the user's own, for as long as the process lives."""


def add_metric(metric: Metric) -> None:
    """Make a metric of the user's own known by its name, as those of edgekit are.

    Scores carry the name of their metric; reports and drops look it up. `evaluate` does this for
    the metric that it is given. Adding a metric again replaces the earlier one.

    Raises:
        UsageError: edgekit has a metric of that name.
    """
    if metric.name in METRICS and METRICS[metric.name] is not metric:
        raise UsageError(
            f"edgekit has a metric named {metric.name!r} already.",
            hint="Give yours another name.",
        )
    if metric.name not in METRICS:
        _ADDED[metric.name] = metric


def added_metric(name: str) -> Metric | None:
    """A metric of the user's own; None where that name is edgekit's, or unknown."""
    return _ADDED.get(name)


def add_described_metric(
    name: str, *, title: str, unit: Unit, higher_is_better: bool, meaning: str = ""
) -> None:
    """Make a metric known that a report was scored by elsewhere: it is written, never computed.

    A metric of that name that this process computes stays.
    """
    if name in METRICS or (name in _ADDED and _ADDED[name].value is not _elsewhere):
        return
    _ADDED[name] = Metric(
        name=name,
        title=title,
        unit=unit,
        meaning=meaning,
        higher_is_better=higher_is_better,
        value=_elsewhere,
        interval=_elsewhere,
        paired_interval=_elsewhere,
    )


def _elsewhere(*_: Columns) -> NoReturn:
    raise UsageError(
        "This metric is known by a report only, and cannot be computed.",
        hint="Give the metric itself: evaluation.metrics.add_metric.",
    )


def metric_named(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        UsageError: There is none.
    """
    known = {**METRICS, **_ADDED}
    if name not in known:
        raise UsageError(f"Unknown metric: {name!r}.", hint=f"Known: {', '.join(known)}.")
    return known[name]

"""The metrics, one module each. A new one is a module here and a line in `METRICS`."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import UsageError
from edgekit.evaluation.metrics.accuracy import ACCURACY
from edgekit.evaluation.metrics.balanced_accuracy import BALANCED_ACCURACY
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.evaluation.metrics.rmse import RMSE
from edgekit.evaluation.metrics.roc_auc import ROC_AUC

__all__ = [
    "ACCURACY",
    "BALANCED_ACCURACY",
    "METRICS",
    "RMSE",
    "ROC_AUC",
    "Columns",
    "Metric",
    "metric_named",
]

METRICS: Mapping[str, Metric] = {
    metric.name: metric for metric in (ACCURACY, BALANCED_ACCURACY, RMSE, ROC_AUC)
}


def metric_named(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in METRICS:
        raise UsageError(f"Unknown metric: {name!r}.", hint=f"Known: {', '.join(METRICS)}.")
    return METRICS[name]

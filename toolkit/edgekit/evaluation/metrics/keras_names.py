"""What a Keras model was compiled with, as metrics of edgekit's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from edgekit.evaluation.metrics.average_precision import AVERAGE_PRECISION
from edgekit.evaluation.metrics.f1 import F1
from edgekit.evaluation.metrics.mae import MAE
from edgekit.evaluation.metrics.mean_iou import MEAN_IOU
from edgekit.evaluation.metrics.metric import Metric
from edgekit.evaluation.metrics.r2 import R2
from edgekit.evaluation.metrics.rmse import RMSE
from edgekit.evaluation.metrics.roc_auc import ROC_AUC
from edgekit.evaluation.metrics.top5_accuracy import BEST, TOP5_ACCURACY

# By Keras's names of functions and classes, without underscores. Accuracy is not among them: it is
# what most models are compiled with, whatever matters, and balanced accuracy is the default where a
# class is rare. Nor are precision and recall, each of which says nothing without the other.
_METRICS: Final[Mapping[str, Metric]] = {
    "auc": ROC_AUC,
    "f1score": F1,
    "topkcategoricalaccuracy": TOP5_ACCURACY,
    "sparsetopkcategoricalaccuracy": TOP5_ACCURACY,
    "meaniou": MEAN_IOU,
    "onehotmeaniou": MEAN_IOU,
    "mae": MAE,
    "meanabsoluteerror": MAE,
    "mse": RMSE,
    "meansquarederror": RMSE,
    "rootmeansquarederror": RMSE,
    "r2score": R2,
}
_LOSSES: Final[Mapping[str, Metric]] = {"mae": MAE, "meanabsoluteerror": MAE}


def metrics_compiled(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the metrics that a compile configuration of Keras names.

    Args:
        config: Its `metrics`, `weighted_metrics` and `loss`, as Keras saves them: names, objects
            with `class_name` and `config`, lists and dicts of these for several outputs.
    """
    found: dict[str, None] = {}
    for key in ("metrics", "weighted_metrics"):
        for name, options in _leaves(config.get(key)):
            metric = _METRICS.get(name)
            if metric is ROC_AUC and options.get("curve") == "PR":
                metric = AVERAGE_PRECISION
            if metric is TOP5_ACCURACY and options.get("k", BEST) != BEST:
                metric = None
            if metric is not None:
                found[metric.name] = None
    for name, _ in _leaves(config.get("loss")):
        if name in _LOSSES:
            found[_LOSSES[name].name] = None
    return tuple(found)


def _leaves(entry: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name, without underscores, and configuration of each metric or loss."""
    if isinstance(entry, str):
        yield entry.replace("_", "").lower(), {}
    elif isinstance(entry, list | tuple):
        for one in entry:
            yield from _leaves(one)
    elif isinstance(entry, Mapping) and "class_name" in entry:
        options = entry.get("config")
        if entry["class_name"] == "function" and isinstance(options, str):
            yield from _leaves(options)
        elif isinstance(entry["class_name"], str):
            name = entry["class_name"].rpartition(">")[2].lower()
            yield name, options if isinstance(options, Mapping) else {}
    elif isinstance(entry, Mapping):
        for one in entry.values():
            yield from _leaves(one)

"""Area under the ROC curve of a score: of anomalies, or of the second of two classes."""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric, lacks_either_kind


def _value(columns: Columns) -> float:
    areas, _ = intervals.delong(columns["score"][None], columns["target"])
    return float(areas[0])


def _interval(columns: Columns) -> intervals.Interval:
    flags = columns["target"]
    areas, covariance = intervals.delong(columns["score"][None], flags)
    return intervals.area_interval(float(areas[0]), float(covariance[0, 0]), flags)


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    first, second = reference["score"], variant["score"]
    if np.array_equal(first, second):
        return 0.0, 0.0
    flags = reference["target"]
    areas, covariance = intervals.delong(np.stack([first, second]), flags)
    return intervals.area_difference_interval(areas, covariance, flags)


ROC_AUC = Metric(
    name="roc_auc",
    title="ROC AUC",
    meaning="The chance that an anomaly (or a sample of class 1) gets a higher score than a normal "
    "one (of class 0): 1 is perfect, 0.5 is chance.",
    unit="fraction",
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    guess=lambda _: 0.5,
    lacks=lacks_either_kind,
)

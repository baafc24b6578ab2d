"""Mean average precision of boxes over the overlaps 0.5, 0.55, ... 0.95, as COCO defines it."""

from __future__ import annotations

from edgekit.evaluation.metrics.mean_average_precision import boxes_metric

MAP = boxes_metric(
    name="map", title="mAP", thresholds=10, overlap="0.5, 0.55, ... 0.95, each in turn,"
)

"""Mean average precision of boxes at an overlap of 0.5, as COCO and Pascal VOC define it."""

from __future__ import annotations

from edgekit.evaluation.metrics.mean_average_precision import boxes_metric

MAP50 = boxes_metric(name="map50", title="mAP at IoU 0.5", thresholds=1, overlap="0.5 at least")

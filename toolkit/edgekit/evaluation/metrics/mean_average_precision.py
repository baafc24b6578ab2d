"""Mean average precision of boxes, as COCO defines it; computed by the runner, here as there.

T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context" (2014), and the code of pycocotools.
The columns are `detections`, `[n, k, 6]`: corners, score, class; `hit` and `void`, `[n, k]`, as
`edgekit_runner.match_boxes` returns them; and `target`, `[n, m, 6]`: corners, class, ignored.
"""

from __future__ import annotations

import numpy as np

from edgekit.evaluation.intervals import Interval, wilson
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.records import Array
from edgekit_runner import (
    NO_BOX,
    Rankings,
    box_overlaps,
    detection_interval,
    iou_thresholds,
    mean_interval,
)

_CANDIDATES = 64
"""Boxes of a class that are tried as a constant answer."""


def rankings(columns: Columns, thresholds: int = 10, *, only: int | None = None) -> Rankings:
    """Return the detections of each class in falling score.

    Args:
        columns: As above.
        thresholds: How many of the overlaps from 0.5 to 0.95 count.
        only: The only class that counts; all where None.
    """
    detections, target = columns["detections"], columns["target"]
    if only is not None:
        others = target[..., 4] != only
        target = np.where(others[..., None], np.array(NO_BOX, np.float32), target)
    parts = (detections[..., 4], detections[..., 5], columns["hit"], columns["void"], target)
    return Rankings(parts, thresholds)


def counted_boxes(target: Array) -> Array:
    """Return which boxes `[n, m]` are there and not ignored."""
    counted: Array = (target[..., 4] >= 0) & (target[..., 5] == 0)
    return counted


def _paired(reference: Columns, variant: Columns, thresholds: int) -> Interval:
    if np.array_equal(reference["detections"], variant["detections"]):
        return 0.0, 0.0
    low, high = detection_interval(rankings(reference, thresholds), rankings(variant, thresholds))
    if low == high:
        n = len(reference["target"])
        slack = 1 - wilson(n, n)[0]
        return low - slack, high + slack
    return low, high


def _guess(columns: Columns, thresholds: int) -> float:
    """Return what the best box of each class gets that is the same in every picture.

    It is a hit where it overlaps a box of the picture enough. All have one score, so that the
    precision is that share of the pictures at every recall that is reached.
    """
    target = columns["target"]
    counted = counted_boxes(target)
    steps = iou_thresholds()[:thresholds]
    areas = []
    for kind in np.unique(target[..., 4][counted]):
        picture, place = np.nonzero(counted & (target[..., 4] == kind))
        boxes = target[picture, place, :4].astype(np.float64)
        some = np.unique(np.linspace(0, len(boxes) - 1, _CANDIDATES).astype(np.int64))
        overlaps = box_overlaps(boxes[some], boxes)
        starts = np.unique(picture, return_index=True)[1]
        best = np.maximum.reduceat(overlaps, starts, axis=1)
        hits = (best[..., None] >= steps).sum(axis=1)
        reached = np.floor(100 * hits / len(boxes)) + (hits > 0)
        areas.append(float((hits / len(target) * reached / 101).mean(axis=1).max()))
    return float(np.mean(areas)) if areas else 0.0


def _lacks(columns: Columns) -> tuple[str, str] | None:
    if counted_boxes(columns["target"]).any():
        return None
    return "a test picture with a box that counts", f"{len(columns['target']):,} without any"


def boxes_metric(*, name: str, title: str, thresholds: int, overlap: str) -> Metric:
    """Return the metric of so many of the overlaps from 0.5 to 0.95."""
    return Metric(
        name=name,
        title=title,
        meaning=f"Of each class the precision at 101 recalls, averaged, where a detection is right "
        f"if it overlaps a box of its class by {overlap} (intersection over union); then the "
        "mean over the classes. As COCO defines it.",
        unit="fraction",
        value=lambda columns: rankings(columns, thresholds).value(),
        interval=lambda columns: mean_interval(rankings(columns, thresholds)),
        paired_interval=lambda reference, variant: _paired(reference, variant, thresholds),
        guess=lambda columns: _guess(columns, thresholds),
        lacks=_lacks,
    )

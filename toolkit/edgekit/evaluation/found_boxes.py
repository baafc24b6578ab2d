"""What is shown of a detector: boxes in pictures, how good a picture's are, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edgekit.evaluation.metrics import Columns
from edgekit.evaluation.metrics.mean_average_precision import counted_boxes
from edgekit.evaluation.tasks.class_labels import label_of
from edgekit.evaluation.views import CURVES, precision_recall
from edgekit.records import TRUTH, Answer, Array, Box, PrecisionRecall
from edgekit_runner import as_boxes, box_overlaps, iou_thresholds, match_boxes

_AT_HALF: Final = 1
"""The bit of `match_boxes` that stands for an IoU of 0.5."""


def box_quality(columns: Columns, threshold: float) -> Array:
    """Return the F1 of each picture's boxes, `[n]`, 1 where none is there.

    The mean over the overlaps of mAP: a box that moved a little is not as good as one that did not.

    Args:
        columns: `detections`, `[n, k, 6]`, `hit` and `void`, `[n, k]`, and `target`, `[n, m, 6]`,
            as `match_boxes` takes and returns them.
        threshold: The least score of a box that counts.
    """
    shown = columns["detections"][..., 4] >= max(threshold, 0.0)
    sizes = counted_boxes(columns["target"]).sum(axis=1)
    every = []
    for place in range(len(iou_thresholds())):
        right, void = (shown & (((columns[name] >> place) & 1) > 0) for name in ("hit", "void"))
        both = (shown & ~void).sum(axis=1) + sizes
        every.append(np.where(both > 0, 2 * right.sum(axis=1) / np.maximum(both, 1), 1.0))
    quality: Array = np.mean(every, axis=0)
    return quality


def box_answers(
    detections: Mapping[str, Array],
    targets: Array,
    labels: Sequence[str] | None,
    threshold: float,
) -> tuple[tuple[Answer, ...], ...]:
    """Return the true boxes of each picture, and those that files find, matched at an IoU of 0.5.

    Args:
        detections: Name of the file -> `[k, most, 6]`: corners, score, class; score -1 is padding.
        targets: `[k, m, 5 or 6]`: corners, class, ignored; class -1 is padding.
        labels: Names of the classes.
        threshold: The least score of a box that counts.
    """
    targets = as_boxes(targets)
    counted = counted_boxes(targets)
    shown = {
        name: np.where(found[..., 4:5] >= max(threshold, 0.0), found, np.float32(-1))
        for name, found in detections.items()
    }
    matched = {name: match_boxes(found, targets) for name, found in shown.items()}
    qualities = {
        name: box_quality(
            {
                "detections": found,
                "hit": matched[name][0],
                "void": matched[name][1],
                "target": targets,
            },
            threshold,
        )
        for name, found in shown.items()
    }

    def truth(row: int) -> Answer:
        places = np.flatnonzero(counted[row])
        found = np.all(
            [_is_found(shown[n][row], matched[n][0][row], targets[row]) for n in shown], 0
        )
        boxes = tuple(
            _box(targets[row, k], targets[row, k, 4], labels, matched=bool(found[k]))
            for k in places.tolist()
        )
        return Answer(name=TRUTH, text=_counted(len(boxes), "box"), boxes=boxes)

    def answer(name: str, row: int) -> Answer:
        hit, void = ((flags[row] & _AT_HALF) > 0 for flags in matched[name])
        real = shown[name][row, :, 4] >= 0
        boxes = tuple(
            _box(
                shown[name][row, k],
                shown[name][row, k, 5],
                labels,
                score=float(shown[name][row, k, 4]),
                matched=bool(hit[k] | void[k]),
            )
            for k in np.flatnonzero(real).tolist()
        )
        right, size = int(hit.sum()), int(counted[row].sum())
        named = int((real & (hit | ~void)).sum())
        return Answer(
            name=name,
            text=f"{right} of {size} found, {named - right} wrong, F1 {qualities[name][row]:.2f}",
            quality=float(qualities[name][row]),
            boxes=boxes,
        )

    return tuple(
        (truth(row), *(answer(name, row) for name in shown)) for row in range(len(targets))
    )


def confused_boxes(columns: Columns, classes: int = 0) -> Array:
    """Count true boxes by class and by that of the likeliest detection on them, whatever it is.

    Args:
        columns: As `box_quality` takes them.
        classes: Number of classes, at least.

    Returns:
        int64 `[k, k]`, true class, predicted class; boxes that nothing overlaps by half are in no
        count.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for found, boxes in zip(columns["detections"], as_boxes(columns["target"]), strict=True):
        real, there = found[found[:, 4] >= 0], boxes[(boxes[:, 4] >= 0) & (boxes[:, 5] == 0)]
        near = box_overlaps(there[:, :4], real[:, :4]) >= iou_thresholds()[0]
        some = near.any(axis=1)
        if some.any():  # detections stand in falling score
            likeliest = real[near[some].argmax(axis=1), 5]
            pairs.append(np.stack([there[some, 4], likeliest], axis=1).astype(np.int64))
    every = np.concatenate(pairs)
    counts = np.zeros([max(classes, int(every.max(initial=-1)) + 1)] * 2, np.int64)
    np.add.at(counts, (every[:, 0], every[:, 1]), 1)
    return counts


def box_curves(columns: Columns, labels: Sequence[str] | None) -> tuple[PrecisionRecall, ...]:
    """Return the precision-recall curves at an IoU of 0.5 of the rarest classes.

    Args:
        columns: As `box_quality` takes them.
        labels: Names of the classes.
    """
    target, detections = columns["target"], columns["detections"]
    counted = counted_boxes(target)
    classes, sizes = np.unique(target[..., 4][counted].astype(np.int64), return_counts=True)
    hit, void = ((columns[name] & _AT_HALF) > 0 for name in ("hit", "void"))
    curves: list[PrecisionRecall] = []
    for place in np.argsort(sizes, kind="stable").tolist():
        ranked = (detections[..., 4] >= 0) & (detections[..., 5] == classes[place]) & (hit | ~void)
        if len(curves) < CURVES and ranked.any():
            curve = precision_recall(
                hit[ranked],
                detections[..., 4][ranked],
                label=label_of(int(classes[place]), labels),
                total=int(sizes[place]),
            )
            curves.append(curve)
    return tuple(curves)


def _is_found(detections: Array, hit: Array, targets: Array) -> Array:
    """Return which true boxes a hit overlaps most, `[m]`."""
    found = np.zeros(len(targets), np.bool_)
    for box in detections[(hit & _AT_HALF) > 0]:
        same = targets[:, 4] == box[5]
        overlaps = box_overlaps(box[None, :4], targets[:, :4])[0]
        found[np.where(same, overlaps, -1.0).argmax()] = True
    return found


def _box(
    corners: Array,
    number: Array,
    labels: Sequence[str] | None,
    *,
    matched: bool,
    score: float | None = None,
) -> Box:
    left, top, right, bottom = (float(corner) for corner in corners[:4])
    return Box(
        corners=(left, top, right, bottom),
        label=label_of(int(number), labels),
        number=int(number),
        score=score,
        matched=matched,
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'es' * (count != 1)}"

"""Anchors of a detector: sizes that are typical of the training boxes, and the head they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edgekit.errors import DataError
from edgekit.records import Array
from edgekit.training.zoo.ssd import anchors_of_cells, grids
from edgekit_runner import check_head

_ROUNDS: Final = 100
_DIGITS: Final = 4
"""Of a share of the picture: a hundredth of a pixel of one 100 pixels wide."""


def ssd_head(
    targets: Array,
    input_shape: tuple[int, ...],
    *,
    stride: int,
    levels: int,
    sizes: int | Sequence[Any],
) -> dict[str, Any]:
    """Return the detection head of the zoo's `ssd`, complete as `check_head` returns it.

    Where `sizes` leaves them open, anchors are typical sizes of the boxes, in which all classes
    count alike; the smallest go to the first level.

    Args:
        targets: `[n, m, 5 or 6]`: corners, class (below 0: no box), 1 for boxes to be ignored.
        input_shape: `[height, width, channels]`.
        stride: As of the architecture.
        levels: Likewise.
        sizes: Likewise.

    Raises:
        DataError: There are no boxes to take them from.
    """
    counts = anchors_of_cells(levels, sizes)
    given = [sizes] * levels if isinstance(sizes, int) else list(sizes)
    open_ = [count for count, one in zip(counts, given, strict=True) if isinstance(one, int)]
    if open_:
        typical = iter(_of_boxes(targets, sum(open_)).round(_DIGITS).tolist())
        given = [
            [next(typical) for _ in range(one)] if isinstance(one, int) else one for one in given
        ]
    return check_head(
        {
            "kind": "ssd",
            "boxes": "boxes",
            "scores": "scores",
            "activation": "none",  # the model ends in sigmoids
            "levels": [
                {"grid": grid, "sizes": each}
                for grid, each in zip(grids(input_shape, stride, levels), given, strict=True)
            ],
        }
    )


def _of_boxes(targets: Array, count: int) -> Array:
    boxes = targets.reshape(-1, targets.shape[-1]).astype(np.float64)
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    there = (boxes[:, 4] >= 0) & (wide > 0) & (high > 0)
    if boxes.shape[1] > 5:
        there &= boxes[:, 5] == 0
    if not there.any():
        raise DataError(
            "The training samples have no boxes.", hint="Add boxes, or declare sizes of anchors."
        )
    classes = boxes[there, 4].astype(np.int64)
    weights = 1 / np.bincount(classes)[classes]
    return typical_sizes(np.stack([wide, high], axis=1)[there], weights, count)


def typical_sizes(sizes: Array, weights: Array, count: int) -> Array:
    """Cluster the sizes of boxes by their overlap, as Redmon and Farhadi 2017 do (section 2).

    "YOLO9000: better, faster, stronger", arXiv 1612.08242: k-means with the distance
    `1 - IoU(box, centre)`, both boxes having one corner in common, so that small boxes count as
    much as large ones. Starts from quantiles of the area, and so needs no random numbers.

    Args:
        sizes: `[n, 2]`, width and height, above 0.
        weights: `[n]`, how much each counts.
        count: Number of clusters.

    Returns:
        `[count, 2]`, by rising area.

    Example:
        Two boxes of about 0.1 and one of 0.5:

        >>> boxes = np.array([[0.1, 0.1], [0.12, 0.1], [0.5, 0.5]])
        >>> typical_sizes(boxes, np.ones(3), 2).round(2).tolist()
        [[0.11, 0.1], [0.5, 0.5]]
    """
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    first = np.searchsorted(share, (np.arange(count) + 0.5) / count)
    centres = sizes[order][np.minimum(first, len(sizes) - 1)].astype(np.float64)
    for _ in range(_ROUNDS):
        nearest = overlaps(sizes, centres).argmax(axis=1)
        moved = centres.copy()
        for k in np.unique(nearest):
            moved[k] = np.average(sizes[nearest == k], axis=0, weights=weights[nearest == k])
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    return centres[np.argsort(centres.prod(axis=1), kind="stable")]


def overlaps(sizes: Array, others: Array) -> Array:
    """Return the IoU of boxes that share a corner, `[n, k]`, from sizes `[n, 2]` and `[k, 2]`."""
    inner = np.minimum(sizes[:, None], others[None]).prod(axis=2)
    union = sizes.prod(axis=1)[:, None] + others.prod(axis=1)[None] - inner
    found: Array = inner / union
    return found

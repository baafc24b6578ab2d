"""Anchors of a detector: sizes that are typical of the training boxes."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.records import Array

_ROUNDS: Final = 100


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

"""Mean intersection over union: of each class, over all pixels of the test split together.

M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", International
Journal of Computer Vision 111 (2015), section 4.1.3. The mean is over the classes that occur among
the targets.
"""

from __future__ import annotations

import numpy as np

from edgekit.evaluation.metrics.confusion_counts import counts_metric, iou, tallies
from edgekit.evaluation.metrics.metric import Columns
from edgekit.records import Array


def _counts(columns: Columns) -> Array:
    return np.concatenate(tallies(columns), axis=1)


def _mean(counts: Array) -> Array:
    """Return the mean over the classes that occur, `[...]`, of counts `[..., 3 k]`."""
    hits, sizes, named = np.split(counts, 3, axis=-1)
    present = sizes > 0
    each = np.where(present, iou(hits, sizes, named), 0.0)
    mean: Array = each.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return mean


def _guess(columns: Columns) -> float:
    """Return what the largest class gets for all pixels; the others get 0."""
    _, sizes, _ = tallies(columns)
    pixels = sizes.sum(axis=0)
    return float(pixels.max() / pixels.sum() / np.count_nonzero(pixels))


MEAN_IOU = counts_metric(
    name="mean_iou",
    title="mean IoU",
    meaning="Of each class the pixels that are rightly told, as a share of all pixels that are or "
    "are told to be of the class (intersection over union), averaged over the classes.",
    unit="fraction",
    counts=_counts,
    statistic=_mean,
    guess=_guess,
)

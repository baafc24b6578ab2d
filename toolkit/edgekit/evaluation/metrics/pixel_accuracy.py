"""Pixel accuracy: the share of all pixels of the test split whose class is right."""

from __future__ import annotations

import numpy as np

from edgekit.evaluation.metrics.confusion_counts import counts_metric, tallies
from edgekit.evaluation.metrics.metric import Columns
from edgekit.records import Array


def _counts(columns: Columns) -> Array:
    hits, sizes, _ = tallies(columns)
    return np.stack([hits.sum(axis=1), sizes.sum(axis=1)], axis=1)


def _share(counts: Array) -> Array:
    share: Array = counts[..., 0] / np.where(counts[..., 1] > 0, counts[..., 1], 1)
    return share


def _guess(columns: Columns) -> float:
    """Return the share of the largest class."""
    pixels = tallies(columns)[1].sum(axis=0)
    return float(pixels.max() / pixels.sum())


PIXEL_ACCURACY = counts_metric(
    name="pixel_accuracy",
    title="pixel accuracy",
    meaning="The share of pixels whose class is right. Where most pixels are background, a model "
    "that tells nothing else has a high one.",
    unit="percent",
    counts=_counts,
    statistic=_share,
    guess=_guess,
)

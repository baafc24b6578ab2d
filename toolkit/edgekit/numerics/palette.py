"""Palettes: a kernel of few distinct weights, for the compressor that meets it later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.choices import Initial
from edgekit.numerics.affine import Floats
from edgekit.records import Array

ROUNDS = 100
"""k-means in one dimension settles in far fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Distinct weights, and which of them stands where.

    Attributes:
        centroids: `[clusters]`, ascending but for a zero of its own, which comes first.
        codes: Indices into `centroids`, of the shape of the weights.
        holds_zero: Whether `centroids[0]` is the zero that exact zeros, and they alone, keep.
    """

    centroids: Floats
    codes: NDArray[np.int32]
    holds_zero: bool


def palette(weights: Array, clusters: int, initial: Initial = "linear") -> Palette:
    """Find the palette nearest to the weights in squares: k-means in one dimension.

    Centroids start evenly over the range, which keeps the few large weights that matter most, or
    evenly over the density (Han et al. 2016, "Deep Compression", section 3.2). Weights that are
    zero stay zero: pruning survives.

    >>> found = palette(np.array([0.0, 0.9, 1.1, -2.0, 0.0]), clusters=3)
    >>> found.centroids.tolist(), found.codes.tolist()
    ([0.0, -2.0, 1.0], [0, 2, 2, 1, 0])

    Args:
        weights: Any shape.
        clusters: Number of distinct weights at most, from 2.
        initial: Where centroids start.

    Returns:
        The palette; smaller than asked for where the weights have no more distinct values.
    """
    values = np.asarray(weights, np.float32)
    zero = values == 0
    holds_zero = bool(zero.any())
    ordered = np.sort(values[~zero]).astype(np.float64)
    centroids = _centroids(ordered, clusters - holds_zero, initial).astype(np.float32)
    codes = np.searchsorted(_midpoints(centroids), values)
    if holds_zero:
        centroids = np.concatenate([np.zeros(1, np.float32), centroids])
        codes = np.where(zero, 0, codes + 1)
    return Palette(centroids=centroids, codes=codes.astype(np.int32), holds_zero=holds_zero)


def _centroids(ordered: NDArray[np.float64], clusters: int, initial: Initial) -> Array:
    """Lloyd's rounds over sorted values, whose clusters are stretches."""
    distinct = np.unique(ordered)
    if len(distinct) <= clusters:
        return distinct
    if initial == "linear":
        centroids = np.linspace(ordered[0], ordered[-1], clusters)
    else:
        centroids = np.quantile(ordered, (np.arange(clusters) + 0.5) / clusters)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, _midpoints(centroids))
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(bounds)
        # A centroid nobody is near stays where it is.
        moved = np.where(counts, np.diff(sums[bounds]) / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.unique(centroids)


def _midpoints(centroids: Array) -> Array:
    return (centroids[1:] + centroids[:-1]) / 2

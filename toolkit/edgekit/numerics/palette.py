"""Palettes: replace weights by few distinct values, which compress well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.choices import Initial
from edgekit.numerics.affine import Floats
from edgekit.records import Array

ROUNDS = 100
"""Limit of iterations; k-means in one dimension converges in far fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Distinct values, and which of them each weight has.

    Attributes:
        centroids: `[clusters]` in ascending order, after an exact zero if there is one.
        codes: Indices into `centroids`, of the shape of the weights.
        holds_zero: Whether `centroids[0]` is an exact zero, to which only zeros are assigned.
    """

    centroids: Floats
    codes: NDArray[np.int32]
    holds_zero: bool


def palette(weights: Array, clusters: int, initial: Initial = "linear") -> Palette:
    """Return the palette with the least squared error: k-means in one dimension.

    Initial centroids are spaced evenly over the range, which preserves the few large, important
    weights, or evenly over the density (Han et al. 2016, "Deep Compression", section 3.2). Weights
    that are zero remain zero, so pruning is preserved.

    >>> found = palette(np.array([0.0, 0.9, 1.1, -2.0, 0.0]), clusters=3)
    >>> found.centroids.tolist(), found.codes.tolist()
    ([0.0, -2.0, 1.0], [0, 2, 2, 1, 0])

    Args:
        weights: Any shape.
        clusters: Largest number of distinct weights, from 2.
        initial: Centroid initialization, `linear` or `density`.

    Returns:
        The palette; smaller than `clusters` where the weights have fewer distinct values.
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
    """Run Lloyd's iterations over sorted values, whose clusters are intervals."""
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
        # A centroid without values keeps its position.
        moved = np.where(counts, np.diff(sums[bounds]) / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.unique(centroids)


def _midpoints(centroids: Array) -> Array:
    return (centroids[1:] + centroids[:-1]) / 2

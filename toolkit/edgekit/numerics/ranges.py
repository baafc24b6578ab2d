"""Choose the range of an activation from the histogram of its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics.affine import affine_parameters

BINS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Histogram with bins of equal width.

    Attributes:
        low: Left edge of the first bin.
        high: Right edge of the last bin.
        counts: `[bins]` number of values in each bin.
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def width(self) -> float:
        """Return the width of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Return the center of each bin, `[bins]`."""
        steps: NDArray[np.float64] = np.arange(len(self.counts), dtype=np.float64) + 0.5
        return self.low + steps * self.width


def percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Return the range without the outermost `100 - percentile` percent of values on each side.

    >>> flat = Histogram(low=0.0, high=100.0, counts=np.full(100, 7))
    >>> low, high = percentile_range(flat, 99.0)
    >>> round(low, 6), round(high, 6)
    (1.0, 99.0)

    Args:
        histogram: Histogram of the activation.
        percentile: Share of values below the upper end, in percent, above 50.
    """
    if histogram.width == 0:
        return histogram.low, histogram.high
    edges = histogram.low + np.arange(len(histogram.counts) + 1) * histogram.width
    share = np.concatenate([[0.0], np.cumsum(histogram.counts) / histogram.counts.sum()])
    cut = 1 - percentile / 100
    low, high = np.interp([cut, 1 - cut], share, edges)
    return float(low), float(high)


def mse_range(histogram: Histogram, bits: int = 8, steps: int = 100) -> tuple[float, float]:
    """Return the range with the least mean squared error of the codes over the histogram.

    Both sides are clipped at a common limit, chosen among `steps` candidates, and never widened.

    >>> counts = np.zeros(2048, np.int64)
    >>> counts[:256] = 10_000
    >>> counts[-1] = 1
    >>> low, high = mse_range(Histogram(low=0.0, high=8.0, counts=counts))
    >>> low, bool(0.9 < high < 8.0)
    (0.0, True)

    Args:
        histogram: Histogram of the activation.
        bits: Bit width of the codes.
        steps: Number of candidate ranges.
    """
    centres, counts = histogram.centres, histogram.counts
    occupied = np.flatnonzero(counts)
    centres, counts = centres[occupied], counts[occupied]
    best, smallest_error = (histogram.low, histogram.high), np.inf
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    largest = max(abs(histogram.low), abs(histogram.high))
    for limit in largest * np.linspace(1, 1 / steps, steps):
        low, high = max(histogram.low, -limit), min(histogram.high, limit)
        scale, zero_point = affine_parameters(low, high, bits)
        codes = np.clip(np.rint(centres / scale) + zero_point, lowest, highest)
        error = float(np.dot(counts, np.square((codes - zero_point) * scale - centres)))
        if error < smallest_error:
            best, smallest_error = (float(low), float(high)), error
    return best


def entropy_range(histogram: Histogram, bits: int = 8) -> tuple[float, float]:
    """Return the range with the least Kullback-Leibler divergence of the codes' distribution.

    For each candidate limit, the clipped distribution P (the tail added to the last bin) is
    compared with Q, the same bins spread evenly inside each of the `2^(bits-1)` codes (Migacz 2017,
    "8-bit Inference with TensorRT", GTC, slides 36-39). There the range is symmetric; here
    each side is clipped at the limit, and never widened. No limit clips more than one value in a
    thousand: where constant input (silence, padding) causes spikes in the histogram, these dominate
    the divergence, and the remaining values would be clipped.

    Args:
        histogram: Histogram of the activation.
        bits: Bit width of the codes.

    Returns:
        Lower and upper end of the range.

    >>> counts = (1e5 * np.exp(-np.arange(2048) / 64)).astype(np.int64)
    >>> counts[-1] = 1
    >>> low, high = entropy_range(Histogram(low=0.0, high=8.0, counts=counts))
    >>> low, bool(1.0 < high < 4.0)
    (0.0, True)
    """
    largest = max(abs(histogram.low), abs(histogram.high))
    if largest == 0:
        return histogram.low, histogram.high
    counts, _ = np.histogram(
        np.abs(histogram.centres), bins=BINS, range=(0, largest), weights=histogram.counts
    )
    # The exact zeros after a ReLU have no error at any limit, and would dominate the divergence.
    counts[0] = counts[1]
    levels = 1 << (bits - 1)
    kept = int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum())) + 1
    best, smallest = BINS, np.inf
    for limit in range(max(levels, kept), BINS + 1, levels // 8):
        p = counts[:limit].astype(np.float64)
        code = np.arange(limit) * levels // limit
        occupied = p > 0
        mass = np.bincount(code, weights=p, minlength=levels)
        members = np.bincount(code, weights=occupied, minlength=levels)
        q = np.where(occupied, (mass / np.maximum(members, 1))[code], 0.0)
        p[-1] += counts[limit:].sum()
        divergence = _divergence(p, q)
        if divergence < smallest:
            best, smallest = limit, divergence
    end = float(largest * best / BINS)
    return max(histogram.low, -end), min(histogram.high, end)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Return KL(P || Q) of two unnormalized histograms; empty bins of Q get a small value."""
    if q.sum() == 0:
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    occupied = p > 0
    return float(np.sum(p[occupied] * np.log(p[occupied] / np.maximum(q[occupied], 1e-12))))

"""Weight scales that clip outliers: with few bits, finer steps outweigh some clipped weights."""

from __future__ import annotations

import numpy as np

from edgekit.numerics.affine import Floats, by_channel, quantize, scales_of, symmetric_scales
from edgekit.records import Array

# What float32 leaves of a product of a code and a scale, in steps of one.
_ROUNDING = 1e-6
# Weights of a channel that tell most of those that are no codes.
_FIRST = 16


def octav_scales(weights: Array, axis: int | None, bits: int = 4, rounds: int = 12) -> Floats:
    """Return scales whose clipping limit minimizes the mean squared error of the codes.

    Newton-Raphson on the limit s, channel by channel (Sakr et al. 2022, "Optimal Clipping and
    Magnitude-aware Differentiation for Improved Quantization-aware Training", equation 6):

        s <- sum(|w| where |w| > s) / (4^-bits / 3 * count(0 < |w| <= s) + count(|w| > s))

    The equation assumes uniform rounding errors, which few or discrete weights do not have; a
    channel keeps the unclipped scale where the true error of that is smaller. Weights that are
    codes of some scale already, because they were trained or rounded so, keep that one.

    >>> weights = np.array([0.3, -0.3, 0.1, 0.2, -0.1, 0.2, 0.31, 2.0] * 64)
    >>> bool(octav_scales(weights, axis=None)[0] < symmetric_scales(weights, axis=None, bits=4)[0])
    True

    Args:
        weights: Any shape.
        axis: The channel axis; None for a single scale.
        bits: Bit width of the codes.
        rounds: Iterations; the limit converges in about ten.

    Returns:
        `[channels]`, or `[1]` without an axis.
    """
    size = np.abs(by_channel(weights, axis))
    occupied = np.count_nonzero(size, axis=1)
    limit = size.sum(axis=1) / np.maximum(occupied, 1)
    noise = 4.0**-bits / 3
    for _ in range(rounds):
        cut = size > limit[:, None]
        beyond = np.count_nonzero(cut, axis=1)
        total = np.where(cut, size, 0).sum(axis=1)
        limit = total / np.maximum(noise * (occupied - beyond) + beyond, 1e-30)
    largest = size.max(axis=1, initial=0.0)
    clipped = scales_of(np.minimum(limit, largest).astype(np.float32), bits)
    whole = symmetric_scales(weights, axis, bits)
    better = _error(weights, clipped, axis, bits) < _error(weights, whole, axis, bits)
    chosen = np.where(better, clipped, whole)
    own = grid_scales(weights, axis, bits)
    return np.where(own > 0, own, chosen).astype(np.float32)


def grid_scales(weights: Array, axis: int | None, bits: int = 4) -> Floats:
    """Return the scales of which weights are codes already; 0 for channels that are none of any.

    >>> found = grid_scales(np.array([[1.5, -1.25, 0.5], [1.5, -1.26, 0.5]]), axis=0)
    >>> found.tolist()  # codes 6, -5, 2; and none
    [0.25, 0.0]

    Args:
        weights: Any shape.
        axis: The channel axis; None for a single scale.
        bits: Bit width of the codes.

    Returns:
        `[channels]`, or `[1]` without an axis.
    """
    values = by_channel(weights, axis)
    largest = np.abs(values).max(axis=1, initial=0.0)
    found = np.zeros(len(values), np.float32)
    few = values[:, :_FIRST]
    # The finest first: unclipped scales remain what they are.
    for code in range((1 << (bits - 1)) - 1, 0, -1):
        scales = (largest / np.float32(code)).astype(np.float32)
        likely = np.flatnonzero((found == 0) & (scales >= np.finfo(np.float32).tiny))
        for part in (few, values):
            steps = part[likely] / scales[likely, None]
            fits = np.abs(steps - np.rint(steps)) <= _ROUNDING * code
            likely = likely[fits.all(axis=1)]
        found[likely] = scales[likely]
    return found


def _error(weights: Array, scales: Floats, axis: int | None, bits: int) -> Floats:
    """Return the squared error by channel, `[channels]`."""
    codes = by_channel(quantize(weights, scales, axis, bits), axis)
    # Squares of weights beyond 1e19 are beyond float32.
    made = codes * scales[:, None].astype(np.float64)
    errors: Floats = np.square(made - by_channel(weights, axis)).sum(axis=1)
    return errors

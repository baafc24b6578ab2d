"""Affine quantization: real = scale * (code - zero_point).

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", equation (1), and TFLite's 8-bit quantization specification.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array

Floats = NDArray[np.float32]


def affine_parameters(low: float, high: float, bits: int = 8) -> tuple[float, int]:
    """Return scale and zero point that map `[low, high]` onto all signed codes of `bits` bits.

    The range is widened to include 0.0, which is represented exactly, because padding with zeros
    must be exact. The zero point is rounded to the nearest code, ties away from zero (section 3 of
    the paper, "nudging"). All of it is computed in single precision, in which files store scales.

    >>> affine_parameters(0.0, 255.0)
    (1.0, -128)
    >>> affine_parameters(-1.0, 1.0)
    (0.007843137718737125, -1)

    Args:
        low: Lower end of the range.
        high: Upper end, not below `low`.
        bits: Bit width of the codes.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    smallest = -(1 << (bits - 1))
    width = float(np.float32(high)) - float(np.float32(low))
    width = min(width, float(np.finfo(np.float32).max))
    scale = float(np.float32(np.float32(width) / np.float32((1 << bits) - 1)))
    # A tiny range divides to a scale of zero (or one whose inverse is infinite).
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0
    exact = float(np.float32(smallest - low / scale))
    zero_point = int(math.copysign(math.floor(abs(exact) + 0.5), exact))
    return scale, min(max(zero_point, smallest), -smallest - 1)


def symmetric_scales(weights: Array, axis: int | None, bits: int = 8) -> Floats:
    """Return scales for codes in `[-(2^(bits-1) - 1), 2^(bits-1) - 1]` with zero point 0.

    The range is narrow: the lowest code is unused, because integer kernels negate weights and add
        pairs of products, and the lowest code would overflow in both.

    >>> symmetric_scales(np.array([[0.5, -2.54], [0.1, 1.27]]), axis=0)
    array([0.02, 0.01], dtype=float32)

    Args:
        weights: Any shape.
        axis: The channel axis; None for a single scale.
        bits: Bit width of the codes.

    Returns:
        `[channels]`, or `[1]` without an axis; 1.0 where a channel is all zeros.
    """
    return scales_of(np.abs(by_channel(weights, axis)).max(axis=1, initial=0.0), bits)


def quantize(weights: Array, scales: Array, axis: int | None, bits: int = 8) -> NDArray[np.int8]:
    """Round weights to symmetric narrow-range codes, of the same shape; ties go to even.

    >>> quantize(np.array([0.5, -0.26, 9.0]), np.array([0.1]), axis=None, bits=4)
    array([ 5, -3,  7], dtype=int8)
    """
    largest = (1 << (bits - 1)) - 1
    codes = np.rint(np.asarray(weights, np.float32) / _spread(scales, weights, axis))
    clipped: NDArray[np.int8] = np.clip(codes, -largest, largest).astype(np.int8)
    return clipped


def dequantize(codes: Array, scales: Array, axis: int | None) -> Floats:
    """Return the real values of symmetric codes.

    >>> dequantize(np.array([5, -3], np.int8), np.array([0.5]), axis=None)
    array([ 2.5, -1.5], dtype=float32)
    """
    return (codes * _spread(scales, codes, axis)).astype(np.float32)


def by_channel(weights: Array, axis: int | None) -> Floats:
    """View weights as `[channels, values]`, or `[1, values]` without an axis."""
    values = np.asarray(weights, np.float32)
    if axis is None:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def scales_of(limits: Floats, bits: int) -> Floats:
    """Return scales that map `limits` to the largest code; 1.0 for a limit of zero."""
    scales = limits / np.float32((1 << (bits - 1)) - 1)
    return np.where(scales < np.finfo(np.float32).tiny, 1.0, scales).astype(np.float32)


def _spread(scales: Array, values: Array, axis: int | None) -> Floats:
    """Reshape `[channels]` to broadcast along `axis` of `values`."""
    flat = np.asarray(scales, np.float32)
    if axis is None:
        return flat.reshape(())
    shape = [1] * values.ndim
    shape[axis] = -1
    return flat.reshape(shape)

"""Round weights so that their errors cancel in the sums of a layer.

Rounding to nearest minimizes the error of each weight. But activations after a ReLU are positive on
average, so the error of a layer's output depends mostly on the *sum* of its weights' errors, which
dominates with few bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics.affine import Floats
from edgekit.records import Array


def quantize_balanced(weights: Array, scales: Array, axis: int, bits: int = 4) -> NDArray[np.int8]:
    """Round to symmetric narrow-range codes whose errors sum to at most half a step where possible.

    First inside each kernel (the taps of one input channel), then over each output channel, the
    codes closest to the next integer are flipped until the sum of the errors rounds to zero (Guo
    et al. 2022, "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation",
    section 3.3 and algorithm 1). Unlike there, the error of a clipped weight counts too, and is
    compensated by other weights.

    >>> weights = np.array([[0.4, 0.4, 0.4, 0.0]])
    >>> quantize_balanced(weights, np.array([1.0]), axis=0)
    array([[1, 0, 0, 0]], dtype=int8)

    Args:
        weights: Any shape; input channels last (or first, where `axis` is the last).
        scales: `[channels]`.
        axis: The axis of the output channels.
        bits: Width of the code.

    Returns:
        Codes of the shape of `weights`.
    """
    largest = (1 << (bits - 1)) - 1
    ordered = np.moveaxis(np.asarray(weights, np.float32), axis, 0)
    outputs, inputs = ordered.shape[0], ordered.shape[-1]
    # [outputs, inputs, taps], in steps of the scale.
    exact = ordered.reshape(outputs, -1, inputs).transpose(0, 2, 1)
    exact = exact / np.asarray(scales, np.float32)[:, None, None]
    codes = np.clip(np.rint(exact), -largest, largest)
    if exact.shape[2] > 1:
        codes = _balance(exact, codes, largest)
    flat = _balance(exact.reshape(outputs, -1), codes.reshape(outputs, -1), largest)
    codes = flat.reshape(codes.shape).transpose(0, 2, 1).reshape(ordered.shape)
    return np.ascontiguousarray(np.moveaxis(codes, 0, axis)).astype(np.int8)


def _balance(exact: Floats, codes: Floats, largest: int) -> Floats:
    """Change single codes by one until the errors along the last axis sum to at most 0.5."""
    errors = exact - codes
    surplus = np.rint(errors.sum(axis=-1, keepdims=True))
    direction = np.sign(surplus)
    gain = errors * direction
    # A code at the end of the range cannot change further, and none changes twice.
    movable = (np.abs(codes + direction) <= largest) & (gain > -0.5)
    order = np.argsort(np.where(movable, -gain, np.inf), axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[-1]), axis=-1)
    moved: Floats = codes + direction * (movable & (rank < np.abs(surplus)))
    return moved

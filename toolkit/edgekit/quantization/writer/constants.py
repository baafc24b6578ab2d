"""Codes of weights, biases and other constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics import dequantize, octav_scales, quantize, quantize_balanced
from edgekit.numerics.affine import by_channel, scales_of
from edgekit.quantization.writer.operators import Parameters
from edgekit.records import Array
from edgekit.tflite.contents import of_content

NARROWEST: Final = 1e-6
"""Narrower ranges are widened: their scale would make bias codes overflow (TensorFlow's value)."""
# What is rescaled must fit into 32 bits: of int16 outputs, 65,536 times their largest.
_LARGEST_OUTPUT: Final = 1 << 14
# Width of activations -> the largest code of a bias: half of what kernels hold, which leaves room
# for the sum of the products. With int16, what they rescale must keep within 48 bits.
_LARGEST_BIAS: Final = {8: (1 << 31) // 2, 16: (1 << 47) // 2}


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """A constant in integers.

    Attributes:
        values: Codes, in the shape of the tensor.
        scales: `[channels]` or `[1]`, float32.
        zero_point: Code of 0.0.
        axis: The axis of the channels; 0 where there is a single scale.
        bits: Width of the codes in the file: 4, or that of their type.
    """

    values: Array
    scales: NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0
    bits: int | None = None


def weight_scales(values: Array, axis: int | None, bits: int = 8) -> NDArray[np.float32]:
    """Return the scale of every channel, `[channels]`; also of one that is all zeros.

    Eight bits reach as far as the weights; four clip the outermost for finer steps (OCTAV).
    """
    if bits == 4:
        return np.maximum(octav_scales(values, axis), np.float32(NARROWEST / 14))
    limits = np.abs(by_channel(values, axis)).max(axis=1, initial=0.0)
    return scales_of(np.maximum(limits, np.float32(NARROWEST / 2)), bits)


def fit_bias(
    scales: NDArray[np.float32], bias: Array, input_scale: float, bits: int = 8
) -> NDArray[np.float32]:
    """Widen the scales of weights whose channel has a bias that kernels could not hold.

    Args:
        scales: `[channels]`, of the weights.
        bias: `[channels]`.
        input_scale: Scale of the activations that the weights are multiplied with.
        bits: Width of these.
    """
    needed = _needed(bias, input_scale, bits)
    return np.where(needed > scales, needed, scales).astype(np.float32)


def within_reach(
    bias: Array, values: Array, scales: NDArray[np.float32], given: Parameters, made: Parameters
) -> Array:
    """Return a bias without what its channel's outputs would not show, where it is too large.

    Behind a ReLU that lets nothing through, or where all is clipped, a bias may be beyond what
    kernels hold, and would take all codes of the weights.

    Args:
        bias: `[channels]`.
        values: The weights, with the channels first.
        scales: `[channels]`, of the weights.
        given: Parameters of the activations.
        made: Parameters of the outputs.
    """
    end = max(map(abs, made.ends()))
    large = np.abs(bias.astype(np.float64)) > _LARGEST_OUTPUT * end
    large |= _needed(bias, given.scale, given.bits) > scales
    if not large.any():
        return bias
    reach = np.abs(values[large]).sum(axis=1, dtype=np.float64) * max(map(abs, given.ends()))
    bias = bias.astype(np.float64)
    bias[large] = np.clip(bias[large], -reach - end, reach + end)
    return bias.astype(np.float32)


def _needed(bias: Array, input_scale: float, bits: int) -> NDArray[np.float64]:
    codes = np.abs(bias.astype(np.float64)) / _LARGEST_BIAS[bits]
    return np.asarray(codes / input_scale)


def weight_codes(
    values: Array, scales: NDArray[np.float32], axis: int | None, bits: int = 8
) -> Codes:
    """Return symmetric narrow-range codes of weights."""
    if bits == 4:
        assert axis is not None
        return Codes(quantize_balanced(values, scales, axis), scales, axis=axis, bits=bits)
    return Codes(quantize(values, scales, axis), scales, axis=axis or 0)


def own_codes(content: Array, values: Array, axis: int | None, bits: int = 8) -> Codes:
    """Return codes of weights in the scales of `weight_scales`.

    They are kept as long as the content is, because many files are written of one float graph.

    Args:
        content: The buffer of the weights.
        values: Its content as the weights.
        axis: As of `weight_scales`.
        bits: Likewise.
    """

    def made() -> Codes:
        codes = weight_codes(values, weight_scales(values, axis, bits), axis, bits)
        codes.values.flags.writeable = False
        return codes

    return of_content(content, ("codes", values.shape, axis, bits), made)


def centered(
    bias: Array, values: Array, weights: Codes, center: Sequence[float]
) -> NDArray[np.float64]:
    """Return a bias that takes away what the rounded weights make of a center of their inputs.

    `W (x - m) + c` is `W x + c - W m`: with W rounded in the first product only, its rounding
    errors would be multiplied with x instead of x - m.

    Args:
        bias: `[outputs]`, with the exact weights' share taken away.
        values: The exact weights, whose last axis is that of the inputs; of a depthwise layer that
            of the outputs.
        weights: Their codes.
        center: m, of each channel of the inputs or of all.
    """
    axis, size = weights.axis, values.shape[-1]
    lost = values - dequantize(weights.values, weights.scales, axis).astype(np.float64)
    repeated = np.repeat if axis == values.ndim - 1 else np.tile
    lost *= repeated(np.asarray(center), size // len(center))
    others = tuple(place for place in range(values.ndim) if place != axis)
    return np.asarray(bias.astype(np.float64) + lost.sum(axis=others).reshape(bias.shape))


def bias_codes(values: Array, scales: NDArray[np.float32], input_scale: float, bits: int) -> Codes:
    """Return a bias in the scale of the products: int32, or int64 where activations are int16."""
    products = (scales.astype(np.float64) * input_scale).astype(np.float32)
    codes = np.rint(values.astype(np.float64) / products)
    if bits == 16:
        return Codes(codes.astype(np.int64), products)
    ends = np.iinfo(np.int32)
    return Codes(np.clip(codes, ends.min, ends.max).astype(np.int32), products)


def activation_codes(values: Array, parameters: Parameters) -> Codes:
    """Return the codes of a constant in the place of an activation."""
    ends = np.iinfo(np.int8 if parameters.bits == 8 else np.int16)
    codes = np.rint(values.astype(np.float64) / parameters.scale) + parameters.zero_point
    return Codes(
        np.clip(codes, ends.min, ends.max).astype(ends.dtype),
        np.array([parameters.scale], np.float32),
        parameters.zero_point,
    )

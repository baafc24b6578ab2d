from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import BITS, INT4_CODES, WEIGHT_BITS, ranges, weights

from edgekit.numerics import (
    affine_parameters,
    dequantize,
    octav_scales,
    pack_int4,
    quantize,
    quantize_balanced,
    symmetric_scales,
    unpack_int4,
)


@given(ends=ranges(), bits=BITS)
def test_zero_has_a_code_of_its_own(ends: tuple[float, float], bits: int) -> None:
    scale, zero_point = affine_parameters(*ends, bits)
    assert isinstance(zero_point, int)
    assert -(1 << (bits - 1)) <= zero_point < 1 << (bits - 1)
    assert scale > 0
    assert scale * (zero_point - zero_point) == 0.0


@given(ends=ranges(), share=st.floats(0, 1))
def test_values_of_the_range_come_back_within_half_a_step(
    ends: tuple[float, float], share: float
) -> None:
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    value = low + share * (high - low)
    scale, zero_point = affine_parameters(low, high)
    code = np.clip(np.rint(value / scale) + zero_point, -128, 127)
    # The zero point is rounded, so the ends may lie half a step outside: one step in all.
    assert abs(scale * (code - zero_point) - value) <= scale * 1.001


@given(values=weights(), bits=WEIGHT_BITS)
def test_weights_come_back_within_half_a_step(values: np.ndarray, bits: int) -> None:
    for axis in (None, 0, values.ndim - 1):
        scales = symmetric_scales(values, axis, bits)
        codes = quantize(values, scales, axis, bits)
        error = np.abs(dequantize(codes, scales, axis) - values)
        largest_step = np.max(scales)
        assert np.all(error <= largest_step * 0.5001 + 1e-30)


@given(values=weights(), bits=WEIGHT_BITS)
def test_the_lowest_code_stays_unused(values: np.ndarray, bits: int) -> None:
    largest = (1 << (bits - 1)) - 1
    scales = symmetric_scales(values, 0, bits)
    codes = quantize(values, scales, 0, bits)
    assert np.abs(codes.astype(int)).max() <= largest
    assert np.array_equal(quantize(-values, scales, 0, bits), -codes)


def test_a_channel_without_weights_has_a_usable_scale() -> None:
    values = np.array([[0.0, 0.0], [1.0, -2.0]], np.float32)
    for scales in (symmetric_scales(values, 0), octav_scales(values, 0)):
        assert scales[0] == 1.0
        assert not quantize(values, scales, 0)[0].any()


@given(values=weights())
def test_clipping_never_loses_more_than_it_gains(values: np.ndarray) -> None:
    def errors(scales: np.ndarray) -> np.ndarray:
        back = dequantize(quantize(values, scales, 0, 4), scales, 0)
        return np.square(back - values).reshape(len(values), -1).sum(axis=1)

    clipped, whole = octav_scales(values, 0), symmetric_scales(values, 0, 4)
    assert np.all(errors(clipped) <= errors(whole) * 1.0001 + 1e-12)


def test_an_outlier_is_clipped() -> None:
    bell = np.random.default_rng(0).standard_normal((2, 4096)).astype(np.float32)
    bell[0, 0] = 30
    scales = octav_scales(bell, 0)
    assert scales[0] < 30 / 7 / 4
    # For a bell curve and 4 bits the best limit is near 2.5 standard deviations.
    assert 2.2 < scales[1] * 7 < 2.9


@given(values=weights(limit=10))
def test_balanced_errors_cancel_where_no_code_is_at_its_end(values: np.ndarray) -> None:
    scales = symmetric_scales(values, 0, 4) * np.float32(1.25)
    codes = quantize_balanced(values, scales, 0)
    shape = (-1, *[1] * (values.ndim - 1))
    errors = values / scales.reshape(shape) - codes
    assert np.abs(codes.astype(int)).max() <= 7
    # Rounding to nearest stays within 0.5; a flip adds less than one step.
    assert np.abs(errors).max() <= 1.01
    assert np.abs(errors.reshape(len(values), -1).sum(axis=1)).max() <= 0.51


def test_balancing_keeps_each_kernel_level_before_the_channel() -> None:
    # One output channel, two input channels of 3 taps, all errors of +0.4 of a step.
    kernel = np.full((1, 3, 1, 2), 1.4, np.float32)
    codes = quantize_balanced(kernel, np.array([1.0]), 0)
    assert codes.sum(axis=1).ravel().tolist() == [4, 4]


@given(codes=INT4_CODES)
def test_int4_pairs_survive_packing(codes: np.ndarray) -> None:
    packed = pack_int4(codes)
    assert packed.dtype == np.uint8
    assert len(packed) == (len(codes) + 1) // 2
    assert np.array_equal(unpack_int4(packed, len(codes)), codes)

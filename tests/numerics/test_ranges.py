from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import histograms

from edgekit.numerics import (
    Histogram,
    affine_parameters,
    entropy_range,
    mse_range,
    percentile_range,
)


def histogram_of(values: np.ndarray) -> Histogram:
    counts, edges = np.histogram(values, 2048)
    return Histogram(low=float(edges[0]), high=float(edges[-1]), counts=counts)


def int8_error(values: np.ndarray, ends: tuple[float, float]) -> float:
    scale, zero_point = affine_parameters(*ends)
    codes = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    return float(np.mean(np.square((codes - zero_point) * scale - values)))


@settings(max_examples=25)
@given(histogram=histograms())
def test_ranges_lie_within_what_was_seen(histogram: Histogram) -> None:
    for low, high in (
        percentile_range(histogram, 99.9),
        mse_range(histogram),
        entropy_range(histogram),
    ):
        assert histogram.low <= low <= high <= histogram.high


def test_a_tensor_that_never_changes() -> None:
    constant = Histogram(low=3.0, high=3.0, counts=np.full(2048, 1))
    assert percentile_range(constant, 99.0) == (3.0, 3.0)
    assert mse_range(constant)[1] == pytest.approx(3.0, rel=0.02)
    dead = Histogram(low=0.0, high=0.0, counts=np.full(2048, 1))
    for choose in (mse_range, entropy_range):
        assert choose(dead) == (0.0, 0.0)


@pytest.mark.parametrize(("choose", "limit"), [(mse_range, 50), (entropy_range, 10)])
def test_one_outlier_does_not_set_the_range(choose, limit: float) -> None:
    # Given a bell curve with one value far out
    values = np.random.default_rng(0).standard_normal(200_000)
    values[0] = 60.0
    # When the range is chosen
    low, high = choose(histogram_of(values))
    # Then the others have finer steps
    assert high < limit
    assert int8_error(values[1:], (low, high)) < int8_error(values[1:], (low, 60.0)) * 0.8


def test_least_error_means_least_error() -> None:
    values = np.random.default_rng(1).laplace(size=100_000)
    histogram = histogram_of(values)
    chosen = int8_error(values, mse_range(histogram))
    for limit in np.linspace(2, np.abs(values).max(), 20):
        ends = (max(histogram.low, -limit), min(histogram.high, limit))
        assert chosen <= int8_error(values, ends) * 1.02


def test_percentiles_are_those_of_the_values() -> None:
    values = np.random.default_rng(2).standard_normal(500_000)
    found = percentile_range(histogram_of(values), 99.0)
    np.testing.assert_allclose(found, np.percentile(values, [1, 99]), atol=0.01)


def test_a_spike_does_not_hide_the_rest_from_entropy() -> None:
    # Given activations of which half are one constant, as silent input makes them
    rng = np.random.default_rng(3)
    values = np.abs(np.concatenate([rng.exponential(1.0, 100_000), np.full(100_000, 0.31)]))
    # Then at most a thousandth of the values is cut off
    _, high = entropy_range(histogram_of(values))
    assert np.mean(values > high) <= 0.001

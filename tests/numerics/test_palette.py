from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import weights

from edgekit.numerics.palette import palette

WEIGHTS = weights(min_dims=1, max_dims=3, limit=10, width=16)
INITIAL = st.sampled_from(["linear", "density"])


@given(values=WEIGHTS, clusters=st.integers(2, 20), initial=INITIAL)
def test_every_weight_gets_the_nearest_and_zeros_stay(values, clusters, initial) -> None:
    found = palette(values, clusters, initial)
    nearest = found.centroids[found.codes]
    assert nearest.shape == values.shape
    assert len(found.centroids) <= clusters
    assert np.all(nearest[values == 0] == 0)
    others = found.centroids[int(found.holds_zero) :]
    if np.any(values != 0):
        distances = np.abs(values[values != 0][:, None] - others)
        error = np.abs(values - nearest)[values != 0]
        assert np.all(error <= distances.min(axis=1) + 1e-5)


@given(values=WEIGHTS, clusters=st.integers(2, 20), initial=INITIAL)
def test_a_palette_is_found_again_exactly(values, clusters, initial) -> None:
    first = palette(values, clusters, initial)
    painted = first.centroids[first.codes]
    again = palette(painted, clusters, initial)
    assert np.array_equal(again.centroids[again.codes], painted)


@pytest.mark.parametrize("initial", ["linear", "density"])
def test_a_bell_curve_loses_as_little_as_its_best_quantizer(initial: str) -> None:
    bell = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    found = palette(bell, 16, initial)
    error = np.mean((bell - found.centroids[found.codes]) ** 2)
    # Max 1960, "Quantizing for Minimum Distortion", table I: 0.009497 for 16 levels.
    assert error == pytest.approx(0.009497, rel=0.05)

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SPARSITIES, kernels

from edgekit.errors import UsageError
from edgekit.numerics.sparsity import (
    Blocks,
    Constant,
    NofM,
    PolynomialDecay,
    magnitude_masks,
    misfit,
    parse_pattern,
)


@given(weights=kernels(), sparsity=SPARSITIES)
def test_a_global_share_is_met_to_the_weight(weights: list[np.ndarray], sparsity: float) -> None:
    masks = magnitude_masks(weights, sparsity)
    total = sum(kernel.size for kernel in weights)
    assert sum(int(np.sum(~mask)) for mask in masks) == round(sparsity * total)
    kept = [np.abs(k[m]).min() for k, m in zip(weights, masks, strict=True) if m.any()]
    dropped = [np.abs(k[~m]).max() for k, m in zip(weights, masks, strict=True) if not m.all()]
    assert max(dropped, default=0) <= min(kept, default=np.inf)


@given(weights=kernels(), sparsity=SPARSITIES)
def test_a_share_of_each_layer_is_met_in_each(weights: list[np.ndarray], sparsity: float) -> None:
    masks = magnitude_masks(weights, sparsity, scope="layer")
    for kernel, mask in zip(weights, masks, strict=True):
        assert int(np.sum(~mask)) == round(sparsity * kernel.size)


@given(weights=kernels(inputs=4))
def test_n_of_m_keeps_the_largest_of_every_group(weights: list[np.ndarray]) -> None:
    for kernel, mask in zip(weights, magnitude_masks(weights, 0.5, NofM(2, 4)), strict=True):
        groups, kept = np.abs(kernel.reshape(-1, 4)), mask.reshape(-1, 4)
        assert set(kept.sum(axis=1)) == {2}
        assert np.array_equal(np.sort(groups[kept].reshape(-1, 2)), np.sort(groups)[:, 2:])


@given(weights=kernels(inputs=4), sparsity=st.floats(0, 0.5))
def test_n_of_m_grows_one_weight_a_group_at_a_time(
    weights: list[np.ndarray], sparsity: float
) -> None:
    for mask in magnitude_masks(weights, sparsity, NofM(2, 4)):
        assert set(mask.reshape(-1, 4).sum(axis=1)) == {4 - int(4 * sparsity + 1e-6)}


@given(n=st.integers(1, 15), m=st.integers(2, 16))
def test_the_share_that_n_of_m_means_drops_all_it_may(n: int, m: int) -> None:
    pattern = NofM(min(n, m - 1), m)
    (mask,) = magnitude_masks([np.ones((1, m))], pattern.sparsity, pattern)
    assert mask.sum() == pattern.n


@given(weights=kernels(outputs=2, inputs=3), sparsity=SPARSITIES)
def test_blocks_go_whole_and_the_lightest_first(weights: list[np.ndarray], sparsity: float) -> None:
    masks = magnitude_masks(weights, sparsity, Blocks(2, 3))
    norms, kept = [], []
    for kernel, mask in zip(weights, masks, strict=True):
        for position in np.ndindex(kernel.shape[0], kernel.shape[1] // 2, kernel.shape[2] // 3):
            tap, row, column = position
            block = np.s_[tap, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            assert len(set(mask[block].ravel())) == 1
            norms.append(float(np.linalg.norm(kernel[block])))
            kept.append(bool(mask[block].all()))
    assert kept.count(False) == round(sparsity * len(kept))
    light = [norm for norm, keep in zip(norms, kept, strict=True) if not keep]
    heavy = [norm for norm, keep in zip(norms, kept, strict=True) if keep]
    assert max(light, default=0) <= min(heavy, default=np.inf) + 1e-5


@given(weights=kernels(inputs=4), first=SPARSITIES, more=SPARSITIES)
def test_what_was_dropped_stays_dropped(
    weights: list[np.ndarray], first: float, more: float
) -> None:
    for pattern in (Blocks(), Blocks(1, 4), NofM(1, 4)):
        masks = magnitude_masks(weights, first, pattern)
        pruned = [kernel * mask for kernel, mask in zip(weights, masks, strict=True)]
        # also when the share asked for is the smaller one
        for mask, again in zip(masks, magnitude_masks(pruned, more, pattern), strict=True):
            assert not np.any(again & ~mask)
        if more <= first:
            found = magnitude_masks(pruned, more, pattern)
            assert all(np.array_equal(m, a) for m, a in zip(masks, found, strict=True))


@pytest.mark.parametrize(
    ("shape", "pattern", "reason"),
    [
        ((3, 3, 8, 6), NofM(2, 4), "its inputs (6) do not divide into groups of 4"),
        ((6, 8), Blocks(4, 1), "its outputs (6) do not divide into groups of 4"),
        ((6, 8), Blocks(2, 4), None),
        ((5, 7), Blocks(), None),
    ],
)
def test_a_kernel_that_does_not_divide_is_told_why(shape, pattern, reason) -> None:
    assert misfit(shape, pattern) == reason


@given(
    shares=st.tuples(SPARSITIES, SPARSITIES).map(sorted),
    begin=st.integers(0, 50),
    length=st.integers(1, 50),
    power=st.floats(0.5, 5),
)
def test_a_schedule_rises_from_its_first_share_to_its_last(shares, begin, length, power) -> None:
    schedule = PolynomialDecay(*shares, begin, begin + length, power)
    values = [schedule(step) for step in range(begin, begin + length + 5)]
    assert values[0] == pytest.approx(shares[0])
    assert set(values[length:]) == {shares[1]}
    assert all(now <= then + 1e-12 for now, then in pairwise(values))
    assert begin == 0 or schedule(begin - 1) == 0


def test_the_published_cubic_rise() -> None:
    # Zhu and Gupta 2017, equation 1, worked by hand: 0.9 + (0.1 - 0.9) * (1 - 30 / 120) ** 3
    assert PolynomialDecay(0.1, 0.9, 10, 130)(40) == pytest.approx(0.9 - 0.8 * 0.421875)


@pytest.mark.parametrize("text", ["2:2", "0:4", "block 0x4", "4x1", "random", "2:4:8"])
def test_invalid_patterns_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="There is no sparsity pattern"):
        parse_pattern(text)


def test_invalid_shares_and_schedules_are_refused() -> None:
    with pytest.raises(UsageError, match="Invalid value for sparsity: 1"):
        Constant(1.0)
    with pytest.raises(UsageError, match=r"Invalid value for sparsity: -0\.1"):
        magnitude_masks([np.ones((2, 2))], -0.1)
    with pytest.raises(UsageError, match="Invalid pruning schedule"):
        PolynomialDecay(0.5, 0.2, 0, 10)
    with pytest.raises(UsageError, match="Invalid pruning schedule"):
        PolynomialDecay(0.0, 0.2, 10, 10)

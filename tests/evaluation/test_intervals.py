from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.evaluation import intervals
from edgekit.evaluation.intervals import bootstrap, delong, tango, wilson

# A seeded simulation of 95 % intervals: what 2,000 trials of a true 95 % stay within.
COVERED = (0.93, 0.97)


def root_mean(means):
    return np.sqrt(means[..., 0])


def root_difference(means):
    return np.sqrt(means[..., 1]) - np.sqrt(means[..., 0])


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # R. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_limits(successes, n, low, high) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_covers() -> None:
    n, share = 500, 0.917
    drawn = np.random.default_rng(0).binomial(n, share, 2000)

    covered = np.mean([low <= share <= high for low, high in (wilson(int(k), n) for k in drawn)])

    assert COVERED[0] <= covered <= COVERED[1]


@pytest.mark.parametrize(
    ("lost", "won", "n", "low", "high"),
    # The examples of chapter 8 of Fagerland, Lydersen & Laake, "Statistical Analysis of
    # Contingency Tables" (2017): airway hyper-responsiveness and complete response
    [(1, 7, 21, -0.517, -0.026), (6, 16, 161, -0.124, -0.00571)],
)
def test_tango_gives_the_published_limits(lost, won, n, low, high) -> None:
    assert tango(lost, won, n) == pytest.approx((low, high), abs=5e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400))
def test_tango_holds_the_estimate_and_turns_with_the_signs(lost, won, rest) -> None:
    n = lost + won + rest

    low, high = tango(lost, won, n)

    assert -1 <= low <= (lost - won) / n <= high <= 1
    assert tango(won, lost, n) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("lost", "won", "n"), [(9, 3, 60), (0, 0, 50), (5, 0, 40), (30, 25, 300)])
def test_tango_s_limits_have_the_score_it_promises(lost, won, n) -> None:
    """The nuisance parameter is found here by likelihood on a grid, not by the quadratic."""
    for limit in tango(lost, won, n):
        least = max(0.0, -limit)
        q = np.linspace(least, (1 - limit) / 2, 400_001)[1:-1]
        with np.errstate(divide="ignore"):
            likelihood = (n - lost - won) * np.log(1 - 2 * q - limit)
            likelihood += lost * np.log(q + limit) if lost else 0
            likelihood += won * np.log(q) if won else 0
        best = q[np.argmax(likelihood)]
        score = (lost - won - n * limit) / np.sqrt(n * (2 * best + limit * (1 - limit)))
        assert abs(score) == pytest.approx(1.95996, abs=2e-3)


def test_identical_predictions_leave_little_room() -> None:
    for n in (100, 10_000):
        low, high = tango(0, 0, n)
        assert high == pytest.approx(-low)
        assert high == pytest.approx(1.96**2 / (n + 1.96**2), rel=1e-3)


@pytest.mark.parametrize(("lost", "won", "n"), [(0.02, 0.012, 1000), (0.05, 0.02, 300)])
def test_tango_covers(lost, won, n) -> None:
    drawn = np.random.default_rng(0).multinomial(n, [lost, won, 1 - lost - won], 2000)
    limits = cache(tango)

    ends = np.array([limits(int(b), int(c), n) for b, c, _ in drawn])
    covered = np.mean((ends[:, 0] <= lost - won) & (lost - won <= ends[:, 1]))

    assert COVERED[0] <= covered <= COVERED[1]


def test_bootstrap_of_an_rmse_covers() -> None:
    trials, n = 500, 200
    errors = np.random.default_rng(0).normal(size=(trials, n, 1))

    ends = np.array([bootstrap(e**2, root_mean, seed=s) for s, e in enumerate(errors)])

    assert COVERED[0] <= np.mean((ends[:, 0] <= 1) & (ends[:, 1] >= 1)) <= COVERED[1]


def test_paired_bootstrap_covers_and_is_narrow() -> None:
    trials, n = 600, 100
    generator = np.random.default_rng(0)
    first = generator.normal(size=(trials, n))
    second = 1.02 * first + 0.1 * generator.normal(size=(trials, n))
    true = np.hypot(1.02, 0.1) - 1

    ends = np.array(
        [
            bootstrap(np.stack([f**2, s**2], axis=1), root_difference, seed=seed)
            for seed, (f, s) in enumerate(zip(first, second, strict=True))
        ]
    )

    assert COVERED[0] <= np.mean((ends[:, 0] <= true) & (true <= ends[:, 1])) <= COVERED[1]
    # Unpaired, the difference of two RMSEs of 100 samples is known to +-0.2 only.
    assert np.median(ends[:, 1] - ends[:, 0]) < 0.06


def test_bootstrap_is_seeded_and_equals_the_normal_interval_for_many(monkeypatch) -> None:
    squares = np.random.default_rng(0).normal(size=(5000, 1)) ** 2
    resampled = bootstrap(squares, root_mean)
    assert resampled == bootstrap(squares, root_mean)

    monkeypatch.setattr(intervals, "BOOTSTRAP_LIMIT", 100)

    normal = bootstrap(squares, root_mean)
    assert normal == pytest.approx(resampled, abs=0.1 * (normal[1] - normal[0]))


@pytest.mark.parametrize("n", [1, 2, 50])
def test_bootstrap_of_equal_samples_is_a_point(n) -> None:
    assert bootstrap(np.full((n, 1), 4.0), root_mean) == (2.0, 2.0)


def test_delong_is_its_definition() -> None:
    """Placement values by comparing every pair, ties counting half (DeLong et al. 1988)."""
    generator = np.random.default_rng(0)
    flags = generator.random(60) < 0.4
    scores = np.round(generator.normal(size=(2, 60)) + flags, 1)
    hits, misses = scores[:, flags], scores[:, ~flags]
    pairs = np.sign(hits[:, :, None] - misses[:, None, :]) / 2 + 0.5
    expected = (
        np.cov(pairs.mean(axis=2)) / flags.sum() + np.cov(pairs.mean(axis=1)) / (~flags).sum()
    )

    areas, covariance = delong(scores, flags)

    np.testing.assert_allclose(areas, pairs.mean(axis=(1, 2)))
    np.testing.assert_allclose(covariance, expected)


def test_areas_and_their_differences_cover() -> None:
    trials, hits, misses, shift = 1000, 60, 140, 1.5
    generator = np.random.default_rng(0)
    flags = np.arange(hits + misses) < hits
    first = generator.normal(size=(trials, hits + misses)) + shift * flags
    second = first + 0.5 * generator.normal(size=first.shape)
    true = NormalDist().cdf(shift / 2**0.5)
    gap = true - NormalDist().cdf(shift / (2 * 1.25) ** 0.5)

    single, paired = [], []
    for f, s in zip(first, second, strict=True):
        areas, covariance = delong(np.stack([f, s]), flags)
        low, high = intervals.area_interval(float(areas[0]), float(covariance[0, 0]), flags)
        single.append(low <= true <= high)
        low, high = intervals.area_difference_interval(areas, covariance, flags)
        paired.append(low <= gap <= high)

    assert COVERED[0] <= np.mean(single) <= COVERED[1]
    assert COVERED[0] <= np.mean(paired) <= COVERED[1]


def test_perfect_separation_is_not_called_certain() -> None:
    flags = np.array([True] * 10 + [False] * 90)
    areas, covariance = delong(flags[None].astype(float), flags)

    low, high = intervals.area_interval(float(areas[0]), float(covariance[0, 0]), flags)

    assert high == 1
    assert low == pytest.approx(wilson(10, 10)[0])

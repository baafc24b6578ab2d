"""95 % intervals of scores and of paired differences, from the papers each function names.

Paired means on the *same* samples: what both models get right or wrong alike cancels, so that a
drop is known far better than either score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from edgekit.records import Array
from edgekit_runner import BOOTSTRAP_LIMIT, RESAMPLES, bca
from edgekit_runner import count_bootstrap as resample_counts

Interval = tuple[float, float]

Z = NormalDist().inv_cdf(0.975)


def wilson(successes: int, n: int) -> Interval:
    """Return the score interval of a proportion (Wilson 1927; Newcombe 1998, method 3).

    Example:
        >>> low, high = wilson(81, 263)
        >>> round(low, 4), round(high, 4)
        (0.2553, 0.3662)
    """
    share, spread = successes / n, Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = (spread * share * (1 - share) + spread**2 / 4) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def tango(lost: float, won: float, n: float) -> Interval:
    """Return the score interval of the difference of two paired proportions.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998), 891-908: all differences `delta` with
    `|lost - won - n delta| <= 1.96 sqrt(n (2 q + delta (1 - delta)))`, where `q`, the probability
    of `won`, has its maximum likelihood under `delta`: the root of
    `2 n q^2 + (-lost - won + (2 n - lost + won) delta) q - won delta (1 - delta) = 0`.

    Args:
        lost: Samples only the first got right.
        won: Samples only the second got right.
        n: All samples.

    Returns:
        Ends of the interval of `(lost - won) / n`.

    Example:
        >>> low, high = tango(1, 7, 21)
        >>> round(low, 3), round(high, 3)
        (-0.517, -0.026)
    """

    def statistic(delta: float) -> float:
        linear = -lost - won + (2 * n - lost + won) * delta
        constant = -won * delta * (1 - delta)
        root = max(0.0, linear**2 - 8 * n * constant) ** 0.5
        nuisance = (root - linear) / (4 * n)
        variance = n * (2 * nuisance + delta * (1 - delta))
        distance = lost - won - n * delta
        return distance / variance**0.5 if variance > 0 else float(np.sign(distance)) * np.inf

    centre = (lost - won) / n
    return (
        crossing(lambda delta: statistic(delta) - Z, -1.0, centre),
        crossing(lambda delta: statistic(delta) + Z, centre, 1.0),
    )


def bootstrap(columns: Array, statistic: Callable[[Array], Array], *, seed: int = 0) -> Interval:
    """Return the BCa interval of a function of means over samples.

    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), eqs. 14.10, 14.14 and
    14.15: percentiles of the bootstrap distribution, shifted for its bias and its skewness. They
    start from Student's t and a variance over `n - 1` (the expanded percentile interval of
    T. Hesterberg, "What teachers should know about the bootstrap", 2015), without which intervals
    of few samples are too narrow. Beyond `BOOTSTRAP_LIMIT` samples: the normal interval with the
    jackknife's variance.

    Args:
        columns: `[n, k]`, what is averaged, a row a sample; integers are counts.
        statistic: `[..., k]` means -> `[...]` values; smooth.
        seed: Of the resampling.
    """
    n, k = columns.shape
    counted = columns.dtype.kind == "i"
    value = float(statistic(columns.mean(axis=0)))
    left_out = statistic((columns.sum(axis=0) - columns) / (n - 1)) if n > 1 else np.full(1, value)
    influence = left_out.mean() - left_out
    energy = float(np.sum(influence**2))
    if energy == 0.0:
        return value, value
    if n > BOOTSTRAP_LIMIT:
        half = Z * ((n - 1) / n * energy) ** 0.5
        return value - half, value + half

    means = np.empty((RESAMPLES, k))
    start = 0
    exact = columns.astype(np.float64) if counted else columns
    for drawn in _draws(n, seed) if counted else _drawn(n, seed):
        some = means[start : start + len(drawn)]
        start += len(drawn)
        if counted:
            # How often each sample was drawn. Sums of counts are exact, whatever their order.
            places = drawn + np.arange(0, len(drawn) * n, n)[:, None]
            times = np.bincount(places.ravel(), minlength=len(drawn) * n).reshape(-1, n)
            some[:] = times.astype(np.float64) @ exact / n
            continue
        for column in range(k):
            some[:, column] = columns[:, column][drawn].mean(axis=1)
    values = np.sort(statistic(means))
    below = float(np.mean(values < value) + np.mean(values == value) / 2)
    skewness = float(np.sum(influence**3)) / (6 * energy**1.5)
    return bca(values, below, skewness, n - 1)


def _draws(n: int, seed: int) -> Iterator[Array]:
    """Yield which of `n` samples each resample holds, `[RESAMPLES, n]` in pieces of rows."""
    generator = np.random.default_rng(seed)
    rows = max(1, (1 << 20) // n)
    for start in range(0, RESAMPLES, rows):
        yield generator.integers(0, n, (min(rows, RESAMPLES - start), n), np.int32)


@lru_cache(maxsize=1)
def _drawn(n: int, seed: int) -> tuple[Array, ...]:
    """Return `_draws`; the last are kept, at most 40 MB.

    The columns of one output are resampled alike.
    """
    return tuple(_draws(n, seed))


def count_bootstrap(
    counts: Array,
    strata: Array,
    statistic: Callable[[Array], Array],
    gradient: Array,
    *,
    cells: int | None = None,
) -> Interval:
    """Return the BCa interval of a function of how many samples are alike.

    The samples of each stratum (a class) are resampled among themselves, so that none is without
    samples; several samples cost as little as one. The method is that of `bootstrap`, with
    the empirical influence from the gradient (Efron & Tibshirani 1993, eq. 21.17), and the degrees
    of freedom of several variances from F. Satterthwaite, Biometrics Bulletin 2 (1946), eq. 17.
    Beyond `BOOTSTRAP_LIMIT` samples, `STRATUM_LIMIT` in each stratum, or `CELL_LIMIT` counts: the
    normal interval.

    Args:
        counts: `[c]`, samples of each kind.
        strata: `[c]`, the stratum of each kind, from 0.
        statistic: `[..., c]` counts -> `[...]` values; smooth.
        gradient: `[c]`, the derivative of `statistic` by each count.
        cells: What counts against `CELL_LIMIT`, where `statistic` has more work than `c` counts.
    """
    return resample_counts(counts, strata, statistic, gradient, cells)


def delong(scores: Array, flags: Array) -> tuple[Array, Array]:
    """Return the areas under the ROC curves of `m` scores of the same samples, with covariance.

    X. Sun, W. Xu, "Fast implementation of DeLong's algorithm for comparing the areas under
    correlated receiver operating characteristic curves", IEEE Signal Processing Letters 21 (2014),
    theorem 1 and algorithm 2: by midranks, so ties count half and it takes no longer than a sort.

    Args:
        scores: `[m, n]`, higher is more anomalous.
        flags: `[n]`, true for anomalies.

    Returns:
        Areas `[m]` and their covariance `[m, m]`.
    """
    flags = flags.astype(bool)
    hits, misses = int(flags.sum()), int((~flags).sum())
    areas, over_misses, over_hits = [], [], []
    for row in scores:
        everyone, among_hits, among_misses = (
            _midranks(row),
            _midranks(row[flags]),
            _midranks(row[~flags]),
        )
        over_misses.append((everyone[flags] - among_hits) / misses)
        over_hits.append(1 - (everyone[~flags] - among_misses) / hits)
        areas.append(over_misses[-1].mean())
    covariance = np.cov(np.array(over_misses)) / hits + np.cov(np.array(over_hits)) / misses
    return np.array(areas), np.atleast_2d(covariance)


def area_interval(area: float, variance: float, flags: Array) -> Interval:
    """Return the interval of one ROC area: DeLong's variance on the logit scale.

    On that scale (M. Pepe, "The Statistical Evaluation of Medical Tests for Classification and
    Prediction", 2003) the interval stays within [0, 1]. A perfect separation has no variance to go
    by; there the end is that of `k` successes in `k`, with `k` the size of the smaller class.
    """
    if not 0 < area < 1 or variance <= 0:
        slack = unseen(flags)
        return max(0.0, area - slack), min(1.0, area + slack)
    logit = float(np.log(area / (1 - area)))
    half = Z * variance**0.5 / (area * (1 - area))
    low, high = (1 / (1 + np.exp(-(logit + side))) for side in (-half, half))
    return float(low), float(high)


def area_difference_interval(areas: Array, covariance: Array, flags: Array) -> Interval:
    """Return the interval of `areas[0] - areas[1]` of the same samples.

    E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated
    receiver operating characteristic curves", Biometrics 44 (1988): the normal interval of the
    contrast (1, -1).
    """
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    half = Z * variance**0.5 if variance > 1e-18 else unseen(flags)
    return difference - half, difference + half


def unseen(flags: Array) -> float:
    """Return how much may hide where not a single pair of samples speaks against the score."""
    few = int(min(flags.sum(), len(flags) - flags.sum()))
    return 1 - wilson(few, few)[0]


def hidden_share(n: int | Array) -> Any:
    """Return what share of samples may differ though none of `n` did: Z^2 / (n + Z^2).

    The end of Wilson's interval of 0 in `n`, and of Tango's of no change in `n`.
    """
    return Z**2 / (n + Z**2)


def _midranks(values: Array) -> Array:
    """Return ranks from 1, those of ties averaged: `[0.2, 0.7, 0.2]` -> `[1.5, 3, 1.5]`."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle: Array = np.cumsum(counts) - (counts - 1) / 2
    return middle[inverse]


def crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses zero, by bisection to the last bit that matters."""
    for _ in range(60):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2

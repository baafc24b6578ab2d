"""How the latency of one file compares with another's, and how surely."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass
from typing import Final

from edgekit.records.results import Timing

_BLOCKS: Final = 10
_FEWEST: Final = 2 * _BLOCKS
"""Of fewer invocations nothing is known of the noise."""


@dataclass(frozen=True, slots=True)
class LatencyRatio:
    """The ratio of two medians; `low` is the least that it may be within the measured noise."""

    value: float
    low: float


def latency_ratio(timing: Timing | None, reference: Timing | None) -> LatencyRatio | None:
    """Return the ratio of two latencies, if both are from one device.

    Timings that were taken by turns are compared round by round: `value` is the median of the
    ratios, and `low` the lower end of its 95 % interval, by order statistics. Others are divided
    into blocks, of which the least and the largest median are left out: `low` is the ratio of the
    least that remains to the reference's largest.
    """
    if timing is None or reference is None or timing.device != reference.device:
        return None
    value = timing.p50_ms / reference.p50_ms
    if timing is reference:
        return LatencyRatio(1.0, 1.0)
    if timing.rounds == reference.rounds > 1:
        pairs = zip(
            _medians(timing, timing.rounds), _medians(reference, timing.rounds), strict=True
        )
        ratios = sorted(one / other for one, other in pairs)
        return LatencyRatio(statistics.median(ratios), ratios[_lower_end(len(ratios))])
    if min(len(timing.values_ns), len(reference.values_ns)) < _FEWEST:
        return LatencyRatio(value, value)
    least, most = sorted(_medians(timing, _BLOCKS))[1], sorted(_medians(reference, _BLOCKS))[-2]
    return LatencyRatio(value, min(value, least / most))


def _medians(timing: Timing, blocks: int) -> list[float]:
    """Return the medians of that many blocks of consecutive invocations."""
    values = timing.values_ns
    ends = [len(values) * k // blocks for k in range(blocks + 1)]
    return [statistics.median(values[start:end]) for start, end in itertools.pairwise(ends)]


def _lower_end(n: int) -> int:
    """Return which of `n` ordered values is the lower end of the median's 95 % interval."""
    below, k = 0.0, 0
    while (below := below + math.comb(n, k) / 2**n) <= 0.025:
        k += 1
    return max(0, k - 1)

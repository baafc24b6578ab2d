"""How the latency of one file compares with another's, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgekit.records.results import Timing

TIE: Final = 1.01
"""Latencies, or sizes, as near as this are equal."""

_BLOCKS: Final = 10
_FEWEST: Final = 2 * _BLOCKS
"""Of fewer invocations nothing is known of the noise."""


@dataclass(frozen=True, slots=True)
class LatencyRatio:
    """The ratio of two medians, and the least and the most it may be within the measured noise."""

    value: float
    low: float
    high: float

    @property
    def is_equal(self) -> bool:
        """Whether the two are equal as far as is known: within the noise, or nearly."""
        return self.low <= TIE and self.high >= 1 / TIE


def latency_ratio(timing: Timing | None, reference: Timing | None) -> LatencyRatio | None:
    """Return the ratio of two latencies, if both are from one device.

    Timings that were taken by turns are compared round by round: `value` is the median of the
    ratios, and `low` and `high` are the ends of its 95 % interval, by order statistics. Others are
    divided into blocks, of which the least and the largest median are left out: `low` is the ratio
    of the least that remains to the reference's largest, `high` that of the largest to its least.
    """
    from edgekit_runner import block_medians, ratio_by_turns  # large, and seldom needed here

    if timing is None or reference is None or timing.device != reference.device:
        return None
    value = timing.p50_ms / reference.p50_ms
    if timing is reference:
        return LatencyRatio(1.0, 1.0, 1.0)
    if timing.rounds == reference.rounds > 1:
        return LatencyRatio(**ratio_by_turns(timing.values_ns, reference.values_ns, timing.rounds))
    if min(len(timing.values_ns), len(reference.values_ns)) < _FEWEST:
        return LatencyRatio(value, value, value)
    mine, others = (sorted(block_medians(t.values_ns, _BLOCKS)) for t in (timing, reference))
    low, high = mine[1] / others[-2], mine[-2] / others[1]
    return LatencyRatio(value, min(value, low), max(value, high))

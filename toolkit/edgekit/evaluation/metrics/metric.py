"""What a metric is: how it is computed, how sure it is, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.evaluation.intervals import Interval
from edgekit.records import Array, Drop

Columns = Mapping[str, Array]
"""Per-sample statistics by name, each `[n, ...]`, as a task's `per_sample` makes them."""

Unit = Literal["percent", "fraction", "quantity"]


Extrapolation = Callable[[float], Interval]
"""How many times as many samples -> the interval of a drop, if it stays as measured."""


def shrink_by_root(drop: Drop, n: int) -> Extrapolation:
    """Return how the interval of a drop narrows: its sides go with the square root of `n`.

    Args:
        drop: As measured on `n` samples.
        n: Number of samples; of no matter here.
    """
    _ = n
    value, (low, high) = drop.value, drop.ci95

    def interval(more: float) -> Interval:
        return value + (low - value) / more**0.5, value + (high - value) / more**0.5

    return interval


def lacks_either_kind(columns: Columns) -> tuple[str, str] | None:
    """Say where there are not two samples of class 0 and two of class 1 (`Metric.lacks`)."""
    ones = int(np.sum(columns["target"] == 1))
    zeros = len(columns["target"]) - ones
    if min(ones, zeros) >= 2:
        return None
    return "at least two test samples of either class", f"{zeros} of class 0 and {ones} of class 1"


def shrink_by_count(drop: Drop, n: int) -> Extrapolation:
    """Return how the interval of a drop of shares narrows.

    Where nothing was lost or won, its sides go with `n`: what is left is the loss that so many
    samples cannot show, 3.84 / n of a class (Tango's interval without discordant pairs). Otherwise
    they go with the square root of `n`.

    Args:
        drop: As measured on `n` samples.
        n: Number of samples.
    """
    if drop.value != 0:
        return shrink_by_root(drop, n)
    low, high = drop.ci95
    return lambda more: (low / more, high / more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure that tells how good outputs are.

    Attributes:
        name: The name in JSON and on the command line.
        title: The name in sentences and table heads.
        meaning: One or two sentences for the glossary of a report; empty if it needs none.
        unit: `percent`: a share, written in percent, drops in points. `fraction`: in [0, 1],
            drops in points. `quantity`: in the unit of the targets, drops in percent of it.
        higher_is_better: The direction.
        value: Columns of all samples -> the figure.
        interval: Columns -> its 95 % interval.
        paired_interval: Columns of the reference, and of a variant on the same samples -> the
            95 % interval of the loss; positive is worse.
        extrapolate: Drop and its `n` -> how its interval narrows with more samples.
        smallest_reference: Columns -> the least value of which a drop is taken in percent, for a
            quantity: percent of next to nothing would allow no loss at all.
        guess: Columns -> the value of the best prediction that ignores the input, by the targets
            alone; None where a metric does not tell.
        lacks: Columns -> what the samples would need for the metric and do not have, in words, and
            what they have; None where they allow it. Only `target` is asked.
        takes_outputs: Whether it is computed of the outputs and targets themselves, which are then
            columns (`metrics.own`).
    """

    name: str
    title: str
    unit: Unit
    value: Callable[[Columns], float]
    interval: Callable[[Columns], Interval]
    paired_interval: Callable[[Columns, Columns], Interval]
    meaning: str = ""
    higher_is_better: bool = True
    extrapolate: Callable[[Drop, int], Extrapolation] = shrink_by_root
    smallest_reference: Callable[[Columns], float] = lambda _: 0.0
    guess: Callable[[Columns], float | None] | None = None
    lacks: Callable[[Columns], tuple[str, str] | None] = lambda _: None
    takes_outputs: bool = False

    def loss(self, reference: float, value: float) -> float:
        """Return how much worse `value` is than `reference`; negative where it is better."""
        return reference - value if self.higher_is_better else value - reference

    def budget(self, reference: float, columns: Columns, max_drop: float) -> float:
        """Return the largest loss allowed, in the metric's own unit.

        Args:
            reference: The value of the model that is compared with.
            columns: Those of that model.
            max_drop: In points (0.5 -> 0.005), or for a quantity in percent of `reference`
                (0.5 at 16.0 -> 0.08), which counts as `smallest_reference` where it is less.
        """
        if self.unit != "quantity":
            return max_drop / 100
        return max_drop / 100 * max(abs(reference), self.smallest_reference(columns))

    @property
    def ceiling(self) -> float:
        """The largest value there is."""
        return float("inf") if self.unit == "quantity" else 1.0

    @property
    def budget_unit(self) -> str:
        """The unit of an accepted loss, in words."""
        return f"% of the {self.title}" if self.unit == "quantity" else "points"


MetricChoice = str | Metric | Sequence[str | Metric] | None
"""The metrics that are asked for, the judged one first; None or none takes the default."""


def listed(asked: MetricChoice) -> tuple[str | Metric, ...]:
    """Return the metrics that are asked for, one by one."""
    if asked is None:
        return ()
    return (asked,) if isinstance(asked, str | Metric) else tuple(asked)

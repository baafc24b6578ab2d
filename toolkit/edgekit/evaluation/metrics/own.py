"""A metric of the user's own: a function of the outputs and targets of all test samples.

Its intervals are a bootstrap over samples, as far as time allows: the function is called once for
each resample of a file, and the same resamples are drawn of every file, so that a drop is paired.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric, Unit
from edgekit.records import Array
from edgekit_runner import bca

OUTPUTS: Final = "own outputs"
TARGETS: Final = "own targets"
"""Columns of the outputs as they are, and of the targets as the task takes them."""

RESAMPLES: Final = 1000
FEWEST: Final = 200
"""Drawn where the function is too slow for `RESAMPLES`; with fewer there is no interval."""
SECONDS: Final = 10.0
"""Processor time that all resamples of a file may take."""
PATIENCE: Final = 5
"""So many times as long they may take by the clock."""
TRIED: Final = 5
"""So many tell how long one takes."""
MOST_FAILED: Final = 0.05
"""The share of resamples that the function may refuse, such as those without a sample of a class:
they are left out; of more there is no interval."""

NOT_MEASURED: Final = (float("nan"), float("nan"))


def own_metric(
    name: str,
    function: Callable[[Array, Array], float],
    *,
    higher_is_better: bool = True,
    unit: Unit = "quantity",
    meaning: str = "",
) -> Metric:
    """Return a function as a metric.

    Args:
        name: The name in JSON and in tables.
        function: Outputs `[n, ...]` and targets `[n, ...]` -> a finite number. It raises a
            `DataError` where it cannot tell one.
        higher_is_better: The direction.
        unit: As of `Metric`: an accepted loss is in percent of a quantity, in points of others.
        meaning: A sentence for the glossary of a report.
    """
    drawn = _Resamples(function)

    def value(columns: Columns) -> float:
        return function(columns[OUTPUTS], columns[TARGETS])

    def interval(columns: Columns) -> intervals.Interval:
        return _interval(value(columns), drawn.of(columns), _room(columns, value(columns)))

    def paired(reference: Columns, variant: Columns) -> intervals.Interval:
        sign = 1.0 if higher_is_better else -1.0
        before, after = drawn.of(reference), drawn.of(variant)
        n = min(len(before), len(after))
        whole = value(reference)
        loss = sign * (whole - value(variant))
        losses: Array = sign * (before[:n] - after[:n])
        return _interval(loss, losses, _room(reference, whole))

    return Metric(
        name=name,
        title=name,
        meaning=meaning,
        unit=unit,
        higher_is_better=higher_is_better,
        value=value,
        interval=interval,
        paired_interval=paired,
        takes_outputs=True,
    )


def with_outputs(columns: Mapping[str, Array], outputs: Array, targets: Array) -> dict[str, Array]:
    """Return columns with what a metric of the user's own is computed of."""
    return {**columns, OUTPUTS: outputs, TARGETS: targets}


@dataclass(slots=True)
class _Resamples:
    """What the function says of resamples, computed once for the outputs of each file."""

    function: Callable[[Array, Array], float]
    kept: dict[int, tuple[weakref.ref[Array], Array]] = field(default_factory=dict)

    def of(self, columns: Columns) -> Array:
        """Return one value a resample, NaN where the function refused it; empty: not affordable."""
        outputs = columns[OUTPUTS]
        known = self.kept.get(id(outputs))
        if known is not None and known[0]() is outputs:
            return known[1]
        values = self._draw(outputs, columns[TARGETS])
        self.kept = {key: entry for key, entry in self.kept.items() if entry[0]() is not None}
        self.kept[id(outputs)] = weakref.ref(outputs), values
        return values

    def _draw(self, outputs: Array, targets: Array) -> Array:
        n, count = len(outputs), RESAMPLES
        generator = np.random.default_rng(0)
        values: list[float] = []
        start, started = time.process_time(), time.perf_counter()
        while len(values) < count:
            rows = generator.integers(0, n, n)
            try:
                values.append(self.function(outputs[rows], targets[rows]))
            except DataError:
                values.append(float("nan"))
            # A busy machine is no reason to claim less, up to a point.
            waited = time.perf_counter() - started
            spent = max(time.process_time() - start, waited / PATIENCE)
            if len(values) >= TRIED or spent > 1:
                each = spent / len(values)
                count = next((m for m in (RESAMPLES, FEWEST) if m * each <= SECONDS), 0)
        return np.array(values[:count])


def _room(columns: Columns, value: float) -> float:
    """Return how much may hide where no resample differs: a share of samples none was seen of."""
    return float(intervals.hidden_share(len(columns[OUTPUTS]))) * abs(value)


def _interval(value: float, values: Array, room: float) -> intervals.Interval:
    """Return the interval of a value: the bias-corrected percentiles of its resamples.

    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), eq. 14.10 without
    acceleration, with the wider percentiles of `intervals.bootstrap`.
    """
    told = np.sort(values[np.isfinite(values)])
    if len(told) < max(1, FEWEST * (1 - MOST_FAILED), (1 - MOST_FAILED) * len(values)):
        return NOT_MEASURED
    if told[0] == told[-1] == value:
        return value - room, value + room
    below = float(np.mean(told < value) + np.mean(told == value) / 2)
    return bca(told, below, 0.0, len(told) - 1)

"""Expected calibration error: how far confidence is from the share of right answers.

Value and interval are the runner's (`edgekit_runner.calibration_error`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.records import Array
from edgekit_runner import calibration_error, calibration_gaps

CERTAIN = 3.0
"""Standard errors from 0 beyond which the sign of a bin's gap is taken as known."""


def _right(columns: Columns) -> Array:
    right: Array = columns["predicted"] == columns["target"]
    return right


def _error(columns: Columns, *, with_interval: bool) -> tuple[float, intervals.Interval]:
    return calibration_error(_right(columns), columns["confidence"], with_interval=with_interval)


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    """Return the interval of the rise of the error.

    The rise is that of the sum of |gap| over bins. Where the sign of a gap is certain, it is a mean
    over samples like any other; elsewhere |gap| is too large by up to the folded normal's excess
    (`edgekit_runner.calibration_error`), or the rise of the bin is no more, up or down, than its
    gap moved (the triangle inequality), whichever says more. The variance of what samples move is
    bounded by their mean square, each with the signs that make it largest where these are unknown.
    """
    n = len(reference["confidence"])
    before, after = (_Gaps.of(columns) for columns in (reference, variant))
    rise, moved = np.abs(after.gaps) - np.abs(before.gaps), np.abs(after.gaps - before.gaps)
    told = before.excess + after.excess < 2 * moved
    low = float(np.where(told, rise - after.excess, -moved).sum())
    high = float(np.where(told, rise + before.excess, moved).sum())
    known = (before.sign != 0) & (after.sign != 0)
    step = np.where(
        known,
        np.abs(after.sign * after.each - before.sign * before.each),
        np.where(
            before.place == after.place,
            np.abs(after.each - before.each),
            np.abs(after.each) + np.abs(before.each),
        ),
    )
    half = intervals.Z * float(np.mean(step**2) / n) ** 0.5
    return low - half, high + half


@dataclass(frozen=True, slots=True)
class _Gaps:
    """The gaps of one model.

    Attributes:
        gaps: One a bin.
        excess: By how much |gap| may be too large, likewise; 0 where its sign is certain.
        place: The bin of each sample, `[n]`.
        each: Right minus confidence, `[n]`.
        sign: Of the gap of its bin, `[n]`; 0 where that is not certain.
    """

    gaps: Array
    excess: Array
    place: Array
    each: Array
    sign: Array

    @classmethod
    def of(cls, columns: Columns) -> _Gaps:
        right, confidence = _right(columns), columns["confidence"]
        place, gaps, errors = calibration_gaps(right, confidence)
        certain = np.abs(gaps) > CERTAIN * errors
        excess = np.where(certain, 0.0, (2 / np.pi) ** 0.5 * errors)
        sign = np.where(certain, np.sign(gaps), 0.0)[place]
        return cls(gaps, excess, place, right - confidence, sign)


ECE = Metric(
    name="ece",
    title="calibration error",
    meaning="How far the probability of the predicted class is from the share of right answers, "
    "averaged over 15 bins of that probability (expected calibration error). Lower is better.",
    unit="fraction",
    higher_is_better=False,
    value=lambda columns: _error(columns, with_interval=False)[0],
    interval=lambda columns: _error(columns, with_interval=True)[1],
    paired_interval=_paired,
)

"""Expected calibration error: how far confidence is from the share of right answers.

Value and interval are the runner's (`edgekit_runner.calibration_error`).
"""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.records import Array
from edgekit_runner import ECE_BINS, calibration_error, calibration_gaps

CERTAIN = 3.0
"""Standard errors from 0 beyond which the sign of a bin's gap is taken as known."""


def _right(columns: Columns) -> Array:
    right: Array = columns["predicted"] == columns["target"]
    return right


def _error(columns: Columns, *, with_interval: bool) -> tuple[float, intervals.Interval]:
    return calibration_error(_right(columns), columns["confidence"], with_interval=with_interval)


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    """Return the interval of the rise of the error.

    Where both gaps of a bin have one sign for certain, the rise is that of the gap; elsewhere it
    is only known to be no more, up or down, than the gap moved (the triangle inequality). What the
    gaps moved is a mean over samples, of which each moves two bins at most: its variance is bounded
    by the mean square of what the sample moves in all.
    """
    n = len(reference["confidence"])
    moved = np.zeros((n, ECE_BINS))
    gaps, errors = [], []
    for columns, sign in ((reference, -1.0), (variant, 1.0)):
        right = _right(columns)
        place, gap, error = calibration_gaps(right, columns["confidence"])
        moved[np.arange(n), place] += sign * (right - columns["confidence"])
        gaps.append(gap)
        errors.append(error)
    before, after = gaps
    known = (before * after > 0) & np.logical_and(
        *(np.abs(gap) > CERTAIN * error for gap, error in zip(gaps, errors, strict=True))
    )
    rise = float((np.abs(after) - np.abs(before))[known].sum())
    open_rise = float(np.abs(after - before)[~known].sum())
    half = intervals.Z * float(np.mean(np.abs(moved).sum(axis=1) ** 2) / n) ** 0.5
    return rise - open_rise - half, rise + open_rise + half


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

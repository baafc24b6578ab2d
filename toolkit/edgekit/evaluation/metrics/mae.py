"""Mean absolute error, in the unit of the targets."""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.evaluation.metrics.rmse import least_error
from edgekit.records import Array


def _interval(columns: Columns) -> intervals.Interval:
    return intervals.bootstrap(columns["absolute"][:, None], lambda means: means[..., 0])


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    losses: Array = variant["absolute"] - reference["absolute"]
    return intervals.bootstrap(losses[:, None], lambda means: means[..., 0])


def _guess(columns: Columns) -> float | None:
    """Return the MAE of predicting each column's median; None where columns are not kept apart."""
    if "target" not in columns:
        return None
    target = columns["target"]
    return float(np.abs(target - np.median(target, axis=0)).mean())


MAE = Metric(
    name="mae",
    title="MAE",
    meaning="Mean absolute error, in the target's unit. Lower is better.",
    unit="quantity",
    higher_is_better=False,
    value=lambda columns: float(columns["absolute"].mean()),
    interval=_interval,
    paired_interval=_paired,
    smallest_reference=least_error,
    guess=_guess,
)

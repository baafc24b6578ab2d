"""Root mean squared error, in the unit of the targets."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric

SPREAD_SHARE: Final = 0.1
"""An RMSE below this share of the targets' standard deviation counts as that share, where an
accepted loss is in percent of it. At a tenth the model explains 99 % of the variance."""


def _value(columns: Columns) -> float:
    return float(np.sqrt(columns["squared"].mean()))


def _interval(columns: Columns) -> intervals.Interval:
    return intervals.bootstrap(columns["squared"][:, None], lambda means: np.sqrt(means[..., 0]))


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    return intervals.bootstrap(
        np.stack([reference["squared"], variant["squared"]], axis=1),
        lambda means: np.sqrt(means[..., 1]) - np.sqrt(means[..., 0]),
    )


def least_error(columns: Columns) -> float:
    """Return the error that counts at least where a loss is in percent of it."""
    return SPREAD_SHARE * float(np.std(columns["target_mean"]))


def _guess(columns: Columns) -> float:
    """Return the RMSE of predicting each column's mean: the root of their mean variance.

    Where a sample has too many values to keep them apart, that of one number for all of them.
    """
    if "target" in columns:
        return float(np.sqrt(columns["target"].var(axis=0).mean()))
    spread = columns["target_square"].mean() - columns["target_mean"].mean() ** 2
    return float(np.sqrt(max(0.0, spread)))


RMSE = Metric(
    name="rmse",
    title="RMSE",
    meaning="Root mean squared error, in the target's unit. Lower is better.",
    unit="quantity",
    higher_is_better=False,
    value=_value,
    interval=_interval,
    paired_interval=_paired,
    smallest_reference=least_error,
    guess=_guess,
)

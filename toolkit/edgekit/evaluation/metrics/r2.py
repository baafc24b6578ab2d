"""R2, the coefficient of determination: the share of the targets' variance that is explained.

`1 - squared errors / squared distances from the mean target`, the mean over the columns of an
output. Columns whose targets are all alike are left out. Of an output with too many columns to keep
them apart (`tasks.regression.COLUMNS`), all values are one column.
"""

from __future__ import annotations

import numpy as np

from edgekit.evaluation import intervals
from edgekit.evaluation.metrics.metric import Columns, Metric
from edgekit.records import Array
from edgekit_runner import explained, moments_of


def _moments(columns: Columns) -> Array:
    """Return squared errors, targets and their squares, `[n, 3 k]`."""
    if "squares" in columns:
        moments: Array = moments_of(columns["squares"], columns["target"])
    else:
        names = ("squared", "target_mean", "target_square")
        moments = moments_of(*(columns[name][:, None] for name in names))
    return moments


def _paired(reference: Columns, variant: Columns) -> intervals.Interval:
    # The targets are the same, so that only the squared errors differ.
    before, after = _moments(reference), _moments(variant)
    k = before.shape[1] // 3

    def loss(means: Array) -> Array:
        first, second = means[..., : 3 * k], means[..., 3 * k :]
        difference: Array = explained(first) - explained(
            np.concatenate([second, first[..., k:]], axis=-1)
        )
        return difference

    return intervals.bootstrap(np.concatenate([before, after[:, :k]], axis=1), loss)


def _lacks(columns: Columns) -> tuple[str, str] | None:
    target = columns.get("target")
    if target is None or (np.ptp(target.reshape(len(target), -1), axis=0) > 0).any():
        return None
    return "targets that differ", f"{len(target)} targets that are all alike"


R2 = Metric(
    name="r2",
    title="R2",
    meaning="The share of the targets' variance that is explained: 1 is perfect, 0 is what their "
    "mean would reach. With several columns, the mean over the columns.",
    unit="fraction",
    value=lambda columns: float(explained(_moments(columns).mean(axis=0))),
    interval=lambda columns: intervals.bootstrap(_moments(columns), explained),
    paired_interval=_paired,
    guess=lambda _: 0.0,
    lacks=_lacks,
)

"""What is said of the calibration samples."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.pipeline.imported_model import ImportedModel
from edgekit.quantization import QuantizedModel
from edgekit.records import Plan

_MOST_NAMED = 5


def dropped_samples(dropped: Sequence[int]) -> list[str]:
    """Name the calibration samples that were left out; empty where none was.

    Args:
        dropped: Their numbers among the training samples, from 0.
    """
    if not dropped:
        return []
    named = ", ".join(f"{row:,}" for row in dropped[:_MOST_NAMED])
    more = f" and {len(dropped) - _MOST_NAMED:,} more" if len(dropped) > _MOST_NAMED else ""
    one = len(dropped) == 1
    text = (
        f"{'Sample' if one else 'Samples'} {named}{more} of the training split (counted from 0) "
        f"{'was' if one else 'were'} left out of calibration: values over three times as large as "
        "those of nine in ten samples. Check how they were scaled."
    )
    return [text]


def unsettled_ranges(plan: Plan, made: QuantizedModel, imported: ImportedModel) -> list[str]:
    """Say that more samples would still move the ranges, where there are more."""
    choice, dataset = made.choice, imported.dataset
    if choice is None or not choice.unsettled or dataset is None or dataset.calibrate is None:
        return []
    train, n = dataset.train, dataset.calibrate.n
    if train is None or train.n <= n:
        return []
    median, most = choice.widened
    text = (
        f"{plan.variant}: more calibration samples would still move its ranges. The last "
        f"{choice.held} of {n} widened half of them by {median:.0%} or more, one by {most:.0%}. "
        f"Try --calibration-samples {min(4 * n, train.n)}."
    )
    return [text]

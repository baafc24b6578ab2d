"""What a variant loses against the float model, judged on the same samples."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.scores import Evaluation
from edgekit.records import ColumnDrop, Drop, OutputDrop, Verdict, verdict_on


def budget(reference: Evaluation, max_drop: float) -> float:
    """Return the largest drop allowed, in the metric's unit; see `Metric.budget`."""
    return reference.metric.budget(reference.score.value, reference.columns, max_drop)


def paired_drop(
    reference: Evaluation, variant: Evaluation, *, max_drop: float, same_file: bool = False
) -> Drop:
    """Return the loss of a variant with its paired interval and verdict.

    Where an output has several columns, each is judged like a model of its own, and the verdict
    is the worst of all: the error of them together is that of the column of largest values. So is
    each further output that has targets.

    Even identical predictions leave room for a loss the samples did not show: 3.84 / n for
    accuracy. Not so of a file that is compared with itself, as another device runs it: where no
    answer is another, nothing was lost that more samples would show.

    Args:
        reference: The float model.
        variant: The variant, on the same samples.
        max_drop: The budget, as `Metric.budget` takes it.
        same_file: Whether both are one file, run in two places.

    Raises:
        DataError: The two were not evaluated on the same samples.
    """
    _check_same_samples(reference, variant)
    metric = reference.metric
    value = metric.loss(reference.score.value, variant.score.value)
    if same_file and value == 0 and _same_answers(reference, variant):
        low = high = 0.0
    else:
        low, high = metric.paired_interval(reference.columns, variant.columns)
    allowed = budget(reference, max_drop)
    per_column = _column_drops(reference, variant, max_drop)
    per_output = tuple(
        OutputDrop(
            output=name,
            drop=paired_drop(one, variant.others[name], max_drop=max_drop, same_file=same_file),
        )
        for name, one in reference.others.items()
        if name in variant.others
    )
    verdicts = [
        verdict_on((low, high), allowed),
        *(column.verdict for column in per_column),
        *(one.drop.verdict for one in per_output),
    ]
    return Drop(
        value=value,
        ci95=(low, high),
        verdict=max(verdicts, key=_FROM_BEST_TO_WORST.index),
        allowed=allowed,
        per_column=per_column,
        per_output=per_output,
    )


def agreement(reference: Evaluation, variant: Evaluation) -> float | None:
    """Return the share of samples given the same class by both; None where it is no classifier."""
    return reference.task.agreement(reference.columns, variant.columns)


def _same_answers(reference: Evaluation, variant: Evaluation) -> bool:
    """Whether both gave every sample the same class, or came as near to every target."""
    share = agreement(reference, variant)
    if share is not None:
        return share == 1
    return all(
        np.array_equal(values, variant.columns[name]) for name, values in reference.columns.items()
    )


def _check_same_samples(reference: Evaluation, variant: Evaluation) -> None:
    if reference.metric is not variant.metric or reference.task is not variant.task:
        raise DataError(
            "A drop needs both models scored by one metric.",
            found=f"{reference.score.metric} and {variant.score.metric}.",
        )
    if reference.score.n != variant.score.n:
        raise DataError(
            "A drop needs both models evaluated on the same samples.",
            found=f"{reference.score.n} and {variant.score.n} samples.",
        )
    first, second = (e.columns.get("target") for e in (reference, variant))
    if first is not None and second is not None and not np.array_equal(first, second):
        raise DataError("A drop needs both models evaluated on the same samples.")


def _column_drops(
    reference: Evaluation, variant: Evaluation, max_drop: float
) -> tuple[ColumnDrop, ...]:
    """Judge each column of an output as if it were the only one."""
    metric, found = reference.metric, []
    if metric.takes_outputs:
        return ()
    columns = (
        evaluation.task.each_column(evaluation.columns) for evaluation in (reference, variant)
    )
    for one, before, after in zip(
        reference.score.per_column, *(each.values() for each in columns), strict=True
    ):
        low, high = metric.paired_interval(before, after)
        allowed = metric.budget(one.value, before, max_drop)
        found.append(
            ColumnDrop(
                label=one.label,
                value=metric.loss(one.value, metric.value(after)),
                ci95=(low, high),
                verdict=verdict_on((low, high), allowed),
                allowed=allowed,
            )
        )
    return tuple(found)


_FROM_BEST_TO_WORST: Final[tuple[Verdict, ...]] = ("kept", "unproven", "lost")

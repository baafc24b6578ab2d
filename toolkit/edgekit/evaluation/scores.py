"""How good a model's outputs are, with a 95 % interval.

In two steps, because the first runs in the children, piece by piece, and leaves a number or two
per sample: the task's `per_sample` compares outputs with targets, `aggregate` makes the score of
all samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation.metrics import Columns, Metric, add_metric
from edgekit.evaluation.predict import sweep
from edgekit.evaluation.tasks import Task, task_named
from edgekit.records import Array, Batch, Dataset, Listener, Score, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A score and what it was made of, to be compared with another's on the same samples.

    Attributes:
        score: The score.
        task: What the targets mean.
        metric: What the score is.
        columns: Per-sample statistics, each `[n, ...]`.
    """

    score: Score
    task: Task
    metric: Metric
    columns: Columns


def evaluate(
    path: Path,
    dataset: Dataset,
    *,
    output: str | None = None,
    metric: str | Metric | None = None,
    processes: int | None = None,
    listener: Listener = silent,
) -> Evaluation:
    """Score a `.tflite` file on the test split.

    Args:
        path: The file.
        dataset: Bound to the model (its task is known).
        output: The output to score; the only one where None.
        metric: The metric to judge by: a name, or one of the user's own; the task's default where
            None.
        processes: Children at work; one per usable core where None.
        listener: Progress callback.

    Raises:
        ModelError: The file cannot be read or run, or its outputs are not numbers.
        DataError: There is nothing to score on, or it does not fit the outputs.
        UsageError: `output` names none of the outputs, or is needed; the task has no such metric.
    """
    if dataset.test is None or dataset.task is None:
        missing = "test split" if dataset.task else "task"
        raise DataError(f"{path.name} cannot be scored: {dataset.name} has no {missing}.")
    task = task_named(dataset.task)
    metric_of(task, metric)

    def collect(batch: Batch, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return task.per_sample(_chosen(outputs, output, path), batch)

    columns = sweep(path, dataset.test, collect, processes=processes, listener=listener)
    check_finite(columns, path)
    return aggregate(columns, task, labels=dataset.labels, metric=metric)


def check_finite(columns: Columns, path: Path) -> None:
    """Raise where a file's outputs cannot be scored.

    Raises:
        ModelError: Some are NaN or infinite.
    """
    if broken := int(np.sum(~columns["sound"])):
        raise ModelError(
            f"{path} has no score: it computes NaN or infinity.",
            found=f"{broken:,} of {len(columns['sound']):,} test samples end so.",
            hint="Look for weights or activations beyond the precision's range.",
        )


def score(
    outputs: Array, batch: Batch, *, task: Task, labels: Sequence[str] | None = None
) -> Score:
    """Return the score of outputs `[n, ...]` that are all at hand."""
    return aggregate(task.per_sample(outputs, batch), task, labels=labels).score


def metric_of(task: Task, name: str | Metric | None) -> Metric:
    """Return the metric of that name, or the task's default; one of the user's own is made known.

    Raises:
        UsageError: The task has no such metric, or edgekit has another of that name.
    """
    if name is None:
        return task.metrics[0]
    if isinstance(name, Metric):
        add_metric(name)
        return name
    for metric in task.metrics:
        if metric.name == name:
            return metric
    raise UsageError(
        f"There is no metric {name!r} of a {task.name}.",
        hint=f"Known here: {', '.join(metric.name for metric in task.metrics)}.",
    )


def aggregate(
    columns: Columns,
    task: Task,
    *,
    labels: Sequence[str] | None = None,
    metric: str | Metric | None = None,
) -> Evaluation:
    """Make the score of all samples of what `per_sample` said of each.

    Raises:
        DataError: The samples do not allow the metric (ROC AUC without two of either kind).
        UsageError: The task has no such metric.
    """
    chosen = metric_of(task, metric)
    columns = task.complete(columns)
    others = {m.name: m.value(columns) for m in task.metrics if m is not chosen}
    return Evaluation(
        score=Score(
            metric=chosen.name,
            value=chosen.value(columns),
            n=len(columns["sound"]),
            ci95=chosen.interval(columns),
            extras={**task.extras(columns), **others},
            per_class=task.per_class(columns, labels),
            guess=chosen.guess(columns) if chosen.guess else None,
        ),
        task=task,
        metric=chosen,
        columns=columns,
    )


def _chosen(outputs: Mapping[str, Array], name: str | None, path: Path) -> Array:
    """Return the output to score: the one named, or the first."""
    if name is None:
        return next(iter(outputs.values()))
    if name in outputs:
        return outputs[name]
    raise UsageError(
        f"{path.name} has {len(outputs)} output{'s' * (len(outputs) != 1)}: {', '.join(outputs)}.",
        found=f"None is named {name}.",
        hint="Name the one to score with --score-output.",
    )

"""How good a model's outputs are, with a 95 % interval.

In two steps, because the first runs in the children, piece by piece, and leaves a number or two
per sample: the task's `per_sample` compares outputs with targets, `aggregate` makes the score of
all samples. The raw outputs of some samples come along, which tell how near two files are whether
there are targets or not (`fidelity`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation.metrics import Columns, Metric, add_metric
from edgekit.evaluation.predict import sweep
from edgekit.evaluation.tasks import Task, task_named
from edgekit.evaluation.tasks.detection import detections_of
from edgekit.records import (
    Array,
    Batch,
    ColumnScore,
    Dataset,
    Listener,
    Samples,
    Score,
    silent,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a file computed, to be compared with another's on the same samples.

    Attributes:
        outputs: All outputs, `[n, ...]`, of the samples `fidelity.compared_rows`; empty where only
            scores were asked for.
    """

    outputs: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Predictions):
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
        told = scored_output(outputs, output, path.name, head=dataset.head)
        return task.per_sample(told, batch)

    columns, outputs = sweep(path, dataset.test, collect, processes=processes, listener=listener)
    check_finite(columns, path)
    found = aggregate(columns, task, labels=dataset.labels, metric=metric)
    return replace(found, outputs=outputs)


def evaluate_pieces(
    pieces: Iterable[tuple[Array, Batch]],
    dataset: Dataset,
    *,
    metric: str | Metric | None = None,
    about: Path,
) -> Evaluation:
    """Score outputs of the test split that were computed elsewhere, as `evaluate` scores a file's.

    Args:
        pieces: The scored output `[k, ...]` of some samples, and the samples; all, in order.
        dataset: Bound to the model (its task is known).
        metric: The metric to judge by; the task's default where None.
        about: What computed them, for messages.

    Raises:
        ModelError: Outputs are NaN or infinite.
        DataError: The targets do not fit the outputs.
        UsageError: The task has no such metric.
    """
    assert dataset.task is not None
    task = task_named(dataset.task)
    parts = [task.per_sample(outputs, batch) for outputs, batch in pieces]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    check_finite(columns, about)
    return aggregate(columns, task, labels=dataset.labels, metric=metric)


def compute(path: Path, samples: Samples, *, listener: Listener = silent) -> Predictions:
    """Run a `.tflite` file over samples whose targets are not known.

    Raises:
        ModelError: The file cannot be read or run.
        DataError: The samples do not fit the inputs.
    """
    _, outputs = sweep(path, samples, lambda *_: {}, listener=listener)
    return Predictions(outputs=outputs)


def scorable(dataset: Dataset) -> bool:
    """Whether there are test samples and it is known what their targets mean."""
    return dataset.test is not None and dataset.task is not None


def compared(dataset: Dataset) -> Samples | None:
    """Return real inputs to compare files on: the test split, else what was calibrated on."""
    return dataset.test or dataset.calibrate or dataset.train


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


def metric_of(task: Task, name: str | Metric | None, columns: Columns | None = None) -> Metric:
    """Return the metric of that name, or the task's default; one of the user's own is made known.

    Args:
        task: What the targets mean.
        name: The metric, or None for the default.
        columns: As the task's `metrics_of` takes them, at least the targets; where None, only the
            task tells.

    Raises:
        UsageError: The task has no such metric, or not on these targets, or edgekit has another
            of that name.
        DataError: There are too few samples for it.
    """
    if isinstance(name, Metric):
        add_metric(name)
        chosen = name
    elif name is None:
        chosen = task.metrics[0] if columns is None else task.default_metric(columns)[0]
    else:
        known = task.metrics if columns is None else task.metrics_of(columns)
        found = next((metric for metric in known if metric.name == name), None)
        if found is None:
            of = "these classes" if name in [m.name for m in task.metrics] else f"a {task.name}"
            raise UsageError(
                f"There is no metric {name!r} of {of}.",
                hint=f"Known here: {', '.join(metric.name for metric in known)}.",
            )
        chosen = found
    lacking = None if columns is None else chosen.lacks(columns)
    if lacking is not None:
        needed, there = lacking
        raise DataError(
            f"{chosen.title} needs {needed}.",
            found=f"There are {there}.",
            hint="Add samples, or choose another --metric.",
        )
    return chosen


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
    columns = task.complete(columns)
    chosen = metric_of(task, metric, columns)
    others = {
        m.name: m.value(columns)
        for m in task.metrics_of(columns)
        if m is not chosen and m.lacks(columns) is None
    }
    return Evaluation(
        score=Score(
            metric=chosen.name,
            value=chosen.value(columns),
            n=len(columns["sound"]),
            ci95=chosen.interval(columns),
            extras={**task.extras(columns), **others},
            per_class=task.per_class(columns, labels),
            per_column=tuple(
                ColumnScore(
                    label=str(i),
                    value=chosen.value(column),
                    ci95=chosen.interval(column),
                )
                for i, column in task.each_column(columns).items()
            ),
            confusion=task.confusion(columns, labels),
            views=task.views(columns, labels),
            guess=chosen.guess(columns) if chosen.guess else None,
        ),
        task=task,
        metric=chosen,
        columns=columns,
    )


def scored_output(
    outputs: Mapping[str, Array],
    name: str | None,
    about: str = "The model",
    *,
    head: Mapping[str, Any] | None = None,
) -> Array:
    """Return the output to score: the one named, or the first; or what a head makes of several.

    Args:
        outputs: Output name -> `[n, ...]`.
        name: The output.
        about: The model, for messages.
        head: How the outputs tell boxes (`Dataset.head`); None where they tell none.

    Raises:
        ModelError: The outputs are not those of the head.
        UsageError: There is none of that name.
    """
    if head is not None:
        return detections_of(outputs, head, about)
    if name is None:
        return next(iter(outputs.values()))
    if name in outputs:
        return outputs[name]
    raise UsageError(
        f"{about} has {len(outputs)} output{'s' * (len(outputs) != 1)}: {', '.join(outputs)}.",
        found=f"None is named {name}.",
        hint="Name the one to score with --score-output.",
    )

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
from typing import Any, Final

import numpy as np

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation.metrics import (
    OUTPUTS,
    TARGETS,
    Columns,
    Metric,
    MetricChoice,
    add_metric,
    listed,
    with_outputs,
)
from edgekit.evaluation.predict import sweep
from edgekit.evaluation.tasks import NO_TASK, Task, task_named
from edgekit.evaluation.tasks.detection import detections_of
from edgekit.records import (
    Array,
    Batch,
    ColumnScore,
    Dataset,
    Listener,
    OutputScore,
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
        others: The same of other outputs that have targets, by name.
    """

    score: Score
    task: Task
    metric: Metric
    columns: Columns
    others: Mapping[str, Evaluation] = field(default_factory=dict)


def evaluate(
    path: Path,
    dataset: Dataset,
    *,
    output: str | None = None,
    metric: MetricChoice = None,
    processes: int | None = None,
    listener: Listener = silent,
) -> Evaluation:
    """Score a `.tflite` file on the test split.

    Args:
        path: The file.
        dataset: Bound to the model (its task is known).
        output: The output to score; the one that the data's targets are of where None. Others that
            have targets are scored, too.
        metric: The metric to judge by: a name, or one of the user's own; of several the first,
            and the others are shown. That of the data, or the task's default, where None.
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
    asked = asked_of(dataset, metric)
    for one in asked:
        metric_of(task, one)

    def collect(batch: Batch, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return columns_of(dataset, outputs, batch, output=output, asked=asked, about=path.name)

    columns, outputs = sweep(path, dataset.test, collect, processes=processes, listener=listener)
    return replace(_scored(columns, dataset, asked, path), outputs=outputs)


def asked_of(dataset: Dataset, metric: MetricChoice) -> tuple[str | Metric, ...]:
    """Return the metrics that are asked for, else the one that the data set says."""
    return listed(metric) or listed(dataset.metric)


OF: Final = " of output "
"""Joins the name of a column and that of the output, beside the scored one, that it is of."""


def columns_of(
    dataset: Dataset,
    outputs: Mapping[str, Array],
    batch: Batch,
    *,
    output: str | None,
    asked: Sequence[str | Metric],
    about: str,
) -> dict[str, Array]:
    """Return the tasks' statistics of some samples, and what metrics of the user's own take.

    Raises:
        UsageError: There is no output of that name, or there are no targets for it.
    """
    if output is not None and dataset.output not in (None, output):
        raise UsageError(
            f"{dataset.name} has no targets for the output {output!r}.",
            hint=f"Score {dataset.output!r}, or add y_test_{output}.",
        )
    assert dataset.task is not None
    scored = scored_output(outputs, output or dataset.output, about, head=dataset.head)
    columns = task_named(dataset.task).per_sample(scored, batch)
    own = any(isinstance(metric, Metric) and metric.takes_outputs for metric in asked)
    if own and batch.targets is not None:
        columns = with_outputs(columns, scored, batch.targets)
    for name, told in dataset.others.items():
        if name in batch.others and told.task is not None:
            part = task_named(told.task).per_sample(
                scored_output(outputs, name, about), replace(batch, targets=batch.others[name])
            )
            columns |= {f"{key}{OF}{name}": values for key, values in part.items()}
    return columns


def _scored(
    columns: Columns, dataset: Dataset, asked: Sequence[str | Metric], path: Path
) -> Evaluation:
    """Make the scores of all outputs that have targets."""
    check_finite(columns, path)
    assert dataset.task is not None
    own = {key: values for key, values in columns.items() if OF not in key}
    found = aggregate(own, task_named(dataset.task), labels=dataset.labels, metric=asked)
    others = {}
    for name, told in dataset.others.items():
        end = f"{OF}{name}"
        part = {key.removesuffix(end): v for key, v in columns.items() if key.endswith(end)}
        if part and told.task is not None:
            others[name] = aggregate(part, task_named(told.task), labels=told.labels)
    scores = tuple(
        OutputScore(output=name, task=one.task.name, score=one.score)
        for name, one in others.items()
    )
    return replace(found, score=replace(found.score, per_output=scores), others=others)


def evaluate_pieces(
    pieces: Iterable[tuple[Mapping[str, Array], Batch]],
    dataset: Dataset,
    *,
    output: str | None = None,
    metric: MetricChoice = None,
    about: Path,
) -> Evaluation:
    """Score outputs of the test split that were computed elsewhere, as `evaluate` scores a file's.

    Args:
        pieces: The outputs `[k, ...]` of some samples, by name, and the samples; all, in order.
        dataset: Bound to the model (its task is known).
        output: As of `evaluate`.
        metric: As of `evaluate`.
        about: What computed them, for messages.

    Raises:
        ModelError: Outputs are NaN or infinite.
        DataError: The targets do not fit the outputs.
        UsageError: The task has no such metric.
    """
    asked = asked_of(dataset, metric)
    parts = [
        columns_of(dataset, outputs, batch, output=output, asked=asked, about=about.name)
        for outputs, batch in pieces
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _scored(columns, dataset, asked, about)


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
    sound = np.logical_and.reduce(
        [values for key, values in columns.items() if key.partition(OF)[0] == "sound"]
    )
    if broken := int(np.sum(~sound)):
        raise ModelError(
            f"{path} has no score: it computes NaN or infinity.",
            found=f"{broken:,} of {len(sound):,} test samples end so.",
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
            of = "targets that fit no task" if task is NO_TASK else of
            raise UsageError(
                f"There is no metric {name!r} of {of}.",
                hint=f"Known here: {', '.join(metric.name for metric in known)}."
                if known
                else "Leave it out.",
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
    metric: MetricChoice = None,
) -> Evaluation:
    """Make the score of all samples of what `per_sample` said of each.

    Of several metrics the first is the score.

    Raises:
        DataError: The samples do not allow the metric (ROC AUC without two of either kind).
        UsageError: The task has no such metric.
    """
    own = {name: columns[name] for name in (OUTPUTS, TARGETS) if name in columns}
    columns = {**task.complete(columns), **own}
    asked = listed(metric)
    chosen = metric_of(task, asked[0] if asked else None, columns)
    shown = [metric_of(task, one, columns) for one in asked[1:]]
    of_task = [m for m in task.metrics_of(columns) if m.lacks(columns) is None]
    others = {m.name: m.value(columns) for m in (*shown, *of_task) if m is not chosen}
    apart = {} if chosen.takes_outputs else task.each_column(columns)
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
                for i, column in apart.items()
            ),
            confusion=task.confusion(columns, labels),
            views=task.views(columns, labels),
            guess=chosen.guess(columns) if chosen.guess else None,
            shown=tuple(one.name for one in shown),
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

"""Rows become a report: the only place where one is made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edgekit.data import targets_of
from edgekit.errors import UsageError
from edgekit.evaluation.metrics import MetricChoice, listed
from edgekit.evaluation.scores import compared, metric_of, scorable
from edgekit.evaluation.tasks import REGRESSION, task_named
from edgekit.modes import FLOAT32
from edgekit.pipeline import manifest
from edgekit.records import Dataset, Report, Row

_OF_QUANTITIES: Final = frozenset(metric.name for metric in REGRESSION.metrics)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What one device delivered as far as it got, and the error that ended it, if any.

    Attributes:
        device: Name of the device; None for this machine.
        place: The device as its timings name it; None for this machine, or if it never answered.
        rows: A row for each file that was scored or timed.
        answers: What the files answered to each input, as the runner's JSON.
        unanswered: Which files could not, and why, in sentences.
        description: What the device is, in label -> value pairs.
        error: What ended it.
    """

    device: str | None = None
    place: str | None = None
    rows: list[Row] = field(default_factory=list)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    description: Mapping[str, str] = field(default_factory=dict)
    error: Exception | None = None


def build_report(
    outcomes: Sequence[Outcome],
    *,
    asked: Mapping[str, str],
    data: Mapping[str, str],
    title: str | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Make a report of what devices delivered; nothing is recommended.

    Args:
        outcomes: One for each device.
        asked: What was asked for, in label -> value pairs.
        data: What is known of the data, likewise.
        title: The models' names where None.
        notes: What the reader must know beside what the rows warn of.
    """
    rows = tuple(row for outcome in outcomes for row in outcome.rows)
    warnings = [*notes, *_failed_files(outcomes), *_memory_notes(rows), *_cut_off_notes(rows)]
    warnings += [*_timing_warnings(outcomes), *_failures(outcomes)]
    described = {o.place or "": o.description for o in outcomes if o.description}
    return Report(
        title=", ".join(dict.fromkeys(row.model for row in rows)) if title is None else title,
        asked=asked,
        rows=rows,
        reason="",
        data=data,
        versions=manifest.versions(),
        device=next(iter(described.values()), {}) if len(outcomes) == 1 else {},
        devices=described if len(outcomes) > 1 else {},
        warnings=tuple(dict.fromkeys(warnings)),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def data_facts(dataset: Dataset | None, *, splits: bool = False) -> dict[str, str]:
    """Name, task and preprocessing of the data, and on demand every split's samples."""
    if dataset is None:
        return {}
    facts = {"name": dataset.name, "task": dataset.task or "none: there are no targets"}
    for name, told in dataset.others.items():
        facts[f"task of {name}"] = str(told.task)
    if dataset.origins:
        facts["read from"] = " ".join(dataset.origins)
    if dataset.preprocessing_reason:
        facts["preprocessing"] = dataset.preprocessing_reason
    samples = compared(dataset)
    if samples is not None and not scorable(dataset):
        facts["outputs compared on"] = f"{samples.n} samples of the {samples.split} split"
    for samples in (dataset.train, dataset.calibrate, dataset.test) if splits else ():
        if samples is not None:
            facts[samples.split] = f"{samples.n} samples, sha256 {samples.sha256[:16]}"
    return facts


def accepted_loss(max_drop: float, dataset: Dataset | None, metric: MetricChoice) -> str:
    """The budget in words: "0.5 points".

    Where no metric was named and the targets ask for another than usual: "0.5 points of balanced
    accuracy, because 'fault' is 2.1 % of the samples".

    Args:
        max_drop: The budget, as `Metric.budget` takes it.
        dataset: Bound to the model.
        metric: The metrics that were named; the first is judged.

    Raises:
        UsageError: The task of the data has no such metric, or not on these targets, or there are
            no targets for one.
        DataError: There are too few samples for it.
    """
    if dataset is not None and dataset.task is None:
        if listed(metric):
            raise UsageError(
                f"--metric has no effect: {dataset.name} has no targets.",
                hint="Add y_test, or leave --metric out.",
            )
        return "not judged: there are no targets"
    if dataset is None or dataset.task is None:
        return f"{max_drop:g} points"
    task, targets = task_named(dataset.task), targets_of(dataset.test)
    columns = None if targets is None else {"target": targets}
    first, *others = listed(metric) or (dataset.metric,)
    chosen = metric_of(task, first, columns)
    for one in others:
        metric_of(task, one, columns)
    because = ""
    if first is None and columns is not None:
        _, reason = task.default_metric(columns, dataset.labels)
        because = f" of {chosen.title}, because {reason}" if reason else ""
    elif not listed(metric):
        because = f" of {chosen.title}, because the model was compiled with it"
    return f"{max_drop:g} {chosen.budget_unit}{because}"


def reported_metric(dataset: Dataset, metric: MetricChoice) -> MetricChoice:
    """Return the metric that the report judges by, for the samples of another split.

    The default follows from the targets, and a class may be rare in one split only.

    Args:
        dataset: Bound to the model.
        metric: The metrics that were named; None leaves it to the targets of the test split.
    """
    targets = targets_of(dataset.test)
    if listed(metric) or listed(dataset.metric) or dataset.task is None or targets is None:
        return metric
    return task_named(dataset.task).default_metric({"target": targets}, dataset.labels)[0].name


def as_compiled(dataset: Dataset | None, names: Sequence[str]) -> Dataset | None:
    """The data set, judged by what the model was compiled with, where task and targets have that.

    Args:
        dataset: Bound to the model.
        names: Metrics that the model was compiled with.
    """
    if dataset is None or dataset.task is None or dataset.metric is not None:
        return dataset
    targets = targets_of(dataset.test)
    if targets is None:
        return dataset
    columns = {"target": targets}
    known = {
        metric.name: metric
        for metric in task_named(dataset.task).metrics_of(columns)
        if metric.lacks(columns) is None
    }
    return replace(dataset, metric=next((name for name in names if name in known), None))


def _memory_notes(rows: Sequence[Row]) -> list[str]:
    """Say which files take less flash than float32, and more memory: they are unpacked there."""
    first = next((row for row in rows if row.artifact.mode == FLOAT32.name and row.timing), None)
    if first is None or first.timing is None or first.timing.memory_bytes is None:
        return []
    flash_bytes, memory_bytes = first.artifact.flash_bytes, first.timing.memory_bytes
    return [
        f"{row.artifact.variant} takes {row.artifact.flash_bytes / 1000:.1f} kB of flash instead "
        f"of {flash_bytes / 1000:.1f} kB, but {taken / 1000:.0f} kB of memory instead of "
        f"{memory_bytes / 1000:.0f} kB."
        for row in rows
        if row.timing and row.place == first.place and (taken := row.timing.memory_bytes)
        # A page more or less says nothing.
        if row.artifact.flash_bytes < flash_bytes and taken > 1.05 * memory_bytes
    ]


def _cut_off_notes(rows: Sequence[Row]) -> list[str]:
    """Say how many values lie at an end of an output's range, of figures that have no bounds."""
    return [
        f"{row.artifact.variant}: {one.cut_off:,} values of output {one.output!r} lie at an end of "
        f"its range, where float32 goes further, on {one.n:,} samples."
        for row in rows
        if row.score is not None and row.score.metric in _OF_QUANTITIES
        for one in row.fidelity
        if one.cut_off
    ]


def _timing_warnings(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{row.artifact.variant}{f' on {outcome.device}' if outcome.device else ''}: "
        f"{row.timing.warning}"
        for outcome in outcomes
        for row in outcome.rows
        if row.timing and row.timing.warning
    ]


def _failed_files(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{row.artifact.variant} cannot be run "
        f"{f'on {outcome.device}' if outcome.device else 'here'}: {row.failure}"
        for outcome in outcomes
        for row in outcome.rows
        if row.failure
    ]


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{outcome.device} failed: {getattr(outcome.error, 'what', None) or outcome.error}"
        for outcome in outcomes
        if outcome.error is not None
    ]

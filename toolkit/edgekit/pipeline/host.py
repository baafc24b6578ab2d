"""Files that exist already are scored and timed on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.devices import LocalDevice
from edgekit.errors import DataError
from edgekit.evaluation import scorable
from edgekit.evaluation.trust import guessing_alert, guessing_outputs, is_guessing
from edgekit.pipeline.measure import MeasureSettings, measure
from edgekit.pipeline.report import Outcome, accepted_loss, build_report, data_facts
from edgekit.pipeline.subjects import notes_of, open_subjects
from edgekit.records import DataRequest, Listener, Report, silent


def evaluate(
    paths: Sequence[Path],
    data: DataRequest,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> Report:
    """Score `.tflite` files on the test split; the first is what the others are compared with.

    Raises:
        ModelError: A file cannot be read or run.
        DataError: The data does not fit, or has no test split; a lone file has nothing to be
            compared with, and the data no targets.
        UsageError: The task has no such metric.
    """
    return measured(paths, data, replace(settings, latency=False), listener=listener)


def bench(
    paths: Sequence[Path], settings: MeasureSettings, *, listener: Listener = silent
) -> Report:
    """Time `.tflite` files with the runner.

    Raises:
        ModelError: A file cannot be read or run.
        DeviceError: No runtime is here.
    """
    return measured(paths, None, settings, listener=listener)


def measured(
    paths: Sequence[Path],
    data: DataRequest | None,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> Report:
    """Score `.tflite` files on the test split, where there is data, and time them, as is set.

    Raises:
        EdgekitError: As `evaluate` and `bench`.
    """
    subjects = open_subjects(paths, data, settings)
    if len(subjects) == 1 and (given := subjects[0].dataset) and not scorable(given):
        raise DataError(
            f"{given.name} has no targets to score a file with.",
            found=" ".join(given.notes[:1]),
            hint="Add y_test, or give a second file, whose outputs are compared with the first's.",
        )
    with LocalDevice(listener=listener) as device:
        rows = list(measure(subjects, device, settings, listener=listener))
        outcome = Outcome(rows=rows, description=device.describe())
    dataset = subjects[-1].dataset
    asked = {"files": ", ".join(map(str, paths))}
    if dataset is not None:
        asked["accepted loss"] = accepted_loss(settings.max_drop, dataset, settings.metric)
    guessing = [
        sentence
        for row in rows
        if row.score
        for sentence in (
            *([guessing_alert(row.artifact.variant, row.score)] if is_guessing(row.score) else []),
            *guessing_outputs(row.artifact.variant, row.score),
        )
    ]
    notes = [*guessing, *notes_of(subjects)]
    return build_report([outcome], asked=asked, data=data_facts(dataset), notes=notes)

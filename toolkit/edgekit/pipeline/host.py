"""Files that exist already are scored and timed on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.devices import LocalDevice
from edgekit.errors import DataError, ModelError
from edgekit.evaluation import scorable
from edgekit.evaluation.trust import guessing_alert, guessing_outputs, is_guessing
from edgekit.pipeline.measure import MeasureSettings, by_turns, measure
from edgekit.pipeline.report import Outcome, accepted_loss, build_report, data_facts
from edgekit.pipeline.subjects import dataset_of, notes_of, open_subjects
from edgekit.records import DataRequest, Listener, Report, Row, silent


def evaluate(
    paths: Sequence[Path],
    data: DataRequest,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> Report:
    """Score `.tflite` files on the test split; the first is what the others are compared with.

    A file that fails is marked in its row (`Row.failure`), and the others are scored.

    Raises:
        ModelError: No file can be read and run, or one does not exist.
        DataError: The data does not fit, or has no test split; a lone file has nothing to be
            compared with, and the data no targets.
        UsageError: The task has no such metric.
    """
    settings = replace(settings, latency=False)
    return measured(paths, data, settings, skip_failed=True, listener=listener)


def bench(
    paths: Sequence[Path], settings: MeasureSettings, *, listener: Listener = silent
) -> Report:
    """Time `.tflite` files with the runner.

    A file that fails is marked in its row (`Row.failure`), and the others are timed.

    Raises:
        ModelError: No file can be read and run, or one does not exist.
        DeviceError: No runtime is here.
    """
    return measured(paths, None, settings, skip_failed=True, listener=listener)


def measured(
    paths: Sequence[Path],
    data: DataRequest | None,
    settings: MeasureSettings,
    *,
    skip_failed: bool = False,
    listener: Listener = silent,
) -> Report:
    """Score `.tflite` files on the test split, where there is data, and time them, as is set.

    Args:
        paths: The files.
        data: What they are scored on; None leaves scores out.
        settings: What is measured.
        skip_failed: Whether the others are measured where a file cannot be read or run: an error
            only where none can.
        listener: Progress callback.

    Raises:
        EdgekitError: As `evaluate` and `bench`.
    """
    subjects = open_subjects(paths, data, settings, skip_failed=skip_failed)
    failed: list[ModelError] = []

    def on_failure(_: Row, error: ModelError) -> None:
        failed.append(error)

    if len(subjects) == 1 and (given := subjects[0].dataset) and not scorable(given):
        raise DataError(
            f"{given.name} has no targets to score a file with.",
            found=" ".join(given.notes[:1]),
            hint="Add y_test, or give a second file, whose outputs are compared with the first's.",
        )
    with LocalDevice(listener=listener) as device:
        rows = list(
            measure(
                subjects,
                device,
                settings,
                on_failure=on_failure if skip_failed else None,
                listener=listener,
            )
        )
        rows = by_turns(rows, device, settings.run)
        outcome = Outcome(rows=rows, description=device.describe())
    if failed and len(failed) == len(rows):
        raise failed[0]
    dataset = dataset_of(subjects)
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

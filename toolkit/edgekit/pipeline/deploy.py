"""Files that exist are scored and timed on devices behind SSH, several at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import edgekit_runner
from edgekit.devices import Cancelled, DeviceEntry, DeviceSetup, LocalDevice, SshDevice, Uploads
from edgekit.errors import DataError, EdgekitError, FleetError, ModelError
from edgekit.evaluation import Predictions
from edgekit.files import FILE, check_input, temporary_folder
from edgekit.pipeline.measure import MeasureSettings, Subject, by_turns, measure
from edgekit.pipeline.report import Outcome, accepted_loss, build_report, data_facts
from edgekit.pipeline.subjects import dataset_of, notes_of, open_subjects
from edgekit.records import DataRequest, Listener, Progress, Report, Row, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is asked of every device.

    Attributes:
        paths: The `.tflite` files; the first, as computed here, is what the others are compared
            with.
        data: What they are scored on; None leaves scores out.
        settings: What is measured, and how.
        setup: What is installed on the devices, and whether it stays.
        inputs: What the files are run on, instead of being scored and timed.
        labels: File of class names for `inputs`; None takes the model's own.
        top: Classes named for each of `inputs`; None leaves it to the runner.
        threshold: The least score, 0 to 1, of a box found in `inputs`; None likewise.
        skip_failed: Whether the other files are run where one cannot be read or run: a device has
            failed only where none can.
    """

    paths: Sequence[Path]
    data: DataRequest | None = None
    settings: MeasureSettings = field(default_factory=MeasureSettings)
    setup: DeviceSetup = field(default_factory=DeviceSetup)
    inputs: Sequence[Path] = ()
    labels: Path | None = None
    top: int | None = None
    threshold: float | None = None
    skip_failed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """Result of a deployment.

    Attributes:
        report: The rows of all devices, device by device.
        outcomes: What each device delivered, and the error that ended it, if any; also what the
            files answered to `inputs`.
    """

    report: Report
    outcomes: tuple[Outcome, ...]


def deploy(
    request: Deployment, fleet: Sequence[DeviceEntry], *, listener: Listener = silent
) -> Deployed:
    """Score and time files on devices, all devices at once.

    A device that fails does not stop the others: its error is in its outcome, and the rows it
    had delivered are in the report. Nor does a file that a device cannot load or run: its row says
    why (`Row.failure`).

    Raises:
        ModelError: A file does not exist, or none can be read; nothing was sent then.
        DataError: The data does not fit, has no test split, or an input is missing.
        UsageError: The task has no such metric.
    """
    request = replace(request, inputs=find_inputs(request.inputs))
    if request.labels is not None:
        check_input(request.labels, DataError, hint="Give a text file, one class name a line.")
    subjects = open_subjects(
        request.paths, request.data, request.settings, skip_failed=request.skip_failed
    )
    baseline, notes = _baseline(request, subjects[0], listener)
    cancel = threading.Event()
    outcomes = tuple(Outcome(device=entry.name) for entry in fleet)
    with temporary_folder() as folder:
        uploads = Uploads(folder)
        for subject in subjects:
            uploads.add(subject.artifact)
        visit = partial(
            _visit,
            request=request,
            subjects=subjects,
            baseline=baseline,
            uploads=uploads,
            cancel=cancel,
            listener=_one_at_a_time(listener),
        )
        with ThreadPoolExecutor(max_workers=len(fleet)) as pool:
            work = [
                pool.submit(visit, entry, outcome)
                for entry, outcome in zip(fleet, outcomes, strict=True)
            ]
            try:
                wait_for(work)
            finally:
                cancel.set()
            for done in work:
                done.result()
    report = _report(request, subjects, outcomes, notes)
    return Deployed(report=report, outcomes=outcomes)


def find_inputs(paths: Sequence[Path]) -> list[Path]:
    """Return the files to run on: those named, and those that folders hold.

    Raises:
        DataError: One is missing, or a folder holds none.
    """
    found = []
    for path in paths:
        hint = "Give pictures, WAV, .npz or .npy files, or a folder of them."
        if check_input(path, DataError, folder=True, hint=hint) == FILE:
            found.append(path)
            continue
        names = edgekit_runner.list_inputs(str(path))
        if not names:
            raise DataError(f"There is nothing to run on in {path}.", hint=hint)
        for name in names:
            check_input(path / name, DataError, hint=hint)
            found.append(path / name)
    return found


def _baseline(
    request: Deployment, subject: Subject, listener: Listener
) -> tuple[Predictions | None, list[str]]:
    """Return what the first file computes here, and what is to be said where it does not."""
    settings = request.settings
    # What a delegate runs may be compiled for it, and run nowhere else.
    if subject.dataset is None or settings.run.delegate is not None:
        return None, []
    try:
        found = LocalDevice(listener=listener).evaluate(
            subject.artifact.path,
            subject.dataset,
            settings.run,
            output=settings.score_output,
            metric=settings.metric,
        )
    except ModelError as error:
        if not request.skip_failed:
            raise
        why = f"{subject.artifact.variant} cannot be run here: {error.found or error.what}"
        return None, [f"{why} The others are compared with what it computes on the device."]
    return found, []


def _visit(
    entry: DeviceEntry,
    outcome: Outcome,
    *,
    request: Deployment,
    subjects: Sequence[Subject],
    baseline: Predictions | None,
    uploads: Uploads,
    cancel: threading.Event,
    listener: Listener,
) -> None:
    try:
        with SshDevice(
            entry,
            uploads,
            setup=request.setup,
            also=("pillow",) if request.inputs else (),
            cancel=cancel,
            listener=listener,
        ) as device:
            outcome.place = device.place
            outcome.description = device.describe()
            if request.inputs:
                _run(device, request, subjects, outcome)
                return
            failed: list[ModelError] = []

            def on_failure(_: Row, error: ModelError) -> None:
                failed.append(error)

            for row in measure(
                subjects,
                device,
                request.settings,
                baseline=baseline,
                on_failure=on_failure if request.skip_failed else None,
            ):
                outcome.rows.append(row)
            if len(failed) == len(subjects):
                outcome.rows.clear()
                outcome.error = failed[0]
            outcome.rows[:] = by_turns(outcome.rows, device, request.settings.run)
    except Cancelled:
        return
    except Exception as error:  # the other devices go on
        outcome.error = error


def _run(
    device: SshDevice, request: Deployment, subjects: Sequence[Subject], outcome: Outcome
) -> None:
    failed: list[ModelError] = []
    for subject in subjects:
        try:
            device.run(
                subject.artifact.path,
                request.inputs,
                request.settings.run,
                labels=request.labels,
                top=request.top,
                threshold=request.threshold,
                answered=outcome.answers.append,
            )
        except ModelError as error:
            failed.append(error)
            outcome.unanswered.append(
                f"{subject.artifact.path} cannot be run on {device.name}: "
                f"{error.found or error.what}"
            )
    if len(failed) == len(subjects):
        outcome.unanswered.clear()
        raise failed[0]


def _report(
    request: Deployment,
    subjects: Sequence[Subject],
    outcomes: Sequence[Outcome],
    notes: Sequence[str],
) -> Report:
    dataset, settings = dataset_of(subjects), request.settings
    asked = {
        "files": ", ".join(map(str, request.paths)),
        "devices": ", ".join(str(outcome.device) for outcome in outcomes),
    }
    if dataset is not None:
        asked["accepted loss"] = accepted_loss(settings.max_drop, dataset, settings.metric)
    return build_report(
        outcomes,
        title=", ".join(dict.fromkeys(subject.model for subject in subjects)),
        asked=asked,
        data=data_facts(dataset),
        notes=[*notes, *notes_of(subjects)],
    )


def _one_at_a_time(listener: Listener) -> Listener:
    lock = threading.Lock()

    def listen(progress: Progress) -> None:
        with lock:
            listener(progress)

    return listen


def first_error(outcomes: Sequence[Outcome]) -> Exception | None:
    """Return what the command ends with: a lone device's own error, else that some failed."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    bugs = [o.error for o in failed if not isinstance(o.error, EdgekitError)]
    if not failed or len(outcomes) == 1 or bugs:
        return bugs[0] if bugs else (failed[0].error if failed else None)
    errors = [f"{o.device}: {o.error}".replace("\n", "\n  ") for o in failed]
    names = ", ".join(str(o.device) for o in failed)
    return FleetError(
        f"{len(failed)} of {len(outcomes)} devices failed: {names}.",
        found="\n".join(errors),
        hint="The rows of the others are complete." if len(failed) < len(outcomes) else None,
    )

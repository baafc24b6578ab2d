"""Files that exist are scored and timed on devices behind SSH, several at once."""

from __future__ import annotations

import datetime as dt
import threading
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import edgekit_runner
from edgekit import devices, tflite
from edgekit import evaluation as scoring
from edgekit.errors import DataError, EdgekitError
from edgekit.evaluation.tasks import task_named
from edgekit.files import FILE, check_input, temporary_folder
from edgekit.pipeline import manifest
from edgekit.pipeline.measure import bind_to_file
from edgekit.records import Artifact, Dataset, Listener, Progress, Report, Row, Samples
from edgekit.records import silent as silently


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is asked of every device.

    Attributes:
        paths: The `.tflite` files; the first, as computed here, is what the others are held
            against.
        data: What they are scored on; None leaves scores out.
        task: What the targets mean.
        column: The column to predict, for tables.
        preprocessing: How raw images become inputs.
        output: The output that is scored.
        inputs: What the files are run on, instead of being scored and timed.
        labels: File of class names for `inputs`; None takes the model's own.
        top: Classes named for each of `inputs`; None leaves it to the runner.
        threshold: The least score, 0 to 1, of a box found in `inputs`; None likewise.
        latency: Whether latencies are measured.
        threads: Interpreter threads; None takes each device's own, else 1.
        runs: Invocations to time; None leaves it to the runner.
        runtime: litert, tflite or tensorflow; None takes the first found there.
        delegate: What runs the model there, as the runner takes it (edgetpu, usb, a library).
        kernels: default, builtin or reference.
        duration: Seconds of sustained load after the measurement; None leaves it out.
        sweep: Whether to time other kernels and numbers of threads as well.
        setup: Make a virtual environment with the runtime there.
        wheels: A folder of wheels for `setup`; None downloads them.
        keep: Leave files and environment in the device's cache.
    """

    paths: Sequence[Path]
    data: str | Dataset | None = None
    task: str | None = None
    column: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    output: str | None = None
    inputs: Sequence[Path] = ()
    labels: Path | None = None
    top: int | None = None
    threshold: float | None = None
    latency: bool = True
    threads: int | None = None
    runs: int | None = None
    runtime: str | None = None
    delegate: str | None = None
    kernels: str | None = None
    duration: float | None = None
    sweep: bool = False
    setup: bool = False
    wheels: Path | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file, ready to go: its packed test split, and how the host's own run of it went."""

    artifact: Artifact
    dataset: Dataset | None = None
    packed: Path | None = None

    @property
    def model(self) -> str:
        """Name of the source model."""
        return str(self.artifact.manifest.get("model", self.artifact.path.stem))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of one device as far as it got, and the error that ended it, if any.

    Attributes:
        device: Which one.
        rows: A row for each file that was scored or timed.
        answers: What the files said to each input, as the runner's JSON.
        description: What the device is, in label -> value pairs.
        error: What ended it.
    """

    device: devices.Device
    rows: list[Row] = field(default_factory=list)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    description: Mapping[str, str] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def place(self) -> str:
        """The device as its timings name it."""
        return f"{self.device.name}: {self.description['device']}"


def deploy(
    request: Deployment, fleet: Sequence[devices.Device], *, listener: Listener = silently
) -> tuple[Report, list[Outcome]]:
    """Score and time files on devices, all devices at once.

    A device that fails does not stop the others: its error is in its outcome, and the rows it
    had delivered are in the report.

    Returns:
        The report of all rows, device by device, and the outcome of every device.

    Raises:
        ModelError: A file cannot be read; nothing was sent then.
        DataError: The data does not fit, has no test split, or an input is missing.
    """
    request = replace(request, inputs=find_inputs(request.inputs))
    if request.labels is not None:
        check_input(request.labels, DataError, hint="Give a text file, one class name a line.")
    cancel = threading.Event()
    outcomes = [Outcome(device=device) for device in fleet]
    with temporary_folder() as folder:
        jobs = prepare(request, folder)
        baseline = _baseline(request, jobs[0], listener)
        visit = partial(
            _visit,
            request=request,
            jobs=jobs,
            baseline=baseline,
            folder=folder,
            cancel=cancel,
            listener=_one_at_a_time(listener),
        )
        with ThreadPoolExecutor(max_workers=len(fleet)) as pool:
            work = [pool.submit(visit, outcome) for outcome in outcomes]
            try:
                wait_for(work)
            finally:
                cancel.set()
            for done in work:
                done.result()
    return _report(request, jobs, outcomes), outcomes


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


def prepare(request: Deployment, folder: Path) -> list[Job]:
    """Read every file and pack the test split for it; equal inputs share one package."""
    packages: dict[Any, Path] = {}
    jobs = []
    for path in request.paths:
        artifact = manifest.open_artifact(path)
        inputs, _ = tflite.signature(tflite.read(path))
        job = Job(artifact=artifact)
        if request.data is not None:
            dataset = bind_to_file(
                request.data,
                path,
                task=request.task,
                column=request.column,
                preprocessing=request.preprocessing,
                output=request.output,
            )
            if dataset.test is None:
                raise DataError(
                    f"{dataset.name} has no test split to score on.", hint="Add x_test and y_test."
                )
            key = tuple((spec.name, spec.shape) for spec in inputs)
            if key not in packages:
                packages[key] = folder / f"data{len(packages)}.npz"
                pack(dataset.test, packages[key])
            job = replace(job, dataset=dataset, packed=packages[key])
        jobs.append(job)
    return jobs


def pack(samples: Samples, destination: Path) -> None:
    """Write prepared inputs as the runner reads them, one sample after the other.

    The same samples give the same bytes, so that a device which has them is sent nothing.
    """
    one = samples.read(np.zeros(1, np.int64)).inputs
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, first in one.items():
            member = "inputs.npy" if len(one) == 1 else f"inputs_{name}.npy"
            # A fixed date: zipfile would take today's.
            info = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_2_0(
                    stream,
                    {
                        "descr": np.lib.format.dtype_to_descr(first.dtype),
                        "fortran_order": False,
                        "shape": (samples.n, *first.shape[1:]),
                    },
                )
                for batch in samples.batches():
                    stream.write(np.ascontiguousarray(batch.inputs[name]).tobytes())


def _baseline(request: Deployment, job: Job, listener: Listener) -> scoring.Evaluation | None:
    # What a delegate runs may be compiled for it, and run nowhere else.
    if job.dataset is None or request.delegate is not None:
        return None
    return scoring.evaluate(
        job.artifact.path, job.dataset, output=request.output, listener=listener
    )


def _visit(
    outcome: Outcome,
    *,
    request: Deployment,
    jobs: Sequence[Job],
    baseline: scoring.Evaluation | None,
    folder: Path,
    cancel: threading.Event,
    listener: Listener,
) -> None:
    device = outcome.device
    options = devices.runner_options(
        threads=request.threads or device.threads or 1,
        runtime=request.runtime,
        delegate=request.delegate,
        kernels=request.kernels,
    )
    timed = devices.runner_options(
        runs=request.runs, duration=request.duration, sweep=request.sweep
    )
    try:
        with devices.Remote(device, keep=request.keep, cancel=cancel, listener=listener) as remote:
            if request.setup:
                remote.setup(request.wheels, also=("pillow",) if request.inputs else ())
            remote.check()
            outcome.description = remote.description
            for job in jobs:
                path = job.artifact.path
                place = remote.send_model(path)
                if request.inputs:
                    named = devices.runner_options(
                        labels=request.labels and remote.send(request.labels),
                        top=request.top,
                        threshold=request.threshold,
                    )
                    remote.run(
                        place,
                        request.inputs,
                        [*options, *named],
                        about=path,
                        answered=outcome.answers.append,
                    )
                    continue
                row = Row(model=job.model, artifact=job.artifact, device=outcome.place)
                if job.packed is not None:
                    found = folder / f"outputs-{id(outcome)}.npz"
                    data = remote.send(job.packed)
                    remote.outputs(place, data, found, options, about=path)
                    row = _scored(row, _judge(found, job, request.output), baseline)
                if request.latency:
                    timing = remote.bench(
                        place, [*options, *timed], about=path, lasting=request.duration or 0
                    )
                    row = replace(row, timing=timing, device=None)
                outcome.rows.append(row)
    except devices.Cancelled:
        return
    except Exception as error:  # whatever happens on one device, the others go on
        outcome.error = error


def _judge(outputs: Path, job: Job, output: str | None) -> scoring.Evaluation:
    """Make of a device's outputs what `evaluation.evaluate` makes of this machine's."""
    dataset = job.dataset
    assert dataset is not None
    assert dataset.test is not None
    assert dataset.task is not None
    with np.load(outputs) as stored:
        values = stored[output or stored.files[0]]
    task = task_named(dataset.task)
    judged = []
    start = 0
    for batch in dataset.test.batches(256):
        n = len(next(iter(batch.inputs.values())))
        judged.append(task.per_sample(values[start : start + n], batch))
        start += n
    columns = {name: np.concatenate([part[name] for part in judged]) for name in judged[0]}
    scoring.check_finite(columns, job.artifact.path)
    return scoring.aggregate(columns, task, labels=dataset.labels)


def _scored(row: Row, found: scoring.Evaluation, baseline: scoring.Evaluation | None) -> Row:
    row = replace(row, score=found.score)
    if baseline is None:
        return row
    return replace(
        row,
        drop=scoring.paired_drop(baseline, found, max_drop=0.5),
        agreement=scoring.agreement(baseline, found),
    )


def _report(request: Deployment, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> Report:
    facts = manifest.describe_data(jobs[0].dataset)
    rows = [row for outcome in outcomes for row in outcome.rows]
    warnings = [note for job in jobs if job.dataset for note in job.dataset.notes]
    warnings += [
        f"{row.artifact.variant} on {outcome.device.name}: {row.timing.warning}"
        for outcome in outcomes
        for row in outcome.rows
        if row.timing and row.timing.warning
    ]
    for outcome in outcomes:
        if outcome.error is not None:
            what = getattr(outcome.error, "what", None) or str(outcome.error)
            warnings.append(f"{outcome.device.name} failed: {what}")
    described = {o.place: o.description for o in outcomes if o.description}
    return Report(
        title=", ".join(dict.fromkeys(job.model for job in jobs)),
        asked={
            "files": ", ".join(map(str, request.paths)),
            "devices": ", ".join(outcome.device.name for outcome in outcomes),
        },
        rows=tuple(rows),
        reason="",
        data={"name": facts["name"], "task": str(facts["task"])} if facts else {},
        versions=manifest.versions(),
        device=next(iter(described.values()), {}) if len(outcomes) == 1 else {},
        devices=described if len(outcomes) > 1 else {},
        warnings=tuple(dict.fromkeys(warnings)),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _one_at_a_time(listener: Listener) -> Listener:
    lock = threading.Lock()

    def listen(progress: Progress) -> None:
        with lock:
            listener(progress)

    return listen


def first_error(outcomes: Sequence[Outcome]) -> Exception | None:
    """Return what the command ends with: a lone device's own error, else that some failed."""
    from edgekit.errors import FleetError

    failed = [outcome for outcome in outcomes if outcome.error is not None]
    bugs = [o.error for o in failed if not isinstance(o.error, EdgekitError)]
    if not failed or len(outcomes) == 1 or bugs:
        return bugs[0] if bugs else (failed[0].error if failed else None)
    told = [f"{o.device.name}: {o.error}".replace("\n", "\n  ") for o in failed]
    names = ", ".join(o.device.name for o in failed)
    return FleetError(
        f"{len(failed)} of {len(outcomes)} devices failed: {names}.",
        found="\n".join(told),
        hint="The rows of the others are complete." if len(failed) < len(outcomes) else None,
    )

"""New files are measured, here or on another device, and the one to ship is recommended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgekit import evaluation, targets
from edgekit.devices import Device, LocalDevice, SshDevice, Uploads, probe
from edgekit.errors import ModelError
from edgekit.evaluation import Evaluation, Predictions
from edgekit.evaluation.trust import guessing_outputs, is_guessing
from edgekit.files import temporary_folder
from edgekit.pipeline.examples import examples
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.measure import Subject, by_turns, measure
from edgekit.pipeline.pixel_trial import run_file
from edgekit.pipeline.report import Outcome, build_report, data_facts
from edgekit.pipeline.request import FLOAT, Request, asked_for
from edgekit.pipeline.source_score import alerts_of, score_source, unscored
from edgekit.pipeline.sources import is_graph
from edgekit.records import Artifact, Listener, Report, Row, Timing, silent
from edgekit.worker import TensorFlowProcess


def measure_made(
    request: Request,
    imported: ImportedModel,
    artifacts: Sequence[Artifact],
    *,
    listener: Listener = silent,
) -> Report:
    """Score, time and inspect every file on the request's device, and recommend one.

    A file that this device cannot load or run gets a row without figures and a warning, and is
    not recommended; where that goes for all that were asked for, the first one's error is raised.
    """
    dataset, name = imported.dataset, request.name or imported.source.name
    subjects = [Subject(artifact=made, model=name, dataset=dataset) for made in artifacts]
    failed: dict[str, ModelError] = {}

    def on_failure(row: Row, error: ModelError) -> None:
        # Its row outlasts the folder in which the file is now.
        error.relocate(row.artifact.path.parent, request.folder)
        failed[row.artifact.variant] = error

    with opened(request, artifacts, listener) as device:
        there = request.device is not None
        rows = list(
            measure(
                subjects,
                device,
                request.settings,
                baseline=_on_host(request, subjects[0], listener) if there else None,
                on_failure=on_failure,
                listener=listener,
            )
        )
        rows = by_turns(rows, device, request.settings.run)
        outcome = Outcome(
            device=device.name if there else None,
            place=device.place,
            rows=rows,
            description=device.describe(),
        )
    wanted = FLOAT in request.plans
    if all(row.failure for row in rows if wanted or row.artifact.variant != FLOAT.variant):
        raise next(iter(failed.values()))
    report = build_report(
        [outcome],
        title=name,
        asked=asked_for(request, imported),
        data=data_facts(dataset, splits=True),
        notes=[
            *imported.notes,
            *_guessing_outputs(imported, rows[0]),
            *_without_verdict(rows),
        ],
    )
    alerts = _alerts(request, imported, artifacts[0], rows[0])
    if alerts:
        reason = "No file is recommended: the figures cannot be trusted."
        chosen = tuple(rows)
    else:
        chosen, reason = recommend(rows, request)
    first = (imported.scored.row,) if imported.scored else ()
    return replace(
        report,
        rows=(*first, *chosen),
        reason=reason,
        alerts=alerts,
        examples=examples(chosen, dataset, output=request.output),
    )


def with_source_score(
    imported: ImportedModel,
    request: Request,
    tensorflow: TensorFlowProcess | None,
    listener: Listener,
) -> ImportedModel:
    """Score the source that is loaded in `tensorflow`; a float graph is its own float32 file."""
    if tensorflow is None or is_graph(request.source):
        return imported
    source = imported.source
    try:
        scored = score_source(
            source,
            imported.dataset,
            tensorflow,
            request.settings,
            model=request.name or source.name,
            listener=listener,
        )
    except ModelError as error:
        return replace(imported, notes=(*imported.notes, unscored(source, error)))
    return replace(imported, scored=scored)


def _guessing_outputs(imported: ImportedModel, float32: Row) -> list[str]:
    """Which outputs beside the scored one are no better than guessing, by the source's score."""
    score = imported.scored.row.score if imported.scored else float32.score
    return guessing_outputs(f"the source {imported.source.name}", score) if score else []


def _alerts(
    request: Request, imported: ImportedModel, float32: Artifact, row: Row
) -> tuple[str, ...]:
    """Why nothing can be recommended: the source guesses, or float32 is not what it was."""
    if imported.scored is not None:
        return imported.scored.against(row.score, request.max_drop)
    if row.score is None or not is_guessing(row.score):
        return ()
    assert imported.dataset is not None
    found = LocalDevice().evaluate(
        float32.path,
        imported.dataset,
        request.settings.run,
        output=request.output,
        metric=request.metric,
    )
    assert isinstance(found, Evaluation), "what was scored above can be scored"
    run = run_file(float32.path)
    return alerts_of(imported.source.name, found, imported.dataset, run, request.output)


@contextmanager
def opened(request: Request, artifacts: Sequence[Artifact], listener: Listener) -> Iterator[Device]:
    """Yield the device that files are measured on, ready to be used."""
    if request.device is None:
        with LocalDevice(listener=listener) as here:
            yield here
        return
    with temporary_folder() as folder:
        uploads = Uploads(folder)
        for artifact in artifacts:
            uploads.add(artifact)
        with SshDevice(request.device, uploads, setup=request.setup, listener=listener) as there:
            yield there


@contextmanager
def open_bench(request: Request) -> Iterator[Callable[[Path], Timing]]:
    """Yield a function that times a file on the request's device, which is set up once."""
    with opened(request, (), silent) as device:
        yield lambda path: device.bench(path, request.settings.run)


def probe_device(request: Request, listener: Listener) -> None:
    """See that the request's device can be used, before minutes of other work.

    Raises:
        DeviceError: It cannot be reached or written to, or has no runtime.
    """
    if request.device is not None:
        probe(request.device, request.setup, listener=listener)


def _on_host(request: Request, subject: Subject, listener: Listener) -> Predictions | None:
    """What files are compared with that are scored on another device: float32 as computed here."""
    if not subject.has_samples:
        return None
    assert subject.dataset is not None
    return LocalDevice(listener=listener).evaluate(
        subject.artifact.path,
        subject.dataset,
        request.settings.run,
        output=request.output,
        metric=request.metric,
    )


def recommend(rows: Sequence[Row], request: Request) -> tuple[tuple[Row, ...], str]:
    """Mark the row to ship; where a target was named, only files that can use it are eligible.

    Latencies of this machine say nothing of microcontrollers and accelerators: for these the size
    decides, unless the files were timed on a device.

    Args:
        rows: The files.
        request: The preference, the runtime and the targets.
    """
    eligible = [
        row
        for row in rows
        if not row.is_source
        and (
            row.artifact.mode == FLOAT.mode
            or all(fit_of(row, target)[0] for target in request.named_targets)
        )
    ]
    excluded = {
        **evaluation.unloadable(rows, request.runtime),
        **{
            variant: why
            for target in request.named_targets
            for variant, why in {
                **_refused(rows, target),
                **_without_runtime(rows, target),
            }.items()
        },
    }
    elsewhere = [
        target for target in request.named_targets if targets.target(target).target.beside_a_cpu
    ]
    if request.device or not any(row.timing for row in eligible):
        elsewhere = []
    judged = [replace(row, timing=None) for row in eligible] if elsewhere else eligible
    chosen, reason = evaluation.recommend(judged, prefer=request.prefer, excluded=excluded)
    best = {id(row) for row, one in zip(eligible, chosen, strict=True) if one.recommended}
    result = tuple(replace(row, recommended=id(row) in best) for row in rows)
    if elsewhere:
        reason += f" By size: latencies of this machine are not those of {elsewhere[0]}."
    for row in result:
        for target in request.named_targets if row.recommended else ():
            mapped, total = fit_of(row, target)
            judge = row.inspection.judge(target) if row.inspection else None
            how = f"By {judge}, for" if judge else "Predicted for"
            reason += f" {how} {target}: {mapped} of {total} operators map."
    return result, reason


def _without_verdict(rows: Sequence[Row]) -> Iterator[str]:
    """Say for which files a compiler on PATH gave no verdict, and why."""
    for row in rows:
        for said in row.inspection.without_verdict if row.inspection else ():
            yield f"{row.artifact.variant}: {said}"


def _without_runtime(rows: Sequence[Row], target: str) -> dict[str, str]:
    """Return the variants that the only runtime of a target does not load, and why."""
    runtimes = targets.target(target).target.runtimes
    return dict(evaluation.unloadable(rows, runtimes[0])) if len(runtimes) == 1 else {}


def _refused(rows: Sequence[Row], target: str) -> dict[str, str]:
    """Return the variants that a target without a fallback cannot run, and why."""
    if not targets.target(target).target.needs_all:
        return {}
    refused = {}
    for row in rows:
        if row.inspection is None:
            continue
        lacking = row.inspection.unmapped(target)
        memory = row.inspection.memory.get(target)
        if lacking:
            refused[row.artifact.variant] = (
                f"{target} does not run operator {lacking[0].index} ({lacking[0].name})"
            )
        elif memory is not None and memory.fits is False:
            refused[row.artifact.variant] = f"{target} has too little memory for it"
    return refused


def fit_of(row: Row, target: str) -> tuple[int, int]:
    """How many operators of a file a target takes, and how many there are; a prediction."""
    operators = row.inspection.ops if row.inspection else ()
    fits = [op.targets[target].mapped for op in operators if target in op.targets]
    return sum(fits), len(fits)

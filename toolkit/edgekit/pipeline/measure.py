"""Files are scored and timed on a device: the only place where rows get their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from edgekit.devices import Device, RunSettings, interleaved
from edgekit.errors import ModelError
from edgekit.evaluation import (
    Evaluation,
    Predictions,
    agreement,
    compare,
    compared,
    paired_drop,
)
from edgekit.evaluation.metrics import MetricChoice
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.evaluation.worst_samples import worst_samples
from edgekit.records import Artifact, Collapse, Dataset, Listener, Progress, Row, silent
from edgekit.tflite.inspect import inspect

MAX_DROP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """What is measured of every file, and how.

    Attributes:
        score_output: The output that is scored; the first where None.
        metric: The metric to judge by, of several the first; the task's default where None.
        max_drop: Accepted loss: points, or percent for a metric that is a quantity.
        score: Whether files are run on samples, where there are any, and scored, where these have
            targets.
        latency: Whether files are timed.
        run: How they are run and timed.
        targets: Accelerators on which each file's operators are checked; empty leaves out what is
            inside the files.
        compiled: Whether files are compiled for the Edge TPU among them (`tflite.inspect`).
    """

    score_output: str | None = None
    metric: MetricChoice = None
    max_drop: float = MAX_DROP
    score: bool = True
    latency: bool = True
    run: RunSettings = field(default_factory=RunSettings)
    targets: tuple[str, ...] = ()
    compiled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file to measure.

    Attributes:
        artifact: The file.
        model: Name of the source model.
        dataset: Samples, bound to the file's inputs; None where it is run on none.
        unreadable: Why no data could be bound to it; no device is asked to run it then.
    """

    artifact: Artifact
    model: str
    dataset: Dataset | None = None
    unreadable: ModelError | None = None

    @property
    def has_samples(self) -> bool:
        """Whether there are samples to run it on."""
        return self.dataset is not None and compared(self.dataset) is not None


def measure(
    subjects: Sequence[Subject],
    device: Device,
    settings: MeasureSettings,
    *,
    baseline: Predictions | None = None,
    on_failure: Callable[[Row, ModelError], None] | None = None,
    listener: Listener = silent,
) -> Iterator[Row]:
    """Score and time files on a device, one after the other.

    A generator: what the device delivered before it failed is not lost.

    Args:
        subjects: The files.
        device: Ready to be used.
        settings: What is measured.
        baseline: What every file is compared with: the first one, as computed elsewhere; None
            computes it here, and the first then has no drop and no fidelity.
        on_failure: Called with the row of a file that the device cannot load or run, which
            has neither score nor latency then, and with the error, which becomes its
            `Row.failure`; where None, that ends the measurement.
        listener: Progress callback.

    Yields:
        A row for each file, in order.

    Raises:
        ModelError: A file cannot be loaded or run there.
        DataError: The data does not fit the outputs.
        DeviceError: The device fails.
    """
    computed_elsewhere = baseline is not None
    for position, subject in enumerate(subjects):
        artifact = subject.artifact
        is_same = computed_elsewhere and artifact.sha256 == subjects[0].artifact.sha256
        row = Row(model=subject.model, artifact=artifact, device=device.place)
        if settings.targets:
            inside = inspect(artifact.path, targets=settings.targets, compiled=settings.compiled)
            row = replace(row, inspection=inside)
        measured, found = row, None
        try:
            if subject.unreadable is not None:
                raise subject.unreadable
            if settings.score and subject.has_samples:
                found = _evaluate(subject, device, settings)
                measured = _judged(
                    row,
                    found,
                    baseline,
                    subject,
                    settings,
                    named=subjects[0].artifact.variant,
                    is_same=is_same,
                )
            if settings.latency:
                listener(
                    Progress(
                        stage="timing",
                        done=position,
                        total=len(subjects),
                        detail=artifact.variant,
                    )
                )
                timing = device.bench(artifact.path, settings.run)
                measured = replace(measured, timing=timing, device=None)
        except ModelError as error:
            if on_failure is None:
                raise
            on_failure(row, error)
            measured = replace(row, failure=error.found or error.what)
        if baseline is None and position == 0:  # no other may take its place where it fails
            baseline = found
        yield measured


def by_turns(rows: Sequence[Row], device: Device, settings: RunSettings) -> list[Row]:
    """Time the files of a device by turns: one after the other they cannot be compared."""
    timed = [(row.artifact.path, row.timing) for row in rows if row.timing]
    again = iter(interleaved(timed, device, settings))
    return [replace(row, timing=next(again)) if row.timing else row for row in rows]


def _evaluate(subject: Subject, device: Device, settings: MeasureSettings) -> Predictions:
    assert subject.dataset is not None
    return device.evaluate(
        subject.artifact.path,
        subject.dataset,
        settings.run,
        output=settings.score_output,
        metric=settings.metric,
    )


def _judged(
    row: Row,
    found: Predictions,
    baseline: Predictions | None,
    subject: Subject,
    settings: MeasureSettings,
    *,
    named: str,
    is_same: bool,
) -> Row:
    """Return the row with what a run tells of a file, alone and beside the baseline.

    Args:
        row: The file's.
        found: What it computed.
        baseline: What the baseline computed, if there is one.
        subject: The file.
        settings: What is measured.
        named: The baseline's name.
        is_same: Whether the same file computed it on another device.
    """
    scored = found if isinstance(found, Evaluation) else None
    if scored is not None:
        row = replace(row, score=scored.score)
    if baseline is None:
        return row
    classes = None
    if scored is not None and scored.task is CLASSIFICATION:
        told = subject.dataset.output if subject.dataset else None
        classes = settings.score_output or told or next(iter(found.outputs), None)
    fidelity, collapses = compare(
        baseline.outputs, found.outputs, class_scores=classes, baseline=named
    )
    if scored is None or not isinstance(baseline, Evaluation):
        return replace(row, fidelity=fidelity, collapses=collapses)
    drop = paired_drop(
        baseline,
        scored,
        max_drop=settings.max_drop,
        same_file=is_same,
    )
    labels = subject.dataset.labels if subject.dataset is not None else None
    lost = scored.task.collapses(baseline.columns, scored.columns, labels)
    lost += _lost_by_others(baseline, scored, subject.dataset)
    return replace(
        row,
        drop=drop,
        agreement=agreement(baseline, scored),
        fidelity=fidelity,
        collapses=(*lost, *collapses),
        worst_samples=worst_samples(baseline, scored),
    )


def _lost_by_others(
    baseline: Evaluation, scored: Evaluation, dataset: Dataset | None
) -> tuple[Collapse, ...]:
    """Return what other outputs with targets no longer tell."""
    told = dataset.others if dataset is not None else {}
    return tuple(
        replace(collapse, where=f"output {name!r}, {collapse.where}")
        for name, found in scored.others.items()
        if name in baseline.others
        for collapse in found.task.collapses(
            baseline.others[name].columns,
            found.columns,
            told[name].labels if name in told else None,
        )
    )

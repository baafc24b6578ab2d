"""Files are scored and timed on a device: the only place where rows get their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from edgekit.devices import Device, RunSettings
from edgekit.errors import ModelError
from edgekit.evaluation import Evaluation, agreement, paired_drop
from edgekit.records import Artifact, Dataset, Listener, Progress, Row, silent
from edgekit.tflite.inspect import inspect

MAX_DROP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """What is measured of every file, and how.

    Attributes:
        score_output: The output that is scored; the first where None.
        metric: The metric to judge by; the task's default where None.
        max_drop: Accepted loss: points, or percent for a metric that is a quantity.
        score: Whether files are scored, where there are samples.
        latency: Whether files are timed.
        run: How they are run and timed.
        targets: Accelerators on which each file's operators are checked; empty leaves out what is
            inside the files.
    """

    score_output: str | None = None
    metric: str | None = None
    max_drop: float = MAX_DROP
    score: bool = True
    latency: bool = True
    run: RunSettings = field(default_factory=RunSettings)
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A file to measure.

    Attributes:
        artifact: The file.
        model: Name of the source model.
        dataset: Samples, bound to the file's inputs; None where it is not scored.
    """

    artifact: Artifact
    model: str
    dataset: Dataset | None = None

    @property
    def scorable(self) -> bool:
        """Whether there are samples to score it on."""
        return self.dataset is not None and self.dataset.test is not None


def measure(
    subjects: Sequence[Subject],
    device: Device,
    settings: MeasureSettings,
    *,
    baseline: Evaluation | None = None,
    on_unsupported: Callable[[Row, ModelError], None] | None = None,
    listener: Listener = silent,
) -> Iterator[Row]:
    """Score and time files on a device, one after the other.

    A generator: what the device delivered before it failed is not lost.

    Args:
        subjects: The files.
        device: Ready to be used.
        settings: What is measured.
        baseline: What every file is compared with; None takes the first that is scored, which
            then has no drop.
        on_unsupported: Called with the row of a file that the device cannot load or run, which
            has neither score nor latency then; where None, that ends the measurement.
        listener: Progress callback.

    Yields:
        A row for each file, in order.

    Raises:
        ModelError: A file cannot be loaded or run there.
        DataError: The data does not fit the outputs.
        DeviceError: The device fails.
    """
    for position, subject in enumerate(subjects):
        artifact = subject.artifact
        row = Row(model=subject.model, artifact=artifact, device=device.place)
        if settings.targets:
            row = replace(row, inspection=inspect(artifact.path, targets=settings.targets))
        measured, found = row, None
        try:
            if settings.score and subject.scorable:
                found = _evaluate(subject, device, settings)
                measured = _scored(row, found, baseline, settings.max_drop)
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
            if on_unsupported is None:
                raise
            on_unsupported(row, error)
            yield row
            continue
        if baseline is None:
            baseline = found
        yield measured


def _evaluate(subject: Subject, device: Device, settings: MeasureSettings) -> Evaluation:
    assert subject.dataset is not None
    return device.evaluate(
        subject.artifact.path,
        subject.dataset,
        settings.run,
        output=settings.score_output,
        metric=settings.metric,
    )


def _scored(row: Row, found: Evaluation, baseline: Evaluation | None, max_drop: float) -> Row:
    row = replace(row, score=found.score)
    if baseline is None:
        return row
    return replace(
        row,
        drop=paired_drop(baseline, found, max_drop=max_drop),
        agreement=agreement(baseline, found),
    )

"""Keras models become other Keras models: one pass, or the stages of a recipe, in one worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgekit import devices
from edgekit.choices import LATENCY
from edgekit.data.pixels import image_shape, picture_shape
from edgekit.pipeline import manifest
from edgekit.pipeline.latency_goal import OpenBench, bench_here, shrink_to_latency
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.pipeline.pass_run import PassRequest, opened
from edgekit.pipeline.pixel_trial import model_of_source
from edgekit.pipeline.preprocessing import settle, settled_spec
from edgekit.pipeline.request import FLOAT
from edgekit.pipeline.sources import example_shapes, trained_notes
from edgekit.recipe import PassStep, Prune, Qat, Shrink
from edgekit.records import DataRequest, Dataset, Listener, Plan, Row, Source, silent
from edgekit.tflite.pruning_estimate import estimate_pruning
from edgekit.training.finetuning import Tuning
from edgekit.worker import TensorFlowProcess

if TYPE_CHECKING:
    from edgekit.tflite.pruning_estimate import PruningEstimate
    from edgekit.training.passes import PassResult

UNTRAINED: Final = (
    "The ranges that qat trained for this model are dropped, because the weights change: run qat "
    "after the other passes."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassComparison:
    """What a pass did, and what it did to the float32 `.tflite` of the model.

    Attributes:
        passed: What the pass tells.
        before: Bytes, work and latency of the source.
        after: The same, of what was written.
    """

    passed: PassResult
    before: Row
    after: Row


def transform(
    request: PassRequest, on_estimate: Callable[[PruningEstimate], None] | None = None
) -> PassComparison:
    """Take a model through one pass; see `edgekit.api.transform`."""
    step, source = request.step, request.source
    with opened(request) as started:
        tensorflow, folder = started.tensorflow, started.folder
        example = example_shapes(started.dataset)
        loaded = tensorflow.load(source, example=example, to_train=True)
        data, notes = _settled(started.data, started.dataset, loaded, tensorflow)
        if trained_notes(source) and not isinstance(step, Qat):
            notes = (*notes, UNTRAINED)
        before = tensorflow.lower(folder / "before.tflite").path
        if on_estimate is not None and isinstance(step, Prune) and not request.resume:
            on_estimate(estimate_pruning(before.read_bytes(), step.share))
        tuning = started.tuning(data)
        if request.resume:
            started.load(request.start)
        result, after = started.write(
            lambda place: run(
                tensorflow, step, request.start, place, tuning=tuning, listener=request.listener
            ),
            data,
        )
        return PassComparison(
            passed=replace(result, facts={**result.facts, **_said(notes)}),
            before=row_of("before", before),
            after=row_of("after", after),
        )


def _settled(
    data: DataRequest, dataset: Dataset, source: Source, tensorflow: TensorFlowProcess
) -> tuple[DataRequest, tuple[str, ...]]:
    """The request with how pixels are scaled, so that the pass trains on what the source takes.

    What there is to say of the data follows.
    """
    inputs = source.inputs
    pictures = dataset.preprocessing["kind"] == "image"
    shape = picture_shape(inputs) if pictures else image_shape(inputs, least=1)
    if isinstance(data.data, Dataset) or shape is None:
        return data, dataset.notes
    settled = settle(dataset, model_of_source(source, source.outputs, tensorflow))
    spec = settled_spec(settled, data.preprocessing)
    return replace(data, preprocessing=spec), settled.notes


def _said(notes: tuple[str, ...]) -> dict[str, str]:
    """What is said of the data and the source, as a fact of the pass."""
    return {"note": " ".join(notes)} if notes else {}


def row_of(variant: str, path: Path) -> Row:
    """What there is to know of a float32 file without data."""
    plan = Plan(variant=variant, mode=FLOAT.mode)
    subject = Subject(artifact=manifest.artifact(path, plan, {}), model=path.stem)
    settings = MeasureSettings(score=False, targets=("coral",))
    with devices.LocalDevice() as device:
        (row,) = measure([subject], device, settings)
    return row


def run(
    tensorflow: TensorFlowProcess,
    step: PassStep,
    source: Path,
    destination: Path,
    *,
    tuning: Tuning,
    open_bench: OpenBench = bench_here,
    listener: Listener = silent,
) -> PassResult:
    """Run a pass over the model that `tensorflow` has loaded from `source`."""
    if isinstance(step, Shrink) and step.goal == LATENCY and not tuning.done:
        found = shrink_to_latency(
            tensorflow,
            source,
            step,
            tuning=tuning,
            destination=destination,
            open_bench=open_bench,
            listener=listener,
        )
        latency = f"{found.final.ratio:.2f} of before, after {len(found.measured)} cuts timed"
        return replace(found.passed, facts={**found.passed.facts, "latency": latency})
    return tensorflow.transform(step, tuning, destination)

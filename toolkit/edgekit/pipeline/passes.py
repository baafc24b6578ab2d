"""Keras models become other Keras models: one pass, or the stages of a recipe, in one worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgekit import devices
from edgekit.choices import LATENCY
from edgekit.data import open_request, training_split
from edgekit.data.pixels import image_shape
from edgekit.errors import ModelError, UsageError
from edgekit.fields import FieldError, Fields
from edgekit.files import cleared, temporary_folder, writing
from edgekit.pipeline import manifest
from edgekit.pipeline.heads import with_head
from edgekit.pipeline.latency_goal import OpenBench, bench_here, shrink_to_latency
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.pipeline.pixel_trial import model_of_source
from edgekit.pipeline.preprocessing import settle, settled_spec
from edgekit.pipeline.request import FLOAT
from edgekit.pipeline.sources import example_shapes, is_graph, trained_notes
from edgekit.recipe import PassStep, Prune, Qat, Shrink
from edgekit.records import DataRequest, Dataset, Listener, Plan, Row, Source, silent
from edgekit.tflite.pruning_estimate import estimate_pruning
from edgekit.training.finetuning import Tuning
from edgekit.training.saving import checkpoint_path, read_notes, write_head
from edgekit.worker import TensorFlowProcess, Worker

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
    step: PassStep,
    source: Path,
    destination: Path,
    *,
    data: DataRequest,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    resume: bool = False,
    force: bool = False,
    listener: Listener = silent,
    on_estimate: Callable[[PruningEstimate], None] | None = None,
) -> PassComparison:
    """Take a model through one pass; see `edgekit.api.transform`."""
    if is_graph(source):
        raise ModelError(
            f"{source} has no Keras layers to train.",
            hint="Give the .keras or .h5 file that it was made of.",
        )
    checkpoint = checkpoint_path(destination)
    done = epochs_done(step, checkpoint) if resume else 0
    with (
        cleared(destination.parent),
        temporary_folder() as folder,
        Worker(custom, listener, trust_code=trust_code) as tensorflow,
    ):
        # What is missing or does not fit is said before anything is loaded or predicted.
        data = with_head(data, source)
        dataset = open_request(data)
        if dataset.train is None or dataset.train.sequences is None:
            # Of a stream the model is looked at first: it may be unable to carry a state on.
            training_split(dataset, step.training.split_by)
        example = example_shapes(dataset)
        loaded = tensorflow.load(source, example=example, to_train=True)
        data, notes = _settled(data, dataset, loaded, tensorflow)
        if trained_notes(source) and not isinstance(step, Qat):
            notes = (*notes, UNTRAINED)
        before = tensorflow.lower(folder / "before.tflite").path
        if on_estimate is not None and isinstance(step, Prune) and not resume:
            on_estimate(estimate_pruning(before.read_bytes(), step.share))
        tuning = replace(tuning_of(step, data), checkpoint=checkpoint, done=done)
        if step.distills:
            tuning = replace(tuning, teacher=teach(tensorflow, folder, tuning))
        if resume:
            tensorflow.load(checkpoint, example=example, to_train=True)
        start = checkpoint if resume else source
        # A file that appears while the model is trained is no more replaced than one before it.
        with writing(destination, replace=force) as place:
            result = run(tensorflow, step, start, place, tuning=tuning, listener=listener)
        if data.head is not None:
            write_head(data.head, destination)
        tensorflow.load(destination, example=example)
        after = tensorflow.lower(folder / "after.tflite").path
        measured = PassComparison(
            passed=replace(result, path=destination, facts={**result.facts, **_said(notes)}),
            before=row_of("before", before),
            after=row_of("after", after),
        )
    checkpoint.unlink(missing_ok=True)
    return measured


def _settled(
    data: DataRequest, dataset: Dataset, source: Source, tensorflow: TensorFlowProcess
) -> tuple[DataRequest, tuple[str, ...]]:
    """The request with how pixels are scaled, so that the pass trains on what the source takes.

    What there is to say of the data follows.
    """
    if isinstance(data.data, Dataset) or image_shape(source.inputs, least=1) is None:
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


def teach(tensorflow: TensorFlowProcess, folder: Path, tuning: Tuning) -> Path:
    """Write what the loaded model predicts, for later ones to learn from; returns the file."""
    place = folder / "teacher.npy"
    tensorflow.write_teacher(tuning, place)
    return place


def tuning_of(step: PassStep, data: DataRequest) -> Tuning:
    """Return the training that a step asks for, on this data."""
    training = step.training
    return Tuning(
        data=data,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=step.learning_rate,
        patience=training.patience,
        seed=training.seed,
        split_by=training.split_by,
    )


def epochs_done(step: PassStep, checkpoint: Path) -> int:
    """How far an interrupted run had come.

    Raises:
        UsageError: There is no such run, or it was another pass.
    """
    notes = read_notes(checkpoint)
    other = notes.get("pass")
    if other == step.kind:
        try:
            return Fields(notes, "").integer("epochs")
        except FieldError as error:
            raise UsageError(
                f"{checkpoint} is not as edgekit writes it.",
                found=str(error),
                hint="Leave --resume out.",
            ) from error
    raise UsageError(
        f"There is no interrupted {step.kind} to go on with.",
        found=f"{checkpoint} is {f'of {other}' if other else 'not there'}.",
        hint="Leave --resume out.",
    )

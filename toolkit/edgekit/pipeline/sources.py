"""A source becomes a float graph whose outputs were compared with the source's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import data, tflite
from edgekit.choices import COMPACT, UNROLLED, RecurrentForm
from edgekit.data.formats.sounds import undeclared_sounds
from edgekit.data.preprocessing import names_size
from edgekit.data.store import Reader
from edgekit.errors import ConversionError, ModelError, UsageError
from edgekit.files import check_input, refuse_existing, staging
from edgekit.pipeline import manifest
from edgekit.pipeline.calibration_inputs import CalibrationInputs
from edgekit.pipeline.heads import head_for, with_head
from edgekit.pipeline.imported_model import ImportedModel, Verification
from edgekit.pipeline.pixel_trial import ImageModel, model_of_file, model_of_source
from edgekit.pipeline.preprocessing import picture_for, settle
from edgekit.pipeline.report import as_compiled
from edgekit.pipeline.verified_lowering import lowered_and_verified, samples_of
from edgekit.recipe import Qat
from edgekit.records import (
    Artifact,
    Dataset,
    Listener,
    Plan,
    Progress,
    Ranges,
    Source,
    TensorSpec,
    silent,
)
from edgekit.worker import InProcess, TensorFlowProcess, Worker

if TYPE_CHECKING:
    from edgekit.training.qat import Placed


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """A float32 `.tflite` that was made of a source.

    Attributes:
        artifact: The file.
        source: What it came from.
        verification: The comparison with the source; None where the source is a `.tflite` file.
        notes: What was done without being asked for.
    """

    artifact: Artifact
    source: Source
    verification: Verification | None
    notes: tuple[str, ...] = ()


def is_graph(source: Path | Any) -> bool:
    """Whether the source is a float graph already, which needs no TensorFlow to be read."""
    return isinstance(source, Path) and source.suffix == ".tflite"


@contextmanager
def tensorflow_for(
    source: Path | Any,
    custom: Sequence[str],
    listener: Listener,
    *,
    needed: bool = True,
    trust_code: bool = False,
) -> Iterator[TensorFlowProcess | None]:
    """Yield a process with TensorFlow: a worker, or this one for a live model.

    The worker begins to import TensorFlow at once, while the caller reads data. None is yielded
    where nothing needs TensorFlow.
    """
    if not needed:
        yield None
    elif isinstance(source, Path):
        with Worker(custom, listener, trust_code=trust_code) as tensorflow:
            yield tensorflow
    else:
        with InProcess(listener=listener) as tensorflow:
            yield tensorflow


def scored_first(outputs: Sequence[TensorSpec], name: str | None) -> tuple[TensorSpec, ...]:
    """The outputs with the scored one in front: targets are compared with the first.

    Raises:
        UsageError: There is no output of that name.
    """
    if name is not None and name not in {output.name for output in outputs}:
        raise UsageError(
            f"The model has no output {name!r} to score.",
            found=f"It has: {', '.join(output.name for output in outputs)}.",
            hint="Name one of these with --score-output.",
        )
    return tuple(sorted(outputs, key=lambda output: output.name != name)) if name else (*outputs,)


def lower(
    source: Path | Any,
    dataset: Dataset | None,
    destination: Path,
    tensorflow: TensorFlowProcess | None,
    *,
    output: str | None = None,
    head: Mapping[str, Any] | None = None,
    described: Mapping[str, Any] | None = None,
    unroll: bool = False,
    example: Mapping[str, tuple[int, ...]] | None = None,
    to_train: bool = False,
    plans: Sequence[Plan] = (),
    listener: Listener = silent,
) -> ImportedModel:
    """Write the float graph of `source` to `destination`, and prove that it computes the same.

    Args:
        source: A file, a folder or a live model.
        dataset: Real samples to verify on, bound to the model's inputs in what is returned.
        destination: The `.tflite` to write.
        tensorflow: Loads and lowers the source; None where it is a graph already.
        output: Name of the output to score; None for the first.
        head: How the outputs tell boxes, where the data does not say it.
        described: A manifest that says how pixels were scaled before.
        unroll: Whether recurrent layers are written out step by step.
        example: Input name -> shape of a batch, for sizes the model leaves open; None takes the
            dataset's.
        to_train: Whether a pass will train what is loaded.
        plans: What will be made of it at once: the samples that calibrate it are looked through
            while TensorFlow lowers the model.
        listener: Progress callback.

    Raises:
        ModelError: The source cannot be read.
        DataError: The data does not fit the model.
        ConversionError: The float graph differs from its source.
    """
    dataset = dataset and with_head(dataset, source, described)
    if is_graph(source):
        loaded = tflite.load_source(source)
        outputs = scored_first(loaded.outputs, output)
        model = model_of_file(source, loaded.inputs, outputs)
        bound = _bound(dataset, model, described)
        destination.write_bytes(source.read_bytes())
        tflite.check_loads(source)
        _describe(destination, str((described or {}).get("model", loaded.name)), bound)
        return ImportedModel(
            source=loaded,
            dataset=bound,
            graph=destination,
            verification=None,
            notes=bound.notes if bound else (),
            picture=None if bound else picture_for(model),
            head=None if bound else head_for(source, head, described, loaded.inputs, outputs),
        )

    assert tensorflow is not None
    listener(Progress(stage="loading the model"))
    example = example or example_shapes(dataset)
    loaded = tensorflow.load(source, example=example, to_train=to_train)
    tensorflow.start_tracing()  # while the data are looked at
    outputs = scored_first(loaded.outputs, output)
    model = model_of_source(loaded, outputs, tensorflow)
    bound = as_compiled(_bound(dataset, model, described), loaded.compiled)
    batch = samples_of(bound, loaded.inputs)
    described_name = str((described or {}).get("model", loaded.name))
    form: RecurrentForm = UNROLLED if unroll else COMPACT
    listener(Progress(stage="lowering"))
    lowering = tensorflow.start_lowering(destination, recurrent=form)
    calibration = CalibrationInputs.of(bound, plans, listener) if plans else None
    if calibration is not None:
        calibration.described(loaded.inputs)
    lowered, verification, stateful = lowered_and_verified(
        loaded,
        destination,
        tensorflow,
        batch,
        real=bound is not None,
        form=form,
        lowering=lowering,
        finish=partial(_describe, destination, described_name, bound),
    )
    notes = [*(bound.notes if bound else ()), *lowered.notes]
    if stateful:
        notes.append(_state_note(loaded.name, stateful, bound))
    learned = trained_notes(source)
    placed = _placed(learned, destination) if learned else None
    if learned:
        notes += float_notes(learned)
    return ImportedModel(
        source=loaded,
        dataset=bound,
        graph=destination,
        verification=verification,
        notes=tuple(notes),
        picture=None if bound else picture_for(model),
        head=None if bound else head_for(source, head, described, loaded.inputs, outputs),
        trained=placed.ranges if placed else None,
        rules=placed.rules if placed else (),
        calibration=calibration,
    )


def _bound(
    dataset: Dataset | None, model: ImageModel, described: Mapping[str, Any] | None
) -> Dataset | None:
    if dataset is None:
        return None
    return data.bind(settle(dataset, model, described), model.inputs, model.outputs)


def _state_note(name: str, layers: Sequence[str], dataset: Dataset | None) -> str:
    """Say that state is lost.

    Raises:
        ConversionError: The data's sequences need it.
    """
    named = ", ".join(layers)
    splits = (dataset.calibrate, dataset.test) if dataset else ()
    if any(samples is not None and samples.sequences is not None for samples in splits):
        raise ConversionError(
            f"{name} cannot follow the sequences of {dataset and dataset.name} once it is lowered.",
            found=f"The state of {named} would be lost: the float graph keeps none.",
            hint="Drop the sequence arrays from the data to take samples as independent, or give "
            "a .tflite file that keeps its state.",
        )
    return f"{named}: the file starts from the initial state at every sample, and keeps none"


def trained_notes(source: Path | Any) -> Mapping[str, Any] | None:
    """What `edgekit qat` wrote into a Keras file, or None."""
    from edgekit.training.saving import read_notes

    notes = read_notes(source).get(Qat.kind) if isinstance(source, Path) else None
    return notes if isinstance(notes, Mapping) else None


def float_notes(notes: Mapping[str, Any]) -> list[str]:
    """Say which layers stay float in an int8 file because they were trained so.

    Args:
        notes: As `trained_notes` returns them.
    """
    from edgekit.training.qat import why_in_float

    *_, floats = why_in_float(notes.get("float_classes", {}), ())
    return [f"In int8 these stay float, as qat left them: {', '.join(floats)}"] if floats else []


def _placed(notes: Mapping[str, Any], graph: Path) -> Placed:
    """The trained ranges, and rules for what was left in float."""
    from edgekit.training.qat import place

    ranges = Ranges(
        method="trained",
        low=notes["low"],
        high=notes["high"],
        n=0,
        weight_bits=int(notes["bits"]),
    )
    left = {**dict.fromkeys(notes.get("float", ()), ""), **notes.get("float_classes", {})}
    return place(graph.read_bytes(), ranges, left)


def import_source(
    source: Path | Any,
    destination: Path,
    *,
    dataset: Dataset | None = None,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    unroll: bool = False,
    force: bool = False,
    build: Mapping[str, Any] | None = None,
    listener: Listener = silent,
) -> ImportResult:
    """Turn any source into a verified float32 `.tflite` with its manifest.

    Args:
        source: A `.keras`, `.h5`, SavedModel folder or float `.tflite`, or a live Keras model.
        destination: The `.tflite` to write.
        dataset: Real samples to verify on; seeded noise is used (and said) without.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that the source brings along.
        unroll: Whether recurrent layers are written out step by step.
        force: Replace an existing file.
        build: What the manifest says of the request (`request.build_of`).
        listener: Progress callback.
    """
    beside = destination.with_suffix(".json")
    if beside == destination:
        raise UsageError(
            f"{destination} is where the manifest goes.", hint="Give --output F.tflite."
        )
    if isinstance(source, Path):
        check_input(source, ModelError, folder=True)
    for place in (destination, beside):
        refuse_existing(place, force=force)
    plan = Plan(variant=destination.stem, mode="float32")
    with staging(destination.parent, replace=force) as stage:
        graph = stage / destination.name
        needed = not is_graph(source)
        with tensorflow_for(
            source, custom, listener, needed=needed, trust_code=trust_code
        ) as tensorflow:
            imported = lower(source, dataset, graph, tensorflow, unroll=unroll, listener=listener)
        artifact = manifest.artifact(graph, plan, manifest.describe(imported, plan, build=build))
        (stage / beside.name).write_text(manifest.to_text(artifact.manifest), encoding="utf-8")
    return ImportResult(
        artifact=replace(artifact, path=destination),
        source=imported.source,
        verification=imported.verification,
        notes=imported.notes,
    )


def _describe(graph: Path, name: str, dataset: Dataset | None) -> None:
    """Write into a float graph what its data tell of it, unless it has metadata of its own."""
    if dataset is None:
        return
    labels, preprocessing = dataset.labels or (), dataset.preprocessing
    if preprocessing["kind"] == "none" and dataset.picture is not None:
        preprocessing = dataset.picture
    if not labels and preprocessing["kind"] not in ("affine", "image"):
        return
    model = tflite.read(graph)
    if not tflite.has_metadata(model):
        graph.write_bytes(
            tflite.with_metadata(model, name=name, preprocessing=preprocessing, labels=labels)
        )


def example_shapes(dataset: Dataset | None) -> Mapping[str, tuple[int, ...]] | None:
    """Return input name -> shape of a sample in a batch, as the data has it; None if unknown."""
    samples = dataset and (dataset.train or dataset.test)
    if not samples:
        return None
    if isinstance(samples.read, Reader) and not names_size(samples.read.preprocessing):
        return None  # the size of images is the model's to say
    if undeclared_sounds(samples) is not None:
        return None  # and so are frames and bands, in the error that follows
    one = samples.read(np.arange(1))
    return {name: values.shape for name, values in one.inputs.items()}

"""A Keras model becomes one that a target takes: layers replaced, fine-tuned, and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgekit import devices
from edgekit.data import open_request, training_split
from edgekit.errors import ModelError
from edgekit.evaluation.trust import is_guessing
from edgekit.files import cleared, temporary_folder, writing
from edgekit.pipeline import manifest
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.pipeline.passes import UNTRAINED, epochs_done, teach, tuning_of
from edgekit.pipeline.preprocessing import settled_spec
from edgekit.pipeline.request import FLOAT
from edgekit.pipeline.sources import example_shapes, is_graph, lower, trained_notes
from edgekit.pipeline.swaps import SwapPlan, plan_swaps
from edgekit.recipe import Adapt
from edgekit.records import DataRequest, Dataset, Listener, Plan, Row, silent
from edgekit.training.passes import PassResult
from edgekit.training.saving import checkpoint_path, write_head
from edgekit.worker import Worker

GUESSING: Final = (
    "the source is no better than guessing on this data, so the drop says nothing; check the "
    "labels and the scale of the inputs"
)
"""The note on figures that cannot be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What was done to a model for a target.

    Attributes:
        plan: What is replaced, and what the target takes before and after, as predicted for int8.
        passed: What fine-tuning tells; None where nothing was written.
        rows: The float32 files of the source, of the changed model before training, and of what was
            written, scored and timed; the first is the baseline of the others. None without
            `passed`.
        notes: What was done without being asked for.
    """

    plan: SwapPlan
    passed: PassResult | None = None
    rows: tuple[Row, Row, Row] | None = None
    notes: tuple[str, ...] = ()


def adapt(
    step: Adapt,
    source: Path,
    destination: Path | None,
    *,
    data: DataRequest,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    resume: bool = False,
    force: bool = False,
    listener: Listener = silent,
    on_plan: Callable[[SwapPlan], None] | None = None,
) -> Adaptation:
    """Replace what a target does not take of a model; see `edgekit.api.adapt`.

    Without a destination nothing is trained or written.
    """
    if is_graph(source):
        raise ModelError(
            f"{source} has no Keras layers to replace.",
            hint="Give the .keras or .h5 file that it was made of.",
        )
    checkpoint = checkpoint_path(destination) if destination else None
    done = epochs_done(step, checkpoint) if resume and checkpoint else 0
    with (
        cleared(destination.parent) if destination else nullcontext(),
        temporary_folder() as folder,
        Worker(custom, listener, trust_code=trust_code) as tensorflow,
    ):
        dataset = open_request(data)
        if dataset.train is None or dataset.train.sequences is None:
            training_split(dataset, step.training.split_by)
        before = folder / "float32.tflite"
        imported = lower(source, dataset, before, tensorflow, to_train=True, listener=listener)
        bound = imported.dataset
        notes = (*imported.notes, *((UNTRAINED,) if trained_notes(source) else ()))
        plan = plan_swaps(imported, step, tensorflow, folder, listener=listener)
        if on_plan is not None:
            on_plan(plan)
        if destination is None or plan.graph is None or bound is None:
            return Adaptation(plan=plan, notes=notes)
        if not isinstance(data.data, Dataset):
            data = replace(data, preprocessing=settled_spec(bound, data.preprocessing))
        data = replace(data, head=bound.head)
        tuning = replace(tuning_of(step, data), checkpoint=checkpoint, done=done)
        tensorflow.adapt({})
        tuning = replace(tuning, teacher=teach(tensorflow, folder, tuning))
        example = example_shapes(dataset)
        if resume and checkpoint is not None:
            tensorflow.load(checkpoint, example=example, to_train=True)
        else:
            tensorflow.adapt(plan.chosen)
        # A file that appears while the model is trained is no more replaced than one before it.
        with writing(destination, replace=force) as place:
            passed = tensorflow.transform(step, tuning, place)
        if data.head is not None:
            write_head(data.head, destination)
        tensorflow.load(destination, example=example)
        after = tensorflow.lower(folder / "after.tflite").path
        files = {"before": before, "changed": plan.graph, "after": after}
        rows = _rows(files, imported.source.name, bound, listener)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    if rows[0].score is not None and is_guessing(rows[0].score):
        notes = (*notes, GUESSING)
    return Adaptation(plan=plan, passed=replace(passed, path=destination), rows=rows, notes=notes)


def _rows(
    files: dict[str, Path], model: str, dataset: Dataset, listener: Listener
) -> tuple[Row, Row, Row]:
    """Score and time the float32 files; the first is the baseline."""
    subjects = [
        Subject(
            artifact=manifest.artifact(path, Plan(variant=name, mode=FLOAT.mode), {}),
            model=model,
            dataset=dataset,
        )
        for name, path in files.items()
    ]
    settings = MeasureSettings(targets=("cpu",))
    with devices.LocalDevice(listener=listener) as device:
        before, changed, after = measure(subjects, device, settings, listener=listener)
    return before, changed, after

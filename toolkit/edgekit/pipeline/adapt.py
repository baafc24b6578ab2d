"""A Keras model becomes one that a target takes: layers replaced, fine-tuned, and scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgekit import devices
from edgekit.evaluation.trust import is_guessing
from edgekit.pipeline import manifest
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.pipeline.pass_run import PassRequest, opened
from edgekit.pipeline.passes import UNTRAINED
from edgekit.pipeline.preprocessing import settled_spec
from edgekit.pipeline.request import FLOAT
from edgekit.pipeline.sources import lower, trained_notes
from edgekit.pipeline.swap_plan import SwapPlan
from edgekit.pipeline.swaps import plan_swaps
from edgekit.recipe import Adapt
from edgekit.records import Dataset, Listener, Plan, Row
from edgekit.training.passes import PassResult

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


def adapt(request: PassRequest, on_plan: Callable[[SwapPlan], None] | None = None) -> Adaptation:
    """Replace what a target does not take of a model; see `edgekit.api.adapt`.

    Without a destination nothing is trained or written.
    """
    step, source, listener = request.step, request.source, request.listener
    assert isinstance(step, Adapt)
    with opened(request) as started:
        tensorflow, folder, data = started.tensorflow, started.folder, started.data
        before = folder / "float32.tflite"
        imported = lower(
            source, started.dataset, before, tensorflow, to_train=True, listener=listener
        )
        bound = imported.dataset
        notes = (*imported.notes, *((UNTRAINED,) if trained_notes(source) else ()))
        plan = plan_swaps(imported, step, tensorflow, folder, listener=listener)
        if on_plan is not None:
            on_plan(plan)
        if request.destination is None or plan.graph is None or bound is None:
            return Adaptation(plan=plan, notes=notes)
        if not isinstance(data.data, Dataset):
            data = replace(data, preprocessing=settled_spec(bound, data.preprocessing))
        data = replace(data, head=bound.head)
        tensorflow.adapt({})
        tuning = started.tuning(data)
        if request.resume:
            started.load(request.start)
        else:
            tensorflow.adapt(plan.chosen)
        passed, after = started.write(lambda place: tensorflow.transform(step, tuning, place), data)
        files = {"before": before, "changed": plan.graph, "after": after}
        rows = _rows(files, imported.source.name, bound, listener)
    if rows[0].score is not None and is_guessing(rows[0].score):
        notes = (*notes, GUESSING)
    return Adaptation(plan=plan, passed=passed, rows=rows, notes=notes)


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

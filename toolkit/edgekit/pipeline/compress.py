"""A recipe of several stages: each makes a Keras model, and is a row of the report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError
from edgekit.files import FILE, staging, temporary_folder, what_is
from edgekit.pipeline import manifest
from edgekit.pipeline.calibration_inputs import CalibrationInputs
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.kept_stages import KeptStages, Told, interrupted_run, kept_stages
from edgekit.pipeline.latency_goal import OpenBench, bench_here
from edgekit.pipeline.pass_run import epochs_done, teach, tuning_of
from edgekit.pipeline.passes import run
from edgekit.pipeline.preprocessing import settled_as, settled_spec
from edgekit.pipeline.quantize import Finish, make, write_outputs
from edgekit.pipeline.recommendation import (
    measure_made,
    open_bench,
    probe_device,
    with_source_score,
)
from edgekit.pipeline.report import accepted_loss
from edgekit.pipeline.request import FLOAT, Request, build_of, check, open_data, possible_plans
from edgekit.pipeline.sources import example_shapes, is_graph, lower
from edgekit.pipeline.swap_plan import SwapPlan
from edgekit.pipeline.swaps import plan_swaps
from edgekit.recipe import Adapt, PassStep, Recipe, naming, pass_json
from edgekit.records import Artifact, Dataset, Listener, Plan, Report, silent
from edgekit.tflite import read, signature
from edgekit.training.finetuning import Tuning
from edgekit.training.passes import FLOAT_ISLANDS, PassResult
from edgekit.training.saving import write_head
from edgekit.worker import TensorFlowProcess, Worker


def compress(
    request: Request, recipe: Recipe, *, finish: Finish, listener: Listener = silent
) -> Report:
    """Take a model through the steps of a recipe.

    Every stage leaves its Keras model and its float32 `.tflite`; the last step quantizes. All are
    scored on the same samples against the source's float32 file.

    Args:
        request: The source, the data, and how to measure; its plan is the recipe's.
        recipe: The steps.
        finish: See `quantize.quantize`.
        listener: Progress callback.

    Raises:
        EdgekitError: As the rooms below raise it; nothing is left behind then.
    """
    names = stages(recipe)
    check(replace(request, plans=(*_float_plans(names.values()), *request.plans)))
    if request.data is None or isinstance(request.data, Dataset):
        raise UsageError(
            "A recipe that trains needs data that it can open itself.",
            hint="Give --data: a file, a folder, a built-in name or package.module:function.",
        )
    if not isinstance(request.source, Path) or is_graph(request.source):
        raise UsageError(
            "A recipe that trains starts from a Keras file.",
            found=f"The source is {request.source}.",
            hint="Give the .keras or .h5 file.",
        )
    probe_device(request, listener)
    with (
        staging(request.folder, replace=request.force) as stage,
        kept_stages(
            request.folder, request.source, _described(recipe), resume=request.resume
        ) as kept,
        Worker(request.custom, listener, trust_code=request.trust_code) as tensorflow,
    ):
        dataset = open_data(request, listener)
        possible_plans(request, dataset)
        first = stage / "float32.tflite"
        imported = lower(
            request.source, dataset, first, tensorflow, to_train=True, listener=listener
        )
        # All stages are of one source: what it says of its input, or a trial, holds for them.
        dataset = dataset and settled_as(dataset, imported.dataset)
        head = imported.dataset.head if imported.dataset else None
        dataset = dataset and replace(dataset, head=head)
        accepted_loss(request.max_drop, imported.dataset, request.metric)
        imported = original = with_source_score(imported, request, tensorflow, listener)
        build = build_of(request)
        artifacts = [_artifact(imported, FLOAT, recipe, build, gzip=request.gzip)]
        spec = settled_spec(imported.dataset, request.preprocessing)
        data = replace(request.named(request.data), preprocessing=spec, head=head)
        distilled = next((step for step in recipe.passes if step.distills), None)
        teacher = teach(tensorflow, stage, tuning_of(distilled, data)) if distilled else None
        notes, facts = list(imported.notes), dict[str, str]()
        there = partial(open_bench, request) if request.device else bench_here
        previous = request.source
        for asked in recipe.passes:
            name = names[asked.kind]
            made = stage / f"{name}.keras"
            with naming(f"{recipe.name}, {name}"):
                told = _taken_through(
                    asked,
                    imported,
                    (previous, made),
                    tensorflow,
                    tuning=replace(
                        tuning_of(asked, data), teacher=teacher if asked.distills else None
                    ),
                    kept=kept,
                    open_bench=there,
                    listener=listener,
                )
            facts |= told.facts
            notes += told.notes
            previous = made
            graph = stage / f"{name}.tflite"
            imported = lower(made, dataset, graph, tensorflow, to_train=True, listener=listener)
            # Its files are made of the stage's model, which stands beside them in the end.
            build = {**build, "source": str(request.folder / made.name)}
            plan = Plan(variant=name, mode=FLOAT.mode)
            artifacts.append(_artifact(imported, plan, recipe, build, gzip=request.gzip))
        if replace(recipe.plan, variant=FLOAT.variant) != FLOAT:
            files, remarks = make(
                imported,
                request.plans,
                stage,
                tensorflow,
                settings=request.settings,
                build=build,
                recover=request.recover,
                gzip=request.gzip,
                listener=listener,
            )
            notes += remarks
            described = {**files[-1].manifest, "recipe": _described(recipe)}
            artifacts.append(replace(files[-1], manifest=described))
        if teacher is not None:
            teacher.unlink()
        whole = replace(original, notes=tuple(dict.fromkeys(notes)))
        report = measure_made(request, whole, artifacts, listener=listener)
        report = replace(report, asked={**report.asked, **facts})
        return write_outputs(report, request, stage, finish)


def stages_left(
    source: Path, recipe: Recipe, output: Path | None = None
) -> tuple[str, bool] | None:
    """Tell of stages of an interrupted run (`kept_stages.interrupted_run`).

    Args:
        source: The model.
        recipe: The steps.
        output: The folder that was named.
    """
    folder = output or folder_of(source.stem, recipe)
    return interrupted_run(folder, source, _described(recipe))


def folder_of(name: str, recipe: Recipe) -> Path:
    """Return where the files of a recipe go unless a folder is named."""
    return Path("quantized") / f"{name}-{recipe.name}"


def _taken_through(
    step: PassStep,
    imported: ImportedModel,
    files: tuple[Path, Path],
    tensorflow: TensorFlowProcess,
    *,
    tuning: Tuning,
    kept: KeptStages,
    open_bench: OpenBench,
    listener: Listener,
) -> Told:
    """Run one pass over the loaded model, unless an interrupted run had finished it.

    Where it adapts to a target, layers are replaced first.

    Args:
        step: The pass.
        imported: The model that is loaded.
        files: Its file, and the one to write; a head is written beside that.
        tensorflow: Has the model.
        tuning: Data and training.
        kept: What an interrupted run left; this stage is added to it.
        open_bench: Opens what measures latencies.
        listener: Progress callback.
    """
    previous, made = files
    name = made.stem
    told, checkpoint = kept.told(name), kept.checkpoint(name)
    if finished := kept.finished(name):
        shutil.copyfile(finished, made)
    else:
        tuning = replace(tuning, checkpoint=checkpoint)
        if what_is(checkpoint) == FILE:
            tuning = replace(tuning, done=epochs_done(step, checkpoint))
            example = example_shapes(imported.dataset)
            tensorflow.load(checkpoint, example=example, to_train=True)
            previous = checkpoint
        elif isinstance(step, Adapt):
            plan = _replaced(imported, step, tensorflow, listener)
            tuning = tuning if plan.swaps else replace(tuning, epochs=0)
            told = Told(facts={"adapted": _sentences(plan)})
            kept.tell(name, told)
        passed = run(
            tensorflow,
            step,
            previous,
            made,
            tuning=tuning,
            open_bench=open_bench,
            listener=listener,
        )
        told = Told(facts=told.facts, notes=_notes_of(name, passed))
        kept.tell(name, told)
        kept.keep(name, made)
    if tuning.data.head is not None:
        write_head(tuning.data.head, made)
    return told


def _replaced(
    imported: ImportedModel, step: Adapt, tensorflow: TensorFlowProcess, listener: Listener
) -> SwapPlan:
    """Replace layers of the loaded model."""
    with temporary_folder() as folder:
        return plan_swaps(imported, step, tensorflow, folder, listener=listener)


def _sentences(plan: SwapPlan) -> str:
    """Say what was replaced, a sentence a line."""
    lines = [*plan.lines(others=False), *([] if plan.swaps else ["nothing was replaced"])]
    return "\n".join(f"{line}." for line in lines)


def stages(recipe: Recipe) -> dict[str, str]:
    """Kind of each pass -> the stem of its files: `1-shrink`, `2-prune`."""
    return {step.kind: f"{n}-{step.kind}" for n, step in enumerate(recipe.passes, start=1)}


def _float_plans(names: Any) -> list[Plan]:
    return [Plan(variant=name, mode="float32") for name in names]


def _notes_of(name: str, passed: PassResult) -> list[str]:
    """What a stage says of a pass: layers it left alone, in float, and how it was validated."""
    notes = [f"{name} left {layer} alone: {why}." for layer, why in passed.left.items()]
    if islands := passed.facts.get(FLOAT_ISLANDS):
        notes.append(f"{name}, {FLOAT_ISLANDS}: {islands}.")
    if passed.validation:
        notes.append(f"Fine-tuning is validated on {passed.validation}.")
    return notes


def _artifact(
    imported: ImportedModel, plan: Plan, recipe: Recipe, build: Mapping[str, Any], *, gzip: bool
) -> Artifact:
    samples = imported.dataset.calibrate if imported.dataset else None
    inputs = signature(read(imported.graph))[0]
    calibration = CalibrationInputs(samples).described(inputs)
    described = manifest.describe(imported, plan, build=build, calibration=calibration)
    described["recipe"] = _described(recipe)
    return manifest.artifact(imported.graph, plan, described, gzip=gzip)


def _described(recipe: Recipe) -> list[dict[str, Any]]:
    return [pass_json(step) for step in recipe.passes]

"""What each operator of a model costs in a precision, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from edgekit.artifacts import open_artifact
from edgekit.errors import ConversionError, DataError, UsageError
from edgekit.evaluation.trial_runs import TrialRun, TrialRuns
from edgekit.files import temporary_folder
from edgekit.modes import FLOAT32
from edgekit.pipeline.float_graphs import FloatGraphs
from edgekit.pipeline.precision_search import (
    higher_mode,
    least_set,
    open_trials,
    ranked,
    sentence,
    with_found,
)
from edgekit.pipeline.request import Request, check_names, check_source_exists, open_data
from edgekit.pipeline.sources import is_graph, lower, tensorflow_for
from edgekit.quantization.trials import Trials, Unit
from edgekit.records import Listener, OperatorCost, Sensitivity, silent


def sensitivity(
    request: Request, *, search: bool = False, listener: Listener = silent
) -> Sensitivity:
    """Measure what each operator costs, both ways, on the calibration samples.

    The model is lowered and observed once; each file is written from that, and run in a child
    process. Nothing is left behind.

    Args:
        request: Source, data, and one plan: its mode is tried.
        search: Whether the least set of operators is searched for that must have a higher
            precision.
        listener: Progress callback.

    Raises:
        DataError: There are no calibration samples, or they do not fit.
        ModelError: The source cannot be read or run.
        ConversionError: It cannot be quantized; or no set of operators keeps the accepted loss.
        UsageError: There is no such metric, output or target, or the mode is float32.
    """
    (plan,) = request.plans
    _check(request)
    with (
        temporary_folder() as folder,
        tensorflow_for(
            request.source,
            request.custom,
            listener,
            needed=not is_graph(request.source),
            trust_code=request.trust_code,
        ) as tensorflow,
    ):
        beside = open_artifact(request.source).manifest if is_graph(request.source) else {}
        imported = lower(
            request.source,
            open_data(request, listener),
            folder / "float32.tflite",
            tensorflow,
            output=request.output,
            unroll=request.unroll,
            head=request.head,
            described=beside,
            plans=[plan],
            listener=listener,
        )
        plan = imported.as_trained(plan)
        graphs = FloatGraphs(imported, [plan], folder, tensorflow, listener)
        trials, runs = open_trials(plan, graphs, imported, request.settings)
        costs = ranked(trials, runs, listener=listener)
        notes = [*imported.notes, *([runs.note] if runs.note else [])]
        found = None
        if search:
            mode = higher_mode(request.named_targets)
            try:
                least = least_set(trials, runs, costs, mode, listener=listener)
            except ConversionError as error:
                hint = f"{error.hint} Without a recipe to write, what each costs is shown."
                raise ConversionError(error.what, found=error.found, hint=hint) from error
            found = with_found(plan, trials, least)
            notes.append(f"The recipe: {sentence(least, costs, runs.n)}")
        measured = _both_ways(trials, runs, costs, listener)
    name = request.name or str(beside.get("model", imported.source.name))
    return replace(measured, model=name, plan=found, notes=tuple(notes))


def _check(request: Request) -> None:
    """Look at what can be known before any work."""
    if request.plans[0].mode == FLOAT32.name:
        raise UsageError(
            "In float32 no operator costs accuracy.",
            hint="Choose int8, int16x8, int4, dynamic or float16.",
        )
    if request.data is None:
        raise DataError(
            "Operators are measured on training samples.",
            found="No data was given.",
            hint="Give --data with a train split.",
        )
    check_source_exists(request)
    check_names(request)


def _both_ways(
    trials: Trials, runs: TrialRuns, costs: Mapping[Unit, TrialRun | None], listener: Listener
) -> Sensitivity:
    alone = {unit: run for unit, run in costs.items() if run is not None}
    contents = [
        partial(trials.with_modes, units, FLOAT32.name) for units in ((), *((u,) for u in alone))
    ]
    stage = "measuring all but one"
    whole, *rest = [run for run in runs.run(contents, stage=stage, listener=listener) if run]
    return Sensitivity(
        model="",
        mode=trials.plan.mode,
        n=runs.n,
        costs=tuple(
            OperatorCost(
                operator=unit.operator,
                layer=unit.layer,
                tensors=unit.tensors,
                only_db=only.sqnr_db,
                without_db=without.sqnr_db,
                only_per_output=only.per_output,
                only_value=only.value,
                without_value=without.value,
                broken=only.broken or without.broken,
            )
            for (unit, only), without in zip(alone.items(), rest, strict=True)
        ),
        others=tuple(f"{unit.layer} ({unit.operator})" for unit in costs if unit not in alone),
        all_db=whole.sqnr_db,
        all_per_output=whole.per_output,
        metric=runs.metric,
        float_value=runs.value,
        all_value=whole.value,
    )

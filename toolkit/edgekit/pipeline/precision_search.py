"""The least set of operators that a higher precision must keep, so that a file keeps its score.

Operators are ranked by what each costs alone; the costs of the others would mask a gain. By
bisection the fewest of the most costly are found that keep the accepted loss on the calibration
samples, and of these the ones are dropped again that it is kept without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Final

from edgekit import targets
from edgekit.errors import ConversionError, DataError
from edgekit.evaluation.trial_runs import Judge, TrialRun, TrialRuns
from edgekit.modes import DYNAMIC, FLOAT16, FLOAT32, INT8, INT16X8
from edgekit.pipeline.float_graphs import FloatGraphs
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.measure import MeasureSettings
from edgekit.pipeline.report import reported_metric
from edgekit.quantization.trials import Trials, Unit
from edgekit.records import (
    Dataset,
    Listener,
    MixedPlan,
    OperatorCost,
    Plan,
    Samples,
    Sensitivity,
    silent,
)

MOST_SHARE: Final = 0.5
"""Of the operators; a file with more of them in float is better made in another mode."""
_STAGE: Final = "searching operators"
# Mode -> what loses less, where that is one mode only.
_OTHER_MODES: Final[Mapping[str, str]] = {
    DYNAMIC.name: f"choose {FLOAT16.name}",
    FLOAT16.name: f"choose {FLOAT32.name}",
}

_Judged = Callable[[Sequence[Sequence[Unit]]], list[TrialRun]]
"""Makes the file of each set of operators, and judges it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is kept in a higher precision.

    Attributes:
        units: The operators, the most costly first.
        mode: Their mode.
        run: What the file computes with them there.
        before: What it computes without.
        conversions: Operators that convert between precisions, which are added for them.
        bytes_added: By how much the file grows.
        of: Number of operators that had the lower precision.
    """

    units: tuple[Unit, ...]
    mode: str
    run: TrialRun
    before: TrialRun
    conversions: int
    bytes_added: int
    of: int


def higher_mode(names: Sequence[str]) -> str:
    """Return what operators are kept in: float32, or int16 where a target wants integers.

    Args:
        names: The targets that the file must be able to use.

    Raises:
        UsageError: There is no such target.
    """
    wide = any(targets.target(name).target.in_integers for name in names)
    return INT16X8.name if wide else FLOAT32.name


def judge_of(dataset: Dataset, settings: MeasureSettings) -> Judge:
    """Return how files are judged on samples of another split than the report's."""
    return Judge(
        dataset=dataset,
        output=settings.score_output,
        metric=reported_metric(dataset, settings.metric),
        max_drop=settings.max_drop,
    )


def open_trials(
    plan: Plan,
    graphs: FloatGraphs,
    imported: ImportedModel,
    settings: MeasureSettings,
    samples: Samples | None = None,
) -> tuple[Trials, TrialRuns]:
    """Prepare the files of a plan, and what they are run on: the calibration samples, or others.

    Of the forms of the graph the first is taken in which the plan is possible.

    Args:
        plan: What is tried.
        graphs: The float graph in its forms.
        imported: The float graph and its data.
        settings: How files are scored, and the accepted loss.
        samples: The other samples.

    Raises:
        DataError: There are no calibration samples.
        ConversionError: The graph cannot be quantized.
        ModelError: The float graph cannot be run.
    """
    dataset = imported.dataset
    if dataset is None or dataset.calibrate is None:
        raise DataError(
            "Operators are measured on training samples.",
            found="The data has a test split only." if dataset else "No data was given.",
            hint="Give --data with a train split.",
        )
    refused: ConversionError | None = None
    for form in graphs.forms(plan):
        try:
            trials = Trials.of(plan, form.graph, form.observe, form.calibration)
            trials.with_modes((), plan.mode)
        except ConversionError as error:
            refused = error
            continue
        judge = judge_of(dataset, settings)
        return trials, TrialRuns(trials.floating(), samples or dataset.calibrate, judge)
    assert refused is not None
    raise refused


def resolved(
    plan: MixedPlan,
    graphs: FloatGraphs,
    imported: ImportedModel,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> tuple[Plan, str, Sensitivity]:
    """Return the plan with rules for the operators that a higher precision must keep, and why.

    And what each operator costs alone.

    Args:
        plan: What is to be resolved.
        graphs: As of `open_trials`.
        imported: Likewise.
        settings: Likewise; and the targets that the file is for.
        listener: Progress callback.

    Raises:
        EdgekitError: As `open_trials` and `least_set`.
    """
    trials, runs = open_trials(plan, graphs, imported, settings)
    costs = ranked(trials, runs, listener=listener)
    mode = higher_mode(settings.targets)
    found = least_set(trials, runs, costs, mode, listener=listener)
    told = Sensitivity(
        model=imported.source.name,
        mode=plan.mode,
        n=runs.n,
        costs=tuple(
            OperatorCost(
                operator=unit.operator,
                layer=unit.layer,
                tensors=(),
                only_db=run.sqnr_db,
                without_db=None,
                kept=unit in found.units,
            )
            for unit, run in costs.items()
            if run is not None
        ),
        others=(),
        all_db=found.before.sqnr_db,
        all_per_output={},
    )
    return with_found(plan, trials, found), sentence(found, costs, runs.n), told


def with_found(plan: Plan, trials: Trials, found: Found) -> Plan:
    """Return an ordinary plan with the rules of what was found after its own."""
    given = {entry.name: getattr(plan, entry.name) for entry in fields(Plan)}
    return Plan(**given | {"rules": (*plan.rules, *trials.rules(found.units, found.mode))})


def sentence(
    found: Found, costs: Mapping[Unit, TrialRun | None], n: int, samples: str = "calibration"
) -> str:
    """Say which operators are kept in a higher precision, why, and what that costs.

    Args:
        found: The operators.
        costs: What each costs alone.
        n: Number of samples that judged.
        samples: What they are.
    """
    if not found.units:
        return f"no operator needs a higher precision on the {n} {samples} samples."
    named = ", ".join(
        f"{unit.layer} ({unit.operator}, {decibels(costs[unit])} alone)" for unit in found.units
    )
    verb = "is" if len(found.units) == 1 else "are"
    return (
        f"{len(found.units)} of {found.of} operators {verb} in {found.mode}: {named}. All outputs: "
        f"{decibels(found.run)} instead of {decibels(found.before)} on {n} {samples} samples; "
        f"{found.conversions:+d} conversions, {found.bytes_added:+,} B."
    )


def decibels(run: TrialRun | None) -> str:
    """Return an SQNR in words."""
    return "exact" if run is None or run.sqnr_db is None else f"{run.sqnr_db:z.1f} dB"


def ranked(
    trials: Trials, runs: TrialRuns, *, listener: Listener = silent
) -> dict[Unit, TrialRun | None]:
    """Return what each operator costs alone, the most costly first; None for those that cost none.

    Args:
        trials: Make the files.
        runs: Run them.
        listener: Progress callback.
    """
    contents = [partial(trials.only, unit) for unit in trials.units]
    found = dict(zip(trials.units, runs.run(contents, listener=listener), strict=True))
    return dict(sorted(found.items(), key=_cost))


def least_set(
    trials: Trials,
    runs: TrialRuns,
    costs: Mapping[Unit, TrialRun | None],
    mode: str,
    *,
    listener: Listener = silent,
) -> Found:
    """Find the fewest operators that must have a higher precision.

    Args:
        trials: Make the files.
        runs: Run and judge them.
        costs: As `ranked` returns them.
        mode: The higher precision.
        listener: Progress callback.

    Raises:
        ConversionError: Half of the operators are not enough.
    """

    def judged(sets: Sequence[Sequence[Unit]]) -> list[TrialRun]:
        contents = [partial(trials.with_modes, tuple(units), mode) for units in sets]
        found = runs.run(contents, judged=True, stage=_STAGE, listener=listener)
        return [run for run in found if run is not None]

    order = [unit for unit, run in costs.items() if run is not None]
    before = judged([()])[0]
    chosen: list[Unit] = []
    if not before.kept:
        most = max(1, math.ceil(MOST_SHARE * len(order)))
        chosen = _bisected(order[:most], judged)
        if not chosen:
            accepted = runs.max_drop if runs.metric is not None else 0.0
            raise _refusal(trials.plan, order[:most], mode, judged, accepted)
        chosen = _without_idle(chosen, judged)
    plain, made = trials.with_modes((), mode), trials.with_modes(chosen, mode)
    return Found(
        units=tuple(chosen),
        mode=mode,
        run=judged([chosen])[0],
        before=before,
        conversions=trials.conversions(chosen, mode),
        bytes_added=len(made) - len(plain),
        of=len(trials.units),
    )


def _cost(entry: tuple[Unit, TrialRun | None]) -> float:
    run = entry[1]
    return math.inf if run is None or run.sqnr_db is None else run.sqnr_db


def _bisected(order: Sequence[Unit], judged: _Judged) -> list[Unit]:
    """Return the fewest of the first operators that keep the loss; none if no number of them does.

    One operator more may spoil a file: smaller sets are tried where the largest does not do.
    """
    enough = (size for size in _sizes(order) if judged([order[:size]])[0].kept)
    low, high = 0, next(enough, 0)  # `low` are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        if judged([order[:middle]])[0].kept:
            high = middle
        else:
            low = middle
    return list(order[:high])


def _sizes(order: Sequence[Unit]) -> list[int]:
    """Return how many of the first operators are tried: all, and powers of two."""
    smaller = (1 << power for power in range(len(order).bit_length()))
    return sorted({len(order), *smaller}, reverse=True)


def _refusal(
    plan: Plan, order: Sequence[Unit], mode: str, judged: _Judged, max_drop: float
) -> ConversionError:
    """Say how near half of the operators come, and which loss fewer of them would keep.

    Without a score, `max_drop` is 0: there is none that could be accepted.
    """
    sizes = _sizes(order)
    runs = judged([order[:size] for size in sizes])
    loss, size = min((run.loss, size) for run, size in zip(runs, sizes, strict=True))
    other = f"choose {DYNAMIC.name}, or {FLOAT16.name} where that loses too much as well"
    other = _OTHER_MODES.get(plan.mode, other)
    other += ", or train the Keras model for it: edgekit qat." if plan.mode == INT8.name else "."
    found, hint = None, f"{other[0].upper()}{other[1:]}"
    if loss is not None and math.isfinite(loss):
        enough = float(f"{1.05 * loss * max_drop:.2g}")
        found = f"With {size} of them it is {loss:.1f} times as large."
        hint = f"Accept more, such as --max-drop {enough:g}; or {other}" if enough else hint
    return ConversionError(
        f"{plan.variant}: half of the operators in {mode} do not keep the accepted loss.",
        found=found,
        hint=hint,
    )


def _without_idle(chosen: Sequence[Unit], judged: _Judged) -> list[Unit]:
    """Drop the operators that the loss is kept without, the least costly first."""
    kept = list(chosen)
    without = [[unit for unit in chosen if unit is not one] for one in chosen]
    idle = [one for one, run in zip(chosen, judged(without), strict=True) if run.kept]
    for one in reversed(idle):
        fewer = [unit for unit in kept if unit is not one]
        if judged([fewer])[0].kept:
            kept = fewer
    return kept

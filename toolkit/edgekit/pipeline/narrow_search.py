"""Weights of four bits for as many operators as keep the accepted loss: the smallest int8 file.

Operators are ranked by the noise that four bits add for each byte they save, all else being as the
plan has it. By bisection the most of them are found that keep the accepted loss on the samples that
judge remedies too (`recovery.judging`); their weights are then rounded by what their layers
compute, where that does not take too long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from edgekit.evaluation.trial_runs import TrialRun
from edgekit.modes import INT4
from edgekit.pipeline.float_graphs import FloatGraphs
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.measure import MeasureSettings
from edgekit.pipeline.precision_search import open_trials
from edgekit.pipeline.recovery import MOST_ROUNDING, ROUNDING, judging
from edgekit.quantization import rounding_work
from edgekit.quantization.trials import Unit
from edgekit.records import Listener, Plan, silent

_STAGE: Final = "searching four-bit weights"


def narrowed(
    plan: Plan,
    graphs: FloatGraphs,
    imported: ImportedModel,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> tuple[Plan, str]:
    """Return the plan with rules for the operators whose weights may have four bits, and say so.

    Args:
        plan: An int8 plan.
        graphs: As of `precision_search.open_trials`.
        imported: Likewise.
        settings: Likewise.
        listener: Progress callback.

    Returns:
        The plan, and a sentence; the same plan and "" where four bits are too few for any of them.
    """
    dataset = imported.dataset
    assert dataset is not None
    samples, _ = judging(dataset)
    trials, runs = open_trials(plan, graphs, imported, settings, samples)
    whole = len(trials.with_modes((), plan.mode))
    saved = {unit: whole - len(trials.with_modes((unit,), INT4.name)) for unit in trials.units}
    able = [unit for unit, less in saved.items() if less > 0]

    def run(sets: Sequence[Sequence[Unit]], *, judged: bool) -> list[TrialRun]:
        contents = [partial(trials.with_modes, tuple(units), INT4.name) for units in sets]
        found = runs.run(contents, judged=judged, stage=_STAGE, listener=listener)
        return [one for one in found if one is not None]

    alone = dict(zip(able, run([[unit] for unit in able], judged=False), strict=True))
    order = sorted(able, key=lambda unit: _noise(alone[unit]) / saved[unit])
    chosen = order[: _most(len(order), lambda n: run([order[:n]], judged=True)[0].kept)]
    if not chosen:
        return plan, ""
    less = whole - len(trials.with_modes(chosen, INT4.name))
    found = replace(plan, rules=(*plan.rules, *trials.rules(chosen, INT4.name)))
    calibrate = dataset.calibrate
    assert calibrate is not None
    if 0 < rounding_work(trials.model, found, calibrate.n) <= MOST_ROUNDING:
        found = replace(found, passes=(*found.passes, ROUNDING))
    return found, (
        f"Weights of {len(chosen)} of {len(trials.units)} operators have four bits, {less:,} B "
        f"fewer; the accepted loss is kept on {runs.n} training samples."
    )


def _most(n: int, enough: Callable[[int], bool]) -> int:
    """Return the largest number up to `n` that is enough, by bisection; 0 where none is."""
    low, high = 0, n + 1
    tried = n
    while high - low > 1:
        if enough(tried):
            low = tried
        else:
            high = tried
        tried = (low + high) // 2
    return low


def _noise(run: TrialRun) -> float:
    """Return the energy of the difference over that of the signal."""
    return 0.0 if run.sqnr_db is None else float(10 ** (-run.sqnr_db / 10))

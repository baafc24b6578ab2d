"""Remedies for a variant that loses more than is accepted, one after the other, cheap ones first.

Ranges and channels were seen to when the file was made (`quantization.choose`). While it is lost
all the same, its biases are corrected, weights of four bits are rounded by what their layers
compute, and the fewest operators get a higher precision. Each is kept on top of those before if it
helped, and no more is tried once the file is no longer lost. Weights of four bits are rounded so in
any case where that takes less than a minute, if the outputs come nearer to float.

What decides is training samples that no range was taken from, where there are enough of them, and
else those of calibration; the test split judges the file in the end, and is not seen here. What was
found is an ordinary plan: the file is made again from that, without a search. How near the outputs
are to float excuses no loss: a regression may lose more than is accepted at 30 dB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from edgekit.choices import AUTO
from edgekit.data import beyond_calibration
from edgekit.errors import ConversionError, ModelError
from edgekit.evaluation.trial_runs import TrialRun, TrialRuns
from edgekit.modes import DYNAMIC, FLOAT32, INT4, INT8, INT16X8, MIXED, MODES
from edgekit.pipeline.float_graphs import Form
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.measure import MeasureSettings
from edgekit.pipeline.precision_search import (
    higher_mode,
    judge_of,
    least_set,
    ranked,
    sentence,
    with_found,
)
from edgekit.quantization import QuantizedModel, make, rounding_work
from edgekit.quantization.trials import Trials
from edgekit.records import Dataset, Listener, MixedPlan, Plan, Progress, Samples, silent
from edgekit.tflite.macs import macs
from edgekit.tflite.nodes import nodes

SECONDS: Final = 120
"""No remedy is begun after so many; what was found until then is kept."""
MARGIN_DB: Final = 0.5
"""What a remedy must gain where the file is lost with it as without."""
MOST_ROUNDING: Final = 6 * 10**11
"""Multiply-accumulates: what one core of a PC takes a minute for."""

MOST_TRIED: Final = 5 * 10**5
"""Operators tried one by one, times operators of the graph: a minute of making files."""

ROUNDING: Final = "round_weights"
BIASES: Final = "correct_biases"
ISLANDS: Final = "higher_precision"
"""Names of remedies in manifests; the first two are graph passes."""

# Samples that judge: of smaller networks more, so that a run takes seconds at most.
_MOST: Final = 500
_FEWEST: Final = 50
_MACS: Final = 3 * 10**10
_SLOW_MACS: Final = 2 * 10**9  # of modes whose kernels are the reference's
_FEWEST_TO_JUDGE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A remedy that was tried.

    Attributes:
        remedy: Its name.
        helped: Whether it was kept.
        run: What the file computed with it; None where it was not made.
        size_bytes: Of the file with it.
        note: Why it was not made, or what it did.
        hint: What can be done instead, where it was refused.
    """

    remedy: str
    helped: bool = False
    run: TrialRun | None = None
    size_bytes: int | None = None
    note: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was done about a variant.

    Attributes:
        n: Number of samples that judged.
        held_back: Whether no range was taken from them.
        metric: Name of the metric; None without targets.
        value: Score of the float file on them.
        before: What the file computed without remedies.
        after: With those that helped.
        steps: What was tried, in order.
        next_step: What can be done about a file that is lost all the same; "" where it is not.
    """

    n: int
    held_back: bool
    metric: str | None
    value: float | None
    before: TrialRun
    after: TrialRun
    steps: tuple[Step, ...]
    next_step: str = ""

    def described(self) -> dict[str, Any]:
        """Return it as a manifest keeps it."""
        return {
            "samples": self.n,
            "held_back": self.held_back,
            "metric": self.metric,
            "float_value": self.value,
            "before": _described(self.before),
            "after": _described(self.after),
            "steps": [
                {
                    "remedy": step.remedy,
                    "helped": step.helped,
                    **_described(step.run),
                    "size_bytes": step.size_bytes,
                    "note": step.note,
                }
                for step in self.steps
            ],
            "next_step": self.next_step,
        }


def recovered(
    plan: Plan,
    made: QuantizedModel,
    form: Form,
    imported: ImportedModel,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> tuple[QuantizedModel, Recovery | None]:
    """Return a variant with the remedies that it needs, and what was done; None where nothing was.

    Args:
        plan: The plan that the file was made by.
        made: The file.
        form: The form of the float graph that it was made of.
        imported: The float graph and its data.
        settings: How files are judged, and for which targets.
        listener: Progress callback.
    """
    dataset = imported.dataset
    if dataset is None or not _is_open(plan, form):
        return made, None
    assert form.calibration is not None
    work = rounding_work(form.graph.model, plan, form.calibration.samples.n)
    rounds = 0 < work <= MOST_ROUNDING and ROUNDING not in plan.passes
    near = made.choice is not None and made.choice.enough
    if near and not rounds and dataset.task is None:  # without a score that is all there is
        return made, None
    try:
        search = _Search(plan, made, form, dataset=dataset, settings=settings, listener=listener)
        search.start(rounds=rounds)
        search.run(too_long=work > MOST_ROUNDING)
    except (ConversionError, ModelError):  # a file cannot be run here, so that nothing is judged
        return made, None
    return search.made, search.told()


def _is_open(plan: Plan, form: Form) -> bool:
    """Whether a plan leaves ranges and precisions to edgekit, with samples to find them by."""
    chosen = plan.ranges == AUTO and MODES[plan.mode].chooses and not isinstance(plan, MixedPlan)
    return (
        chosen and form.calibration is not None and form.calibration.samples.n >= _FEWEST_TO_JUDGE
    )


class _Search:
    """Remedies for one file.

    Attributes:
        plan: The plan with those that helped.
        made: The file made by it.
    """

    def __init__(
        self,
        plan: Plan,
        made: QuantizedModel,
        form: Form,
        *,
        dataset: Dataset,
        settings: MeasureSettings,
        listener: Listener,
    ) -> None:
        self.plan, self.made = plan, made
        self._form, self._settings, self._listener = form, settings, listener
        self._deadline = time.monotonic() + SECONDS
        self._most = _most(form, plan)
        self._samples, self._held_back = judging(dataset, self._most)
        self._judge = judge_of(dataset, settings)
        self._runs = self._runs_beside(form.graph.data)
        self._steps: list[Step] = []
        self._before = self._best = TrialRun()

    def start(self, *, rounds: bool) -> None:
        """Judge the file, and beside it the one with rounded weights where that is to be tried."""
        rounded = self._made(ROUNDING, lambda: self._with_pass(ROUNDING)) if rounds else None
        files = [self.made] if rounded is None else [self.made, rounded[1]]
        self._before = self._best = (runs := self._judged(files))[0]
        if rounded is not None:
            self._weigh(ROUNDING, *rounded, runs[1])

    def run(self, *, too_long: bool) -> None:
        """Try one remedy after the other while the file is lost.

        Args:
            too_long: Whether the rounding of its weights is left out.
        """
        if self._best.lost and BIASES not in self.plan.passes:
            self._try(BIASES, lambda: self._with_pass(BIASES))
        if self._best.lost and too_long:
            self._skipped(ROUNDING, "it takes over a minute; name it in passes of a recipe")
        if self._best.lost:
            self._try_islands()

    def told(self) -> Recovery | None:
        """Return what was done; None where the file was not lost, and nothing helped."""
        if not self._before.lost and not any(step.helped for step in self._steps):
            return None
        return Recovery(
            n=self._runs.n,
            held_back=self._held_back,
            metric=self._runs.metric,
            value=self._runs.value,
            before=self._before,
            after=self._best,
            steps=tuple(self._steps),
            next_step=self._next_step() if self._best.lost else "",
        )

    def _next_step(self) -> str:
        """Return what the last remedy that was refused says, or what finds the operators."""
        hints = [step.hint for step in self._steps if step.hint]
        asked = f"edgekit sensitivity MODEL --data DATA --mode {self.plan.mode}"
        return hints[-1] if hints else f"{asked} shows which operators cost it."

    def _try_islands(self) -> None:
        """Try a higher precision for the fewest operators that need it."""
        said = ""

        def found(mode: str) -> Plan:
            nonlocal said
            form = self._form
            trials = Trials.of(self.plan, form.graph, form.observe, form.calibration)
            if len(trials.units) * len(nodes(trials.model)) > MOST_TRIED:
                few = f"trying {len(trials.units):,} operators one by one takes over a minute"
                raise ConversionError("Too many operators.", found=few, hint=self._unhurried())
            floating = trials.floating()
            # Fitted biases are compared with themselves, so that precisions alone count.
            beside = self._runs_beside(floating) if self.plan.passes else self._runs
            costs = ranked(trials, beside, listener=self._listener)
            least = least_set(trials, self._runs, costs, mode, listener=self._listener)
            samples = "training" if self._held_back else "calibration"
            said = sentence(least, costs, self._runs.n, samples)
            return with_found(self.plan, trials, least)

        for mode in _higher(self.plan, self._settings):
            self._try(ISLANDS, lambda mode=mode: found(mode), lambda: said)  # type: ignore[misc]
            if not self._best.lost:
                return

    def _with_pass(self, name: str) -> Plan:
        return replace(self.plan, passes=(*self.plan.passes, name))

    def _try(self, name: str, planned: Callable[[], Plan], note: Callable[[], str] = str) -> None:
        found = self._made(name, planned)
        if found is not None:
            self._weigh(name, *found, self._judged([found[1]])[0], note())

    def _made(self, name: str, planned: Callable[[], Plan]) -> tuple[Plan, QuantizedModel] | None:
        """Make the file with a remedy; None where it cannot be, or changes nothing."""
        if time.monotonic() > self._deadline:
            self._skipped(name, f"{SECONDS} seconds were spent on those before", self._unhurried())
            return None
        self._listener(Progress(stage=f"recovering {self.plan.variant}", detail=_WORDS[name]))
        try:
            plan = planned()
            made = make(
                plan,
                self._form.graph,
                observe=self._form.observe,
                calibration=self._form.calibration,
            )
        except ConversionError as error:
            self._skipped(name, error.found or error.what, error.hint or "")
            return None
        return None if made.data == self.made.data else (plan, made)

    def _weigh(
        self, name: str, plan: Plan, made: QuantizedModel, run: TrialRun, note: str = ""
    ) -> None:
        """Keep a file if it is better than the best so far."""
        helped = self._helps(run)
        self._steps.append(
            Step(remedy=name, helped=helped, run=run, size_bytes=len(made.data), note=note)
        )
        if helped:
            self.plan, self.made, self._best = plan, made, run

    def _helps(self, run: TrialRun) -> bool:
        """Whether a file is no longer lost, or nearer to float and no worse."""
        best = self._best
        if run.broken:
            return False
        if best.lost and not run.lost:
            return True
        if (run.loss or 0.0) > max(best.loss or 0.0, 1.0):
            return False
        return _decibels(run) >= _decibels(best) + MARGIN_DB

    def _skipped(self, name: str, why: str, hint: str = "") -> None:
        self._steps.append(Step(remedy=name, note=why, hint=hint))

    def _unhurried(self) -> str:
        """Return what searches for operators without a limit of time."""
        if self.plan.mode == INT8.name:
            return f"--mode {MIXED} takes the time that it needs to find the operators."
        return (
            f"edgekit sensitivity MODEL --data DATA --mode {self.plan.mode} -o recipe.toml takes "
            "the time that it needs to find the operators."
        )

    def _judged(self, files: Sequence[QuantizedModel]) -> list[TrialRun]:
        contents = [partial(getattr, made, "data") for made in files]
        found = self._runs.run(contents, judged=True, stage="judging", listener=self._listener)
        return [run for run in found if run is not None]

    def _runs_beside(self, floating: bytes) -> TrialRuns:
        return TrialRuns(floating, self._samples, self._judge, most=self._most)


_WORDS: Final[Mapping[str, str]] = {
    ROUNDING: "rounding weights",
    BIASES: "correcting biases",
    ISLANDS: "higher precision for few operators",
}


def _most(form: Form, plan: Plan) -> int:
    """Return how many samples can be afforded to judge."""
    each = max(1, sum(macs(node) or 0 for node in nodes(form.graph.model)))
    budget = _SLOW_MACS if plan.mode == INT16X8.name else _MACS
    return max(_FEWEST, min(_MOST, budget // each))


def judging(dataset: Dataset, most: int = _MOST) -> tuple[Samples, bool]:
    """Return the samples that judge, and whether no range was taken from them.

    Args:
        dataset: With calibration samples; bound to the model.
        most: Most samples, where there are enough that calibration did not draw.
    """
    train, calibrate = dataset.train, dataset.calibrate
    assert calibrate is not None
    others = beyond_calibration(dataset)
    if train is None or len(others) < _FEWEST:
        return calibrate, False
    count = min(most, len(others))
    return train.at(others[np.arange(count) * len(others) // count]), True


def _higher(plan: Plan, settings: MeasureSettings) -> tuple[str, ...]:
    """Return the precisions that operators are kept in, the nearest first."""
    if plan.mode == INT4.name:
        return DYNAMIC.name, FLOAT32.name
    return (higher_mode(settings.targets) if plan.mode == INT8.name else FLOAT32.name,)


def _decibels(run: TrialRun) -> float:
    return math.inf if run.sqnr_db is None else run.sqnr_db


def _described(run: TrialRun | None) -> dict[str, Any]:
    if run is None:
        return {"sqnr_db": None, "value": None, "lost": None}
    db = None if run.sqnr_db is None else round(run.sqnr_db, 2)
    return {"sqnr_db": db, "value": run.value, "lost": run.lost}

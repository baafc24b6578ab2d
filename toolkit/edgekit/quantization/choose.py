"""Choose the form of the float graph and the ranges of its activations by what comes out.

Every candidate is written as a file and run on calibration samples that no range was taken from.
What counts is the noise of its outputs against those of the float graph. The extremes of all
samples are taken unless another choice is better by `MARGIN_DB`, because they clip nothing; and a
file that is as near to float as `ENOUGH_DB` is not improved further, because fewer samples than
anybody has would tell the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.choices import MINMAX
from edgekit.errors import ConversionError, ModelError
from edgekit.evaluation.fidelity import compare
from edgekit.modes import MODES
from edgekit.quantization.calibration import FEWEST_TO_CLIP, Calibration, widening
from edgekit.quantization.figures import extended, figure_layers
from edgekit.quantization.forms import Form, equalized, folded, form_again
from edgekit.quantization.judgement import ENOUGH_DB, MARGIN_DB, Trial
from edgekit.quantization.output_noise import distances, limits_of, pooled
from edgekit.records import Plan, Progress, Ranges
from edgekit.tflite.graph import write
from edgekit.tflite.macs import macs
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.recorded_choice import EqualizedBy, Recorded

EQUALIZE_GAIN_DB: Final = 1.0
"""What equalized channels must gain."""

ENOUGH_OF_FIGURES_DB: Final = 40.0
"""Noise of 1 % of the spread adds 0.5 % to an RMSE of a tenth of it, which is what may be lost."""
FLOAT_GAIN_DB: Final = 3.0
"""What a layer in float must gain: half of the noise."""
_FLOAT_LARGER: Final = 1.05
# By which shares of their widths ranges reach further, where the samples have long tails.
_MARGINS: Final = (0.5, 1.0)

SETTLED_MEDIAN: Final = 0.05
SETTLED: Final = 0.3
"""Ranges are settled that half as many or more samples widen by less: the median, and the most."""

# In order: of equally good ones the first counts.
_METHODS: Final = ("mse", "entropy", "percentile")
# A model is large whose trial runs of a candidate take more multiply-accumulates, or whose weights
# take more bytes: fewer samples judge fewer candidates.
_MANY_MACS: Final = 10**10
_MANY_BYTES: Final = 32 << 20
_FEWEST_LARGE: Final = 16
# Likewise of a mode without fast kernels, beyond which fewer samples judge.
_MANY_SLOW_MACS: Final = 2 * 10**8
_FEWEST_SLOW: Final = 16

Write = Callable[["ModelT", "Ranges | None", Collection[str]], "ModelT"]
"""Returns a graph in the precision of the plan, with ranges, and with some operators in float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        model: The float graph, with the passes applied.
        ranges: Ranges of its activations; None where they remain float.
        passes: Names of the passes.
        equalized_by: As of `Form`.
        held: Number of samples that judged.
        reason: Why, in a sentence.
        trials: What was tried, in order.
        widened: By how much the samples held back widened the ranges of the others: the median
            and the most, in shares of their widths.
        floats: Names of the tensors whose operators are float if the file's output may be.
        margin: By which share of their widths the ranges reach further than was seen.
    """

    model: ModelT
    ranges: Ranges | None
    passes: tuple[str, ...] = ()
    equalized_by: EqualizedBy | None = None
    floats: frozenset[str] = frozenset()
    margin: float = 0.0
    held: int = 0
    reason: str = ""
    trials: tuple[Trial, ...] = ()
    widened: tuple[float, float] = (0.0, 0.0)

    @property
    def enough(self) -> bool:
        """Whether what was chosen was tried, and is near enough to float."""
        method = self.ranges.method if self.ranges else None
        chosen = (self.passes, method, self.floats, self.margin)
        return any(
            trial.enough
            for trial in self.trials
            if (trial.passes, trial.ranges, trial.floats, trial.margin) == chosen
        )

    @property
    def unsettled(self) -> bool:
        """Whether more calibration samples would still move the ranges."""
        return self.widened[0] > SETTLED_MEDIAN or self.widened[1] > SETTLED

    def described(self) -> dict[str, Any]:
        """Return it as a manifest keeps it."""
        return {
            "method": self.ranges.method if self.ranges else None,
            "passes": list(self.passes),
            "equalized_by": self.equalized_by,
            "reason": self.reason,
            "held_back": self.held,
            "widened": [round(share, 3) for share in self.widened],
            "float_figures": bool(self.floats),
            "margin": self.margin,
            "trials": [
                {
                    "method": trial.ranges,
                    "passes": list(trial.passes),
                    "sqnr_db": {name: round(db, 2) for name, db in trial.sqnr_db.items()},
                    "agreement": trial.agreement,
                    "size_bytes": trial.size,
                    "float_figures": bool(trial.floats),
                    "margin": trial.margin,
                }
                for trial in self.trials
            ],
        }


def choose(plan: Plan, model: ModelT, calibration: Calibration, write: Write) -> Choice:
    """Choose passes and ranges for a plan.

    Args:
        plan: The plan.
        model: The float graph, after the passes of the plan that keep its outputs.
        calibration: The samples.
        write: Writes a candidate.
    """
    search = _Search(plan, model, calibration, write)
    if calibration.recorded is not None and calibration.recorded.fits(plan):
        return search.again(calibration.recorded)
    return search.run()


class _Search:
    """Candidates for one plan, tried one after the other."""

    def __init__(self, plan: Plan, model: ModelT, calibration: Calibration, write: Write) -> None:
        self.plan, self.model, self.calibration, self.write = plan, model, calibration, write
        self.calibrated = MODES[plan.mode].calibrated
        self.folded = folded(model, plan)
        self.macs = sum(macs(node) or 0 for node in nodes(model))
        held = calibration.held.n if calibration.held else 0
        self.large = self.macs * held > _MANY_MACS or _bytes(model) > _MANY_BYTES
        self.held = self._judges(held)
        self.trials: list[Trial] = []

    def run(self) -> Choice:
        """Try candidates until one is good enough, or none is left."""
        form = Form(self.model)
        if not self.held or (self.large and not self.calibrated and not self.folded.passes):
            return self._chosen(form, MINMAX, self._why_not_judged())
        if self.calibrated:
            self.calibration.observe_parts(self.model)
        best = self._trial(form, MINMAX)
        if best is None:
            return self._chosen(form, MINMAX, "Nothing was compared: the file cannot be tried.")
        form, best = self._best_form(form, best)
        method, best = self._best_method(form, best)
        form, best = self._best_of_figures(form, method, best)
        self.calibration.forget_all_but(self.model, form.model)
        return self._chosen(form, method, self._why(best))

    def again(self, recorded: Recorded) -> Choice:
        """Return a choice that was made before."""
        form = form_again(recorded, self.model, self.plan, self.calibration)
        if recorded.float_figures:
            names = figure_layers(form.model, self.calibration.class_scores)
            form = replace(form, floats=names)
        return self._chosen(form, recorded.method or MINMAX, "As it was recorded.")

    def _best_form(self, form: Form, best: Trial) -> tuple[Form, Trial]:
        if self.folded.passes:
            trial = self._trial(self.folded, MINMAX)
            if trial is not None and trial.better(best, -MARGIN_DB, self.held):
                form, best = self.folded, trial
        if best.enough:
            return form, best
        # A normalization that was left behind hides groups; folding it is exact in any case.
        ways: tuple[EqualizedBy, ...] = ("activations", "weights")
        for way in ways[: 1 if self.large else None]:
            candidate = equalized(self.folded, self.plan, self.calibration, way)
            trial = None if candidate is None else self._trial(candidate, MINMAX)
            if candidate and trial and trial.better(best, EQUALIZE_GAIN_DB, self.held):
                return candidate, trial
        return form, best

    def _best_method(self, form: Form, best: Trial) -> tuple[str, Trial]:
        chosen, first = MINMAX, best
        if not self.calibrated or best.enough or self._bits() > 8:
            return chosen, best
        if self.calibration.samples.n < FEWEST_TO_CLIP:
            return chosen, best
        for method in _METHODS[: 1 if self.large else None]:
            trial = self._trial(form, method)
            if trial is None or not trial.better(first, MARGIN_DB, self.held):
                continue
            if chosen == MINMAX or trial.better(best, 0.0, self.held):
                chosen, best = method, trial
        return chosen, best

    def _best_of_figures(self, form: Form, method: str, best: Trial) -> tuple[Form, Trial]:
        """Try the layers of figures without bounds in float, and ranges that reach further."""
        if not self.calibrated or self._bits() > 8 or self.large:
            return form, best
        names = figure_layers(form.model, self.calibration.class_scores)
        if not names:
            return form, best
        # Only one of both halves has the largest value: each judges the ranges of the other.
        ratio = self._both_ways(form, method, best)
        if ratio is None or ratio >= ENOUGH_OF_FIGURES_DB:
            return form, best
        parts = [self.calibration.observe_part(form.model, turn) for turn in (0, 1)]
        whole = self.calibration.observe(form.model)
        unsettled = max(widening(part, whole)[1] for part in parts) > SETTLED
        # Where half of the samples move an end far, others will go beyond all of them.
        needed = 0.0 if unsettled else FLOAT_GAIN_DB
        extends = method == MINMAX and unsettled and self.calibration.samples.n >= FEWEST_TO_CLIP
        steps = [(form.floats, margin, MARGIN_DB) for margin in _MARGINS] if extends else []
        for floats, margin, gain in (*steps, (names, None, needed)):
            candidate = replace(
                form, floats=floats, margin=form.margin if margin is None else margin
            )
            trial = self._trial(candidate, method)
            found = None if trial is None else self._both_ways(candidate, method, trial)
            if trial is None or found is None or trial.size > _FLOAT_LARGER * best.size:
                continue
            if found >= ratio + gain:
                form, best, ratio = candidate, trial, found
        return form, best

    def _both_ways(self, form: Form, method: str, trial: Trial) -> float | None:
        """Return the ratio of a candidate on both halves, each with the ranges of the other."""
        other = self._judged(form, method, turn=1)
        return None if other is None else pooled(trial.sqnr_db, other.sqnr_db)

    def _trial(self, form: Form, method: str) -> Trial | None:
        """Judge a candidate, and keep what was found."""
        trial = self._judged(form, method)
        self.trials += [] if trial is None else [trial]
        return trial

    def _judged(self, form: Form, method: str, turn: int = 0) -> Trial | None:
        """Write a candidate and compare its outputs; None where it cannot be run, or is known.

        Args:
            form: The form of the graph.
            method: How ranges are chosen.
            turn: 0 for the ranges of the first samples and the others as judges, 1 for the reverse.
        """
        self.calibration.listener(Progress(stage="choosing ranges", done=len(self.trials)))
        try:
            ranges = None
            if self.calibrated:
                seen = self.calibration.observe_part(form.model, turn, histograms=method != MINMAX)
                ranges = extended(seen.ranges(method, self.plan.percentile), form.margin)
                if method != MINMAX and _same(ranges, seen.ranges()):
                    return None
            made = self.write(form.model, ranges, form.floats)
            data = write(made)
            found = self.calibration.outputs(data, self.held, turn)
        except (ConversionError, ModelError):
            return None
        reference = self.calibration.reference(
            self.model, self.held, turn, observed=self.calibrated
        )
        ratios = distances(reference, found)
        if not ratios:
            return None
        alike = [
            one.agreement
            for one in compare(reference, found, class_scores=self.calibration.class_scores)[0]
            if one.agreement is not None
        ]
        return Trial(
            passes=form.passes,
            ranges=method if self.calibrated else None,
            sqnr_db=ratios,
            agreement=min(alike, default=None),
            size=len(data),
            limits=limits_of(reference, made),
            floats=form.floats,
            margin=form.margin,
        )

    def _chosen(self, form: Form, method: str, reason: str) -> Choice:
        ranges, widened = None, (0.0, 0.0)
        if self.calibrated:
            found = self.calibration.ranges(form.model, method, self.plan.percentile)
            ranges = extended(found, form.margin)
            if method == MINMAX:
                widened = self._widening(form)
        return Choice(
            model=form.model,
            ranges=ranges,
            passes=form.passes,
            equalized_by=form.equalized_by,
            floats=form.floats,
            margin=form.margin,
            held=self.held,
            reason=reason,
            trials=tuple(self.trials),
            widened=widened,
        )

    def _widening(self, form: Form) -> tuple[float, float]:
        part = self.calibration.observe_part(form.model)
        return widening(part, self.calibration.observe(form.model))

    def _why(self, best: Trial) -> str:
        first = self.trials[0]
        if best.margin or best.floats:
            return "Figures without bounds, with long tails or few codes."
        if best is first:
            if best.enough and min(best.sqnr_db.values()) < ENOUGH_DB:
                return (
                    f"Its outputs are as near to float as their codes can be: {best.score:z.1f} dB."
                )
            if best.enough:
                return f"Noise is {best.score:z.1f} dB below the outputs: nothing else was tried."
            return f"Nothing that was tried is better than {best.score:z.1f} dB."
        if best.score < first.score + MARGIN_DB:
            return f"Fewer operators, at {best.score:z.1f} dB instead of {first.score:z.1f} dB."
        return f"{best.score:z.1f} dB instead of {first.score:z.1f} dB."

    def _why_not_judged(self) -> str:
        if self.calibration.held is None:
            return f"Nothing was compared: {self.calibration.samples.n} samples are too few."
        return "Nothing was compared: the model is large."

    def _judges(self, n: int) -> int:
        """Return how many of `n` samples held back can be afforded."""
        if self._bits() > 8:
            few = min(n, _MANY_SLOW_MACS // max(1, self.macs))
            return few if few >= min(n, _FEWEST_SLOW) else 0
        if self.large:
            return min(n, max(_FEWEST_LARGE, _MANY_MACS // max(1, self.macs)))
        return n

    def _bits(self) -> int:
        return 8 * np.dtype(MODES[self.plan.mode].activations).itemsize if self.calibrated else 0


def _bytes(model: ModelT) -> int:
    return sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)


def _same(one: Ranges, other: Ranges) -> bool:
    """Whether ranges differ by less than half a percent of their widths."""
    return all(
        abs((high - one.low[name]) - (other.high[name] - other.low[name]))
        <= 0.005 * max(other.high[name] - other.low[name], 1e-12)
        for name, high in one.high.items()
    )

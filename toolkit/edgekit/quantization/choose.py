"""Choose the form of the float graph and the ranges of its activations by what comes out.

Every candidate is written as a file and run on calibration samples that no range was taken from.
What counts is the noise of its outputs against those of the float graph. The extremes of all
samples are taken unless another choice is better by `MARGIN_DB`, because they clip nothing; and a
file that is as near to float as `ENOUGH_DB` is not improved further, because fewer samples than
anybody has would tell the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.choices import MINMAX
from edgekit.errors import ConversionError, ModelError
from edgekit.evaluation.fidelity import ENOUGH_AGREEMENT, WORST_SQNR_DB, compare, sqnr_db
from edgekit.modes import MODES
from edgekit.quantization.calibration import FEWEST_TO_CLIP, Calibration, widening
from edgekit.quantization.forms import Form, equalized, folded, form_again
from edgekit.quantization.observe import Observed
from edgekit.records import Array, Plan, Progress, Ranges
from edgekit.tflite.graph import write
from edgekit.tflite.macs import macs
from edgekit.tflite.nodes import nodes
from edgekit.tflite.signature import signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.recorded_choice import EqualizedBy, Recorded

ENOUGH_DB: Final = 30.0
"""Outputs whose noise is below 3 % of their spread, root mean square, are left as they are."""
MARGIN_DB: Final = 0.5
"""What other ranges, or a graph with fewer operators, may gain or lose by chance."""
EQUALIZE_GAIN_DB: Final = 1.0
"""What equalized channels must gain."""
MOST_LOST_DB: Final = 1.0
"""What a choice may cost any single output that is not `ENOUGH_DB` all the same."""
MOST_LARGER: Final = 1.01
"""What a choice may cost in bytes."""

SETTLED_MEDIAN: Final = 0.05
SETTLED: Final = 0.3
"""Ranges are settled that half as many or more samples widen by less: the median, and the most."""

_CODES: Final = ("int8", "uint8", "int16")

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

Write = Callable[["ModelT", "Ranges | None"], "ModelT"]
"""Returns a graph in the precision of the plan, with ranges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate, judged.

    Attributes:
        passes: Names of the passes that were applied to the float graph.
        ranges: How ranges were taken; None where activations remain float.
        sqnr_db: Output name -> ratio of the variance of the float output to the noise, in dB.
        agreement: Least share of samples with the float graph's top-1 class, where outputs are
            scores of classes.
        size: Bytes.
        limits: Output name -> the ratio that its own codes allow, where it has codes: a score of
            1/1000 is no code of an output from 0 to 1, whatever is done before it.
    """

    passes: tuple[str, ...]
    ranges: str | None
    sqnr_db: Mapping[str, float]
    agreement: float | None
    size: int
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Return the mean of the outputs' ratios, each as far as it counts."""
        return float(np.mean([min(db, 2 * ENOUGH_DB) for db in self.sqnr_db.values()]))

    @property
    def enough(self) -> bool:
        """Whether every output is near enough to float."""
        if self.sqnr_db.keys() == self.limits.keys() and all(
            db >= self.limits[name] - MARGIN_DB for name, db in self.sqnr_db.items()
        ):
            return True
        alike = self.agreement is None or self.agreement >= ENOUGH_AGREEMENT
        return alike and min(self.sqnr_db.values()) >= ENOUGH_DB

    def better(self, other: Trial, margin: float, held: int) -> bool:
        """Whether it is better by a margin in dB, and worse in nothing that counts.

        Args:
            other: What it is compared with.
            margin: Least difference of the scores.
            held: Number of samples; two of them may get another class.
        """
        if self.score < other.score + margin or self.size > MOST_LARGER * other.size:
            return False
        if self.agreement is not None and other.agreement is not None:
            allowed = 2 / held
            if self.agreement < other.agreement - allowed:
                return False
        return all(
            db >= min(other.sqnr_db[name] - MOST_LOST_DB, ENOUGH_DB)
            for name, db in self.sqnr_db.items()
        )


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
    """

    model: ModelT
    ranges: Ranges | None
    passes: tuple[str, ...] = ()
    equalized_by: EqualizedBy | None = None
    held: int = 0
    reason: str = ""
    trials: tuple[Trial, ...] = ()
    widened: tuple[float, float] = (0.0, 0.0)

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
            "trials": [
                {
                    "method": trial.ranges,
                    "passes": list(trial.passes),
                    "sqnr_db": {name: round(db, 2) for name, db in trial.sqnr_db.items()},
                    "agreement": trial.agreement,
                    "size_bytes": trial.size,
                }
                for trial in self.trials
            ],
        }


def choose(
    plan: Plan, model: ModelT, calibration: Calibration, write: Write, exact: ModelT | None = None
) -> Choice:
    """Choose passes and ranges for a plan.

    Args:
        plan: The plan.
        model: The float graph, after the passes that the plan names.
        calibration: The samples.
        write: Writes a candidate.
        exact: The graph that candidates are compared with; None for `model`.
    """
    search = _Search(plan, model, calibration, write)
    if calibration.recorded is not None and calibration.recorded.fits(plan):
        return search.again(calibration.recorded)
    return search.run(exact or model)


class _Search:
    """Candidates for one plan, tried one after the other."""

    def __init__(self, plan: Plan, model: ModelT, calibration: Calibration, write: Write) -> None:
        self.plan, self.model, self.calibration, self.write = plan, model, calibration, write
        self.exact = model
        self.calibrated = MODES[plan.mode].calibrated
        self.folded = folded(model, plan)
        self.macs = sum(macs(node) or 0 for node in nodes(model))
        held = calibration.held.n if calibration.held else 0
        self.large = self.macs * held > _MANY_MACS or _bytes(model) > _MANY_BYTES
        self.held = self._judges(held)
        self.trials: list[Trial] = []

    def run(self, exact: ModelT) -> Choice:
        """Try candidates against a graph until one is good enough, or none is left."""
        self.exact = exact
        form = Form(self.model)
        if not self.held or (self.large and not self.calibrated and not self.folded.passes):
            return self._chosen(form, MINMAX, self._why_not_judged())
        best = self._trial(form, MINMAX)
        if best is None:
            return self._chosen(form, MINMAX, "Nothing was compared: the file cannot be tried.")
        form, best = self._best_form(form, best)
        method, best = self._best_method(form, best)
        self.calibration.forget_all_but(self.exact, self.model, form.model)
        return self._chosen(form, method, self._why(best))

    def again(self, recorded: Recorded) -> Choice:
        """Return a choice that was made before."""
        form = form_again(recorded, self.model, self.plan, self.calibration)
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

    def _trial(self, form: Form, method: str) -> Trial | None:
        """Write a candidate and compare its outputs; None where it cannot be run, or is known."""
        self.calibration.listener(Progress(stage="choosing ranges", done=len(self.trials)))
        try:
            ranges = None
            if self.calibrated:
                ranges = self._observed(form.model, method).ranges(method, self.plan.percentile)
                plain = self.calibration.observe_fit(form.model).ranges()
                if method != MINMAX and _same(ranges, plain):
                    return None
            made = self.write(form.model, ranges)
            data = write(made)
            found = self.calibration.outputs(data, self.held)
        except (ConversionError, ModelError):
            return None
        reference = self.calibration.reference(self.exact, self.held)
        distances = _distances(reference, found)
        if not distances:
            return None
        alike = [
            one.agreement
            for one in compare(reference, found, class_scores=self.calibration.class_scores)[0]
            if one.agreement is not None
        ]
        trial = Trial(
            passes=form.passes,
            ranges=method if self.calibrated else None,
            sqnr_db=distances,
            agreement=min(alike, default=None),
            size=len(data),
            limits=_limits(reference, made),
        )
        self.trials.append(trial)
        return trial

    def _observed(self, model: ModelT, method: str) -> Observed:
        return self.calibration.observe_fit(model, histograms=method != MINMAX)

    def _chosen(self, form: Form, method: str, reason: str) -> Choice:
        ranges, widened = None, (0.0, 0.0)
        if self.calibrated:
            everything = self.calibration.observe(form.model)
            if method != MINMAX:
                # Ends that are never clipped are those of all samples.
                known = self._observed(form.model, method)
                everything = replace(everything, histograms=known.histograms)
            else:
                widened = self._widening(form)
            ranges = everything.ranges(method, self.plan.percentile)
        return Choice(
            model=form.model,
            ranges=ranges,
            passes=form.passes,
            equalized_by=form.equalized_by,
            held=self.held,
            reason=reason,
            trials=tuple(self.trials),
            widened=widened,
        )

    def _widening(self, form: Form) -> tuple[float, float]:
        fit, everything = (
            seen(form.model) for seen in (self.calibration.observe_fit, self.calibration.observe)
        )
        return widening(fit, everything)

    def _why(self, best: Trial) -> str:
        first = self.trials[0]
        if best is first:
            if best.enough and min(best.sqnr_db.values()) < ENOUGH_DB:
                return (
                    f"Its outputs are as near to float as their codes can be: {best.score:.1f} dB."
                )
            if best.enough:
                return f"Noise is {best.score:.1f} dB below the outputs: nothing else was tried."
            return f"Nothing that was tried is better than {best.score:.1f} dB."
        if best.score < first.score + MARGIN_DB:
            return f"Fewer operators, at {best.score:.1f} dB instead of {first.score:.1f} dB."
        return f"{best.score:.1f} dB instead of {first.score:.1f} dB."

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


def _distances(reference: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, float]:
    """Return the ratio of spread to noise of every float output, in dB."""
    distances = {}
    for (name, expected), values in zip(reference.items(), found.values(), strict=True):
        if expected.dtype.kind != "f" or expected.shape != values.shape:
            continue
        exact = expected.astype(np.float64)
        signal = float(np.sum(np.square(exact - exact.mean(axis=0))))
        noise = float(np.sum(np.square(np.nan_to_num(values - exact))))
        ratio = sqnr_db(signal, noise)
        distances[name] = 2 * ENOUGH_DB if ratio is None else max(ratio, WORST_SQNR_DB)
    return distances


def _limits(reference: Mapping[str, Array], made: ModelT) -> dict[str, float]:
    """Return the ratios that the codes of outputs allow, in dB."""
    limits: dict[str, float] = {}
    for (name, expected), spec in zip(reference.items(), signature(made)[1], strict=True):
        if spec.scale and spec.dtype in _CODES and expected.dtype.kind == "f":
            ends = np.iinfo(spec.dtype)
            zero = spec.zero_point or 0
            codes = np.clip(np.rint(expected / spec.scale) + zero, ends.min, ends.max)
            nearest = {name: ((codes - zero) * spec.scale).astype(np.float32)}
            limits |= _distances({name: expected}, nearest)
    return limits


def _bytes(model: ModelT) -> int:
    return sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)


def _same(one: Ranges, other: Ranges) -> bool:
    """Whether ranges differ by less than half a percent of their widths."""
    return all(
        abs((high - one.low[name]) - (other.high[name] - other.low[name]))
        <= 0.005 * max(other.high[name] - other.low[name], 1e-12)
        for name, high in one.high.items()
    )

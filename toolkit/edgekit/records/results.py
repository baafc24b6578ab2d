"""What is measured of a file: score, loss, fidelity, latency; rows, and the report they make."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from edgekit.records.artifacts import Artifact, Inspection
from edgekit.records.layer_differences import LayerDifferences
from edgekit.records.views import Example, Views

Verdict = Literal["kept", "unproven", "lost"]

CollapseKind = Literal["constant", "saturated", "few levels", "class"]
"""How an output or a class was lost.

`constant`: a column of an output no longer depends on the input. `saturated`: most of its values
lie at one end of its range. `few levels`: it takes a handful of distinct values where the float
graph takes many. `class`: the recall of a class fell to next to nothing.
"""

SOURCE: Final = "source"
"""The variant of the row that scores the source itself."""


def verdict_on(ci95: tuple[float, float], allowed: float) -> Verdict:
    """Judge a loss by its 95 % interval: wholly within what is allowed, beyond it, or neither."""
    low, high = ci95
    if within(high, allowed):
        return "kept"
    # Ends that are not known, NaN, prove nothing.
    return "lost" if low > allowed and not within(low, allowed) else "unproven"


def within(loss: float, allowed: float) -> bool:
    """Whether a loss is accepted: 82.6 % less 82.1 % is 0.5 points, however floats round it."""
    return loss <= allowed or math.isclose(loss, allowed, rel_tol=1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class: `label`, number of samples or boxes, recall and precision in [0, 1].

    `iou` is the intersection over union of its pixels, None of other tasks than segmentation.
    `area` is the average precision over the overlaps of a detector's metric, None of other tasks
    and of classes without boxes.
    """

    label: str
    n: int
    recall: float
    precision: float
    iou: float | None = None
    area: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScore:
    """One column of a regression's output, scored by itself."""

    label: str
    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrop:
    """The loss of one column against the float model; the fields are those of `Drop`."""

    label: str
    value: float
    ci95: tuple[float, float]
    verdict: Verdict
    allowed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The loss against the float model on the same samples; positive is worse.

    Attributes:
        value: In the metric's own unit (0.005 for half a point of accuracy).
        ci95: Paired 95 % interval of `value`.
        verdict: `kept`: the whole interval is within the budget; `lost`: the whole interval is
            beyond it; `unproven`: the budget lies inside the interval, more samples would tell.
        allowed: The budget, in the metric's own unit; None in reports older than this field.
        per_column: The loss of each column, for a regression with several; `verdict` is then the
            worst of all.
        per_output: The loss of each other output that has targets; likewise.
    """

    value: float
    ci95: tuple[float, float]
    verdict: Verdict
    allowed: float | None = None
    per_column: tuple[ColumnDrop, ...] = ()
    per_output: tuple[OutputDrop, ...] = ()

    @property
    def within_budget(self) -> bool:
        """Whether the measured loss is accepted, that of each column and other output as well."""
        return (
            self.allowed is not None
            and within(self.value, self.allowed)
            and all(within(column.value, column.allowed) for column in self.per_column)
            and all(one.drop.within_budget for one in self.per_output)
        )

    @property
    def verdict_alone(self) -> Verdict:
        """The verdict on this loss without those of columns and other outputs."""
        return verdict_on(self.ci95, self.allowed or 0.0)

    def deciding(self) -> tuple[str, Drop]:
        """Return what the verdict rests on, and where: this drop, or that of its worst column.

        Returns:
            "" and this drop, or such as "column 2: " and the drop of that column.
        """
        if not self.per_column or self.verdict_alone == self.verdict:
            return "", self
        column = max(
            (one for one in self.per_column if one.verdict == self.verdict),
            key=lambda one: one.value / (one.allowed or 1e-300),
            default=None,
        )
        if column is None:
            return "", self
        return f"column {column.label}: ", Drop(
            value=column.value, ci95=column.ci95, verdict=column.verdict, allowed=column.allowed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDrop:
    """The loss of an output beside the scored one."""

    output: str
    drop: Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputScore:
    """The score of an output beside the scored one, by a task of its own."""

    output: str
    task: str
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A model's score on the test split.

    Attributes:
        metric: A name of `evaluation.metrics`.
        value: The score.
        n: Number of samples.
        ci95: 95 % interval of `value`; NaN where none was measured.
        extras: Further figures by name: the other metrics of the task, and those asked for.
        per_class: One row a class, for classifiers.
        guess: The value of a prediction that ignores the input; None where that is not defined.
        per_column: One entry a column, for a regression with several.
        confusion: Counts of samples, `[true class][predicted class]`, for classifiers.
        shown: Which of `extras` were asked for, in that order.
        per_output: The scores of other outputs that have targets.
        views: What is drawn of it.
    """

    metric: str
    value: float
    n: int
    ci95: tuple[float, float]
    extras: Mapping[str, float] = field(default_factory=dict)
    per_class: tuple[ClassScore, ...] = ()
    guess: float | None = None
    per_column: tuple[ColumnScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    shown: tuple[str, ...] = ()
    per_output: tuple[OutputScore, ...] = ()
    views: Views = field(default_factory=Views)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near one output of a file is to the float graph's, on the same real inputs; no labels.

    Attributes:
        output: Name of the output.
        n: Number of samples.
        sqnr_db: Signal-to-quantization-noise ratio, 10 log10(sum of squares of the float output /
            sum of squares of the difference), in dB, at least -100; None where there is no
            difference.
        agreement: Share of samples with the same top-1 index, for outputs `[n, k]` of scores.
        correlation: Pearson correlation with the float output, for the others: of the worst
            column, or of all values where columns have one unit.
        levels: Least number of distinct values that a column takes, of those that vary in the
            float output.
        cut_off: Number of values at an end of what the output takes in the file, where float goes
            further; None for scores of classes, and in reports older than this field.
    """

    output: str
    n: int
    sqnr_db: float | None
    agreement: float | None = None
    correlation: float | None = None
    levels: int | None = None
    cut_off: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """An output, a column or a class that a file no longer tells; such a file is not recommended.

    Attributes:
        kind: What happened.
        where: What it happened to, in words ("class 'fault'", "output 'boxes', column 4").
        detail: What was measured, in words ("recall 97 % became 0 %").
    """

    kind: CollapseKind
    where: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Latencies of single invocations, raw, as the runner measured them.

    Attributes:
        values_ns: One entry an invocation, after warm-up.
        warmup_ns: The invocations before, not counted.
        threads: Interpreter threads.
        device: Where it ran, in words ("local: Intel Xeon, 2 cores").
        runtime: Name and version of the runtime.
        delegate: Delegate in use, or None.
        peak_rss_bytes: Peak resident memory of the measuring process.
        memory_bytes: What the model takes of it: weights, as loaded, and arena; None where the
            system does not tell.
        cold_start_ns: import, load, allocate, first_invoke.
        conditions: Governor, temperature, throttling as far as the device tells.
        stable: Whether the measurement settled; if not, `warning` says why.
        warning: A sentence, or None.
        details: What else was asked of the runner, in its own words: kernels, end_to_end,
            sustained, sweep.
        rounds: In how many rounds of equal length, by turns with other files; 1 is alone.
    """

    values_ns: tuple[int, ...]
    warmup_ns: tuple[int, ...]
    threads: int
    device: str
    runtime: str
    delegate: str | None
    peak_rss_bytes: int
    memory_bytes: int | None = None
    cold_start_ns: Mapping[str, int] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    stable: bool = True
    warning: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1

    def percentile_ms(self, share: float) -> float:
        """Latency below which `share` percent of the invocations lie, in milliseconds."""
        import numpy as np

        return float(np.percentile(self.values_ns, share)) / 1e6

    @property
    def p50_ms(self) -> float:
        """Median latency in milliseconds."""
        return self.percentile_ms(50)

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return statistics.fmean(self.values_ns) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a report: a file, what is in it, how well and how fast it does.

    The source, where it was scored, has the first row: variant `source`, no mode, no latency.

    Attributes:
        model: Name of the source model.
        artifact: The file; the user's own where the row is the source's.
        inspection: What is inside, or None.
        score: Score on the test split, or None.
        drop: Loss against the float model, or None.
        agreement: Share of samples with the float model's top-1 class, for classifiers.
        fidelity: How near each output is to the float graph's.
        collapses: Outputs, columns and classes that the file lost.
        timing: Latency, or None.
        recommended: Whether this is the file to ship.
        worst_samples: Numbers of the test samples on which it is worst, against float32 or the
            targets, worst first; where the task tells how good a single sample is.
        device: Where a row without latency was scored, as `Timing.device` says it; None where
            that makes no difference.
        tensors: What each operator computes against float32, with the ranges of its integers; of
            the file that the page shows in full.
        failure: Why it could not be scored or timed, as the runtime says it; such a row has no
            figures, and is never recommended. None where nothing failed.
    """

    model: str
    artifact: Artifact
    inspection: Inspection | None = None
    score: Score | None = None
    drop: Drop | None = None
    agreement: float | None = None
    fidelity: tuple[Fidelity, ...] = ()
    collapses: tuple[Collapse, ...] = ()
    timing: Timing | None = None
    recommended: bool = False
    worst_samples: tuple[int, ...] = ()
    device: str | None = None
    tensors: LayerDifferences | None = None
    failure: str | None = None

    @property
    def is_source(self) -> bool:
        """Whether this is the source itself, which is scored but is no file to ship."""
        return self.artifact.mode is None and self.artifact.variant == SOURCE

    def deciding(self) -> tuple[str, Score, Drop] | None:
        """Return what the verdict rests on: the loss of the scored output or of another one.

        Returns:
            Where ("" for the scored output as a whole, or such as "output 'b': column 2: "), the
            score whose metric the loss is in, and the loss; None where nothing was judged.
        """
        if self.drop is None or self.score is None:
            return None
        place, drop = self.drop.deciding()
        if drop.verdict_alone != self.drop.verdict:
            scores = {one.output: one.score for one in self.score.per_output}
            for one in self.drop.per_output:
                if one.drop.verdict == self.drop.verdict and one.output in scores:
                    inner, lost = one.drop.deciding()
                    return f"output {one.output!r}: {inner}", scores[one.output], lost
        return place, self.score, drop

    @property
    def place(self) -> str | None:
        """The device that all figures of this row are from, if it is known."""
        return self.timing.device if self.timing else self.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Rows and all that a reader who was not there needs to understand them.

    Attributes:
        title: The model's name.
        asked: What was asked for, in label -> value pairs (source, modes, max drop, ...).
        rows: The source, where it was scored, and the variants.
        reason: Why the recommended file was chosen, in a sentence or two.
        data: Splits, sizes, digests, task, in label -> value pairs.
        versions: Engine -> version.
        device: Description of the measuring device, in label -> value pairs.
        devices: The same for each device, by `Timing.device`, where there are several.
        alerts: Why nothing can be recommended, and what is the likely reason: the source is no
            better than guessing, or the float32 file scores differently.
        warnings: What the reader must know before believing the figures.
        created: ISO 8601 time, UTC.
        examples: Test samples shown as pictures; they are too large for JSON.
    """

    title: str
    asked: Mapping[str, str]
    rows: tuple[Row, ...]
    reason: str
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    alerts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    created: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def files(self) -> tuple[Row, ...]:
        """The rows of files: all but the source's."""
        return tuple(row for row in self.rows if not row.is_source)

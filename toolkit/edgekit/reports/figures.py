"""Rows as a reader sees them: grouped so that only like is compared, rounded, with units.

Every table and the page print the strings made here, so they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.printable import one_line, printable
from edgekit.records import Report, Row, Timing

METRICS = {"accuracy": "accuracy", "rmse": "RMSE", "roc_auc": "ROC AUC"}
# Characters of a sentence, and of a device's description of itself.
MOST_TEXT, MOST_DEVICE = 2000, 100
ALIKE = "about the same"
VERDICTS = {
    "kept": "the whole interval of the drop is within the allowed loss",
    "unproven": "the allowed loss lies inside the interval: more test samples would tell",
    "lost": "the whole interval of the drop is beyond the allowed loss",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that may be compared: one model, timed on one device (None: latencies do not count)."""

    model: str
    device: str | None
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The model, and the device where it counts, in words."""
        where = f" on {device_text(self.device)}" if self.device else ""
        return f"{printable(self.model)}{where}"

    @property
    def baseline(self) -> Row | None:
        """The float32 row, against which sizes and latencies are put in ratio."""
        return next((row for row in self.rows if is_float(row)), None)

    @property
    def staged(self) -> bool:
        """Whether it holds several float models: what compression is for is not in their size."""
        return sum(row.artifact.mode == "float32" for row in self.rows) > 1

    @property
    def metric(self) -> str | None:
        """The metric of the rows that are scored."""
        return next((row.score.metric for row in self.rows if row.score), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row in words and rounded figures; "" where nothing was measured.

    Attributes:
        row: The row itself.
        label: The variant, made unique within its group.
        size_ratio: How many times smaller than float32; None for float32 itself or without one.
        download: Deflated size.
        download_ratio: How many times smaller than float32's, or None.
        macs: Multiply-accumulates.
        latency_ratio: How many times faster than float32 timed in the same way, or None.
        best: Which of `size`, `score` and `latency` are the best of the group.
        role: `recommended`, `front` (no other file is both smaller and better) or `other`.
    """

    row: Row
    label: str
    size: str
    size_ratio: float | None
    download: str
    download_ratio: float | None
    macs: str
    score: str
    score_interval: str
    drop: str
    drop_interval: str
    verdict: str
    agreement: str
    latency: str
    latency_ratio: float | None
    best: frozenset[str]
    role: str


def groups(report: Report) -> tuple[Group, ...]:
    """Split a report so that models and devices are never compared with each other."""
    made = []
    for model in dict.fromkeys(row.model for row in report.rows):
        rows = [row for row in report.rows if row.model == model]
        devices = dict.fromkeys(row.place for row in rows if row.place)
        if len(devices) < 2:
            made.append(Group(model=model, device=next(iter(devices), None), rows=tuple(rows)))
            continue
        for device in (*devices, None):
            part = tuple(row for row in rows if row.place == device)
            if part:
                made.append(Group(model=model, device=device, rows=part))
    return tuple(made)


def models(report: Report) -> tuple[Group, ...]:
    """One group a model, every file once: for what does not depend on the device."""
    made = []
    for model in dict.fromkeys(row.model for row in report.rows):
        files = {
            (row.artifact.variant, row.artifact.sha256): row
            for row in reversed(report.rows)
            if row.model == model
        }
        devices = {row.timing.device for row in report.rows if row.model == model and row.timing}
        made.append(
            Group(
                model=model,
                device=devices.pop() if len(devices) == 1 else None,
                rows=tuple(reversed(files.values())),
            )
        )
    return tuple(made)


def lines(group: Group) -> tuple[Line, ...]:
    """Return the rows of a group as strings, best values and the Pareto front marked."""
    rows, baseline = group.rows, group.baseline
    scores = [row.score.value for row in rows if row.score and math.isfinite(row.score.value)]
    pick = min if group.metric == "rmse" else max
    best_score = pick(scores) if len(scores) > 1 else None
    best_size = min(row.artifact.size_bytes for row in rows) if len(rows) > 1 else None
    latencies = [row.timing.p50_ms for row in rows if row.timing and group.device]
    best_latency = min(latencies) if len(latencies) > 1 else None
    front = {id(row) for row in pareto(rows)}
    made = []
    for row, label in zip(rows, _labels(rows), strict=True):
        score, drop, timing = row.score, row.drop, row.timing if group.device else None
        best = {
            "size": row.artifact.size_bytes == best_size,
            "score": score is not None and score.value == best_score,
            "latency": timing is not None and timing.p50_ms == best_latency,
        }
        metric = score.metric if score else ""
        role = "recommended" if row.recommended else "front" if id(row) in front else "other"
        made.append(
            Line(
                row=row,
                label=label,
                size=size_text(row.artifact.size_bytes),
                size_ratio=_shrinkage(baseline, row),
                download=size_text(row.artifact.size_deflated_bytes),
                download_ratio=_shrinkage(baseline, row, deflated=True),
                macs=count_text(row.inspection.macs) if row.inspection else "",
                score=score_text(metric, score.value) if score else "",
                score_interval=interval_text(metric, score.ci95) if score else "",
                drop=drop_text(metric, drop.value) if drop else "",
                drop_interval=(
                    " to ".join(drop_text(metric, end) for end in drop.ci95) if drop else ""
                ),
                verdict=drop.verdict if drop else "",
                agreement="" if row.agreement is None else f"{100 * row.agreement:.2f} %",
                latency=latency_text(timing.p50_ms) if timing else "",
                latency_ratio=_speedup(baseline, row) if timing else None,
                best=frozenset(name for name, holds in best.items() if holds),
                role=role,
            )
        )
    return tuple(made)


def pareto(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the scored rows, by size, to which no other is both as small and as good."""
    scored = [row for row in rows if row.score and math.isfinite(row.score.value)]
    sign = -1 if scored and scored[0].score and scored[0].score.metric == "rmse" else 1

    def goodness(row: Row) -> float:
        return sign * row.score.value if row.score else -math.inf

    front: list[Row] = []
    for row in sorted(scored, key=lambda row: (row.artifact.size_bytes, -goodness(row))):
        if not front or goodness(row) > goodness(front[-1]):
            front.append(row)
    return tuple(front)


def is_float(row: Row) -> bool:
    """Whether this is the float32 file."""
    return row.artifact.mode == "float32" or row.artifact.variant == "float32"


def plain(text: object) -> str:
    """Return a sentence on one line that cannot steer a terminal (names: see `printable`)."""
    return one_line(" ".join(str(text).split()), MOST_TEXT)


def device_text(device: str | None) -> str:
    """Return a device as it describes itself, which is longer than a name."""
    return printable(device, MOST_DEVICE)


def significant(value: float, digits: int = 3) -> str:
    """Round to significant digits, without an exponent: 45648 B is 45.6 kB, not 45.648.

    >>> significant(45.648), significant(147.48), significant(0.0411), significant(0.9999)
    ('45.6', '147', '0.0411', '1.00')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{value:.{max(decimals, 0)}f}"


def size_text(size_bytes: float) -> str:
    """Return bytes in decimal units: 1 kB is 1000 B."""
    for limit, divisor, unit in ((1e3, 1, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if size_bytes < 0.9995 * limit:
            figure = f"{size_bytes:.0f}" if unit == "B" else significant(size_bytes / divisor)
            return f"{figure} {unit}"
    return f"{significant(size_bytes / 1e9)} GB"


def count_text(count: float) -> str:
    """Return a large number in thousands (k), millions (M) or milliards (G).

    >>> count_text(640), count_text(1843200)
    ('640', '1.84 M')
    """
    for divisor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * divisor:
            return f"{significant(count / divisor)} {unit}"
    return f"{count:.0f}"


def latency_text(latency_ms: float) -> str:
    """Return milliseconds: three digits, two below a tenth of a millisecond."""
    return f"{significant(latency_ms, 3 if latency_ms >= 0.1 else 2)} ms"


def score_text(metric: str, value: float) -> str:
    """Return a score: accuracy in percent, the others in their own unit."""
    if not math.isfinite(value):
        return "not finite"
    return f"{_figure(metric, value)} %" if metric == "accuracy" else _figure(metric, value)


def interval_text(metric: str, interval: tuple[float, float]) -> str:
    """Return an interval in the unit of `score_text`."""
    return " to ".join(_figure(metric, end) for end in interval)


def drop_text(metric: str, value: float) -> str:
    """Return a drop with its sign: in points for accuracy. Positive is worse."""
    text = _figure(metric, value)
    if not math.isfinite(value):
        return text
    if float(text) == 0:
        return text.lstrip("-")
    return text if value < 0 else f"+{text}"


def drop_unit(metric: str | None) -> str:
    """Name the unit in which drops of this metric are given."""
    return "points" if metric == "accuracy" else METRICS.get(metric or "", "")


def times(ratio: float | None) -> str:
    """Return a ratio as a factor: 3.2x."""
    return "" if ratio is None else f"{significant(ratio, 2)}x"


def compared(ratio: float | None, better: str, worse: str) -> str:
    """Return a ratio in words, so that nobody has to read "0.5x smaller".

    >>> compared(3.23, "smaller", "larger"), compared(0.5, "smaller", "larger")
    ('3.2x smaller', '2.0x larger')
    >>> compared(0.996, "faster", "slower")
    'about the same'
    """
    if ratio is None:
        return ""
    if times(max(ratio, 1 / ratio)) == "1.0x":
        return ALIKE
    return f"{times(ratio)} {better}" if ratio >= 1 else f"{times(1 / ratio)} {worse}"


def timing_text(timing: Timing) -> str:
    """Say in words how a latency was taken."""
    threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
    parts = (timing.device, timing.runtime, timing.delegate, threads)
    return ", ".join(device_text(part) for part in parts if part)


def _figure(metric: str, value: float) -> str:
    if not math.isfinite(value):
        return "nan"
    if metric == "accuracy":
        return f"{100 * value:.2f}"
    if metric == "roc_auc":
        return f"{value:.4f}"
    return significant(value, 4) if abs(value) >= 1 else f"{value:.3f}"


def _shrinkage(baseline: Row | None, row: Row, *, deflated: bool = False) -> float | None:
    """How many times smaller than float32, as a file or as a download."""

    def size(of: Row) -> int:
        return of.artifact.size_deflated_bytes if deflated else of.artifact.size_bytes

    if baseline is None or baseline is row or not (size(baseline) and size(row)):
        return None
    return size(baseline) / size(row)


def _speedup(baseline: Row | None, row: Row) -> float | None:
    """How many times faster than float32, where both were timed in the same way."""
    if baseline is None or baseline is row or not (baseline.timing and row.timing):
        return None
    before, after = baseline.timing, row.timing
    if not (before.p50_ms and after.p50_ms):
        return None
    ways = [(t.device, t.runtime, t.delegate, t.threads) for t in (before, after)]
    return before.p50_ms / after.p50_ms if ways[0] == ways[1] else None


def _labels(rows: Sequence[Row]) -> list[str]:
    """Name the rows by variant, and by how they were timed where that is not enough."""
    variants = [printable(row.artifact.variant) for row in rows]
    names = list(variants)
    for position, row in enumerate(rows):
        if variants.count(variants[position]) > 1 and row.timing:
            way = row.timing.delegate or row.timing.runtime
            names[position] += f" ({row.timing.threads}t, {printable(way)})"
    return [
        f"{name} #{names[:position].count(name) + 1}" if name in names[:position] else name
        for position, name in enumerate(names)
    ]

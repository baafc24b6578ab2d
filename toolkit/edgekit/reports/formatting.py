"""Numbers and names as text: rounded, with units.

Every table, chart and page prints the strings made here, so they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.printable import one_line, printable
from edgekit.records import ClassScore, Score, Timing

if TYPE_CHECKING:
    from edgekit.evaluation.metrics import Metric

# Characters of a sentence, and of a device's description of itself.
MOST_TEXT, MOST_DEVICE = 2000, 100
ABOUT_THE_SAME = "about the same"
NOT_MEASURED = "not measured"


def plain(text: object) -> str:
    """Return a sentence on one line that cannot steer a terminal (names: see `printable`)."""
    return one_line(" ".join(str(text).split()), MOST_TEXT)


def decibels(value: float | None) -> str:
    """Return an SQNR; "exact" where there is no noise.

    >>> decibels(-0.04), decibels(None)
    ('0.0', 'exact')
    """
    return "exact" if value is None else f"{value:z.1f}"


def device_text(device: str | None) -> str:
    """Return a device's description of itself, which may be longer than a name."""
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
    """Return a large number in thousands (k), millions (M) or billions (G).

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
    """Return a score: fractions in percent, others in their own unit."""
    if not math.isfinite(value):
        return "not finite"
    percent = " %" if _metric(metric).unit == "percent" else ""
    return _figure(metric, value, digits=3) + percent


def interval_text(metric: str, interval: tuple[float, float]) -> str:
    """Return an interval in the unit of `score_text`."""
    if not all(map(math.isfinite, interval)):
        return NOT_MEASURED
    return " to ".join(_figure(metric, end, digits=3) for end in interval)


def drop_text(metric: str, value: float) -> str:
    """Return a drop with its sign: percentage points for fractions. Positive is worse."""
    text = _figure(metric, value)
    if not math.isfinite(value):
        return text
    if float(text) == 0:
        return text.lstrip("-")
    return text if value < 0 else f"+{text}"


def drop_interval_text(metric: str, interval: tuple[float, float]) -> str:
    """Return the interval of a drop in the unit of `drop_text`."""
    if not all(map(math.isfinite, interval)):
        return NOT_MEASURED
    return " to ".join(drop_text(metric, end) for end in interval)


def drop_unit(metric: str | None) -> str:
    """Name the unit in which drops of this metric are given."""
    if metric is None:
        return ""
    found = _metric(metric)
    return "points" if found.unit == "percent" else found.title


def metric_title(metric: str | None) -> str:
    """Return the metric's name as a table head; "score" where nothing is scored."""
    return "score" if metric is None else _metric(metric).title


def times(ratio: float | None) -> str:
    """Return a ratio as a factor: 3.2x."""
    return "" if ratio is None else f"{significant(ratio, 2)}x"


def compared(ratio: float | None, better: str, worse: str, *, equal: bool = False) -> str:
    """Return a ratio in words: "2.0x larger" instead of "0.5x smaller".

    Args:
        ratio: How many times better; None gives "".
        better: What a ratio above 1 is called.
        worse: What one below 1 is called.
        equal: Whether the difference is within the noise (`LatencyRatio.is_equal`).

    >>> compared(3.23, "smaller", "larger"), compared(0.5, "smaller", "larger")
    ('3.2x smaller', '2.0x larger')
    >>> compared(1.045, "faster", "slower"), compared(1.045, "faster", "slower", equal=True)
    ('4.3 % faster', 'about the same')
    """
    if ratio is None:
        return ""
    if equal or abs(1 / ratio - 1) < 0.0005:
        return ABOUT_THE_SAME
    if max(ratio, 1 / ratio) < 1.1:
        return f"{100 * abs(1 / ratio - 1):.1f} % {better if ratio > 1 else worse}"
    return f"{times(ratio)} {better}" if ratio >= 1 else f"{times(1 / ratio)} {worse}"


def timing_text(timing: Timing) -> str:
    """Describe how a latency was measured: device, runtime, delegate, threads."""
    threads = f"{timing.threads} thread{'s' if timing.threads != 1 else ''}"
    parts = (timing.device, timing.runtime, timing.delegate, threads)
    return ", ".join(device_text(part) for part in parts if part)


def _figure(metric: str, value: float, *, digits: int = 2) -> str:
    """Return a figure with the decimals of its unit, and significant `digits` where it is small."""
    if not math.isfinite(value):
        return "nan"
    unit = _metric(metric).unit
    if unit == "percent":
        return f"{100 * value:.2f}" if abs(value) >= 5e-5 else _small(100 * value, "0.00", digits)
    if unit == "fraction":
        return f"{value:.4f}" if abs(value) >= 5e-5 else _small(value, "0.0000", digits)
    if abs(value) >= 1:
        return significant(value, 4)
    return f"{value:.3f}" if abs(value) >= 10 ** (digits - 4) else _small(value, "0.000", digits)


def _small(value: float, nothing: str, digits: int) -> str:
    """Return significant digits: what is little must not read as nothing.

    Args:
        value: In the unit of its metric.
        nothing: What is printed below 1e-9, where differences are those of rounding.
        digits: How many.
    """
    if abs(value) < 1e-9:
        return nothing
    return significant(value, digits) if abs(value) >= 1e-6 else f"{value:.1e}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """What is told of each class, most telling first, and how it is called.

    Attributes:
        counted: What there are some of, of each class.
        name: The first figure.
        first: Reads it; None of a class of which there is nothing.
        further: The others.
        others: Reads them.
    """

    counted: str
    name: str
    first: Callable[[ClassScore], float | None]
    further: tuple[str, ...]
    others: Callable[[ClassScore], tuple[float, ...]]


def class_figures(score: Score) -> ClassFigures:
    """Return what is told of the classes: IoU of pixels, average precision of boxes, or recall."""
    if any(one.iou is not None for one in score.per_class):
        return _BY_PIXEL
    return _BY_BOX if any(one.area is not None for one in score.per_class) else _BY_SAMPLE


_BY_SAMPLE = ClassFigures(
    counted="test samples",
    name="recall",
    first=lambda one: one.recall,
    further=("precision",),
    others=lambda one: (one.precision,),
)
_BY_PIXEL = ClassFigures(
    counted="pictures with it",
    name="IoU",
    first=lambda one: one.iou,
    further=("recall", "precision"),
    others=lambda one: (one.recall, one.precision),
)
_BY_BOX = replace(_BY_PIXEL, counted="boxes", name="AP", first=lambda one: one.area)


def _metric(name: str) -> Metric:
    # Imported late: tables of operators have no scores.
    from edgekit.evaluation.metrics import metric_named

    return metric_named(name)

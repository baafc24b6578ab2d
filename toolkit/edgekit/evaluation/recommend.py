"""Which file to ship, and why, in a sentence or two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgekit.evaluation.drops import budget
from edgekit.evaluation.intervals import crossing
from edgekit.evaluation.metrics import metric_named
from edgekit.modes import FLOAT32
from edgekit.records import Drop, Row, Score

TIE = 1.01
MOST_SAMPLES = 10_000_000


def recommend(rows: Sequence[Row], *, max_drop: float) -> tuple[tuple[Row, ...], str]:
    """Return the rows with one of them recommended, and why.

    It is the smallest file whose paired interval does not show a loss beyond the budget; of files
    within 1 % of its size, the fastest. The float32 file is always good enough.

    Args:
        rows: The variants, with drops judged at `max_drop`.
        max_drop: In points for accuracy and ROC AUC, in percent of the float model's RMSE.
    """
    eligible = [row for row in rows if _eligible(row)]
    smaller_first = sorted(rows, key=_size)
    if not eligible:
        none = "No file is recommended: no variant is known to keep the score."
        reasons = [_rejection(row, max_drop) for row in smaller_first[-1:]]
        return tuple(replace(row, recommended=False) for row in rows), " ".join([none, *reasons])
    smallest = min(map(_size, eligible))
    tied = [row for row in eligible if _size(row) <= TIE * smallest]
    chosen = min(tied, key=lambda row: (_p50(row), _size(row)))
    reference = next((row for row in rows if row.artifact.mode == FLOAT32.name), None)
    rejected = [row for row in smaller_first if _size(row) < _size(chosen) and not _eligible(row)]
    sentences = [
        _headline(chosen, reference),
        _loss(chosen, max_drop),
        _tie(chosen, tied),
        "Nothing smaller is known to keep the score." if chosen is reference and rejected else "",
        _rejection(rejected[-1], max_drop) if rejected else "",
    ]
    marked = tuple(replace(row, recommended=row is chosen) for row in rows)
    return marked, " ".join(filter(None, sentences))


def samples_to_settle(drop: Drop, n: int, allowed: float, *, metric: str) -> int | None:
    """Return about how many samples would prove a drop kept or lost, if it stays as measured.

    Args:
        drop: As measured on `n` samples.
        n: Number of samples.
        allowed: The budget, in the metric's unit.
        metric: Name of the metric, which knows how its interval shrinks.

    Returns:
        The number, or None beyond ten million (the drop is about the budget itself).
    """
    interval = metric_named(metric).extrapolate(drop, n)

    def unsettled(log_samples: float) -> float:
        low, high = interval(math.exp(log_samples) / n)
        return 1.0 if low <= allowed < high else -1.0

    settled = math.exp(crossing(unsettled, math.log(n), math.log(MOST_SAMPLES)))
    return math.ceil(settled) if settled < 0.99 * MOST_SAMPLES else None


def _eligible(row: Row) -> bool:
    if row.artifact.mode == FLOAT32.name:
        return True
    return row.drop is not None and row.drop.verdict != "lost"


def _size(row: Row) -> int:
    return row.artifact.size_bytes


def _p50(row: Row) -> float:
    return row.timing.p50_ms if row.timing else float("inf")


def _headline(chosen: Row, reference: Row | None) -> str:
    figures = [_kilobytes(_size(chosen))]
    if reference is not None and reference is not chosen:
        figures.append(f"{_size(reference) / _size(chosen):.1f}x smaller than float32")
    if chosen.timing:
        figures.append(f"{chosen.timing.p50_ms:.3g} ms a run")
        if (
            reference is not None
            and reference is not chosen
            and reference.timing
            and reference.timing.device == chosen.timing.device
        ):
            ratio = reference.timing.p50_ms / chosen.timing.p50_ms
            word = "faster" if ratio >= 1 else "slower"
            figures.append(f"{max(ratio, 1 / ratio):.1f}x {word}")
    return f"Ship {chosen.artifact.variant}: {', '.join(figures)}."


def _loss(row: Row, max_drop: float) -> str:
    """Say what the chosen file loses, no more surely than the samples allow."""
    if row.drop is None or row.score is None:
        return ""
    drop, n = row.drop, row.score.n
    allowed = budget(_float_score(row.score, drop), max_drop)
    low, high = drop.ci95
    change, interval = _change(row.score, drop), _interval(row.score, drop)
    measured = f"{change} ({interval}) on {n:,} samples"
    limit = _amount(row.score, allowed)
    if drop.verdict == "kept" and low <= 0 <= high:
        return f"No measurable loss: {measured}, within the {limit} allowed."
    if drop.verdict == "kept":
        word = "A small, measurable loss" if low > 0 else "A measurable gain"
        return f"{word}: {measured}; {limit} are allowed."
    settled = samples_to_settle(drop, n, allowed, metric=row.score.metric)
    more = f"; about {_rounded(settled)} samples would settle it" if settled and settled > n else ""
    if drop.value > allowed:
        return (
            f"Measured beyond the {limit} allowed, but not proven: {measured}, "
            f"too few to tell{more}."
        )
    return (
        f"Not proven: {change} on {n:,} samples, but the {interval} reaches beyond the {limit} "
        f"allowed{more}."
    )


def _rejection(row: Row, max_drop: float) -> str:
    """Say why a smaller file is not the one."""
    name = f"{row.artifact.variant} ({_kilobytes(_size(row))})"
    if row.drop is None or row.score is None:
        return f"{name} was not considered: without test samples its loss is unknown."
    allowed = budget(_float_score(row.score, row.drop), max_drop)
    return (
        f"{name} was rejected: {_change(row.score, row.drop)} "
        f"({_interval(row.score, row.drop)}), {_amount(row.score, allowed)} are allowed."
    )


def _tie(chosen: Row, tied: Sequence[Row]) -> str:
    others = [row.artifact.variant for row in tied if row is not chosen and chosen.timing]
    return f"It is the fastest of its size (with {', '.join(others)})." if others else ""


def _float_score(score: Score, drop: Drop) -> Score:
    """Return the float model's score, which the variant's score and drop imply."""
    sign = 1 if metric_named(score.metric).higher_is_better else -1
    return replace(score, value=score.value + sign * drop.value)


def _change(score: Score, drop: Drop) -> str:
    metric = metric_named(score.metric)
    if drop.value == 0:
        return f"{metric.title} is the same"
    falls = (drop.value > 0) == metric.higher_is_better
    return f"{metric.title} {'falls' if falls else 'rises'} by {_amount(score, abs(drop.value))}"


def _interval(score: Score, drop: Drop) -> str:
    """Return the paired interval of the loss, in the sign of `Drop`: below zero is a gain."""
    low, high = (_number(score, end) for end in drop.ci95)
    return f"95 % interval of the loss {low} to {high}"


def _amount(score: Score, value: float) -> str:
    return _number(score, value) + ("" if _is_quantity(score) else " points")


def _number(score: Score, value: float) -> str:
    return f"{value:.3g}" if _is_quantity(score) else f"{value * 100:.2f}"


def _is_quantity(score: Score) -> bool:
    return metric_named(score.metric).unit == "quantity"


def _kilobytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _rounded(count: int) -> str:
    """Return a number rounded up to two digits that count: 1906 -> 2,000, 764 -> 770."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return f"{math.ceil(count / unit) * unit:,}"

"""The rows of a group as text, with ratios to float32, best values and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.evaluation.metrics import metric_named
from edgekit.printable import printable
from edgekit.records import LatencyRatio, Row, latency_ratio
from edgekit.reports.formatting import (
    count_text,
    drop_interval_text,
    drop_text,
    interval_text,
    latency_text,
    score_text,
    size_text,
)
from edgekit.reports.groups import Group

RECOMMENDED: Final = "recommended"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormattedRow:
    """One row as text, rounded; "" where nothing was measured, or the row is the source's.

    Attributes:
        row: The row itself.
        label: The variant, made unique within its group.
        size: What the file takes on flash.
        size_ratio: How many times smaller than float32; None for float32 itself or without one.
        download: Deflated size.
        download_ratio: How many times smaller than float32's, or None.
        macs: Multiply-accumulates.
        latency_ratio: How many times faster than float32 timed in the same way, or None.
        as_fast: Whether it is as fast as float32, as far as the noise of both lets tell.
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
    as_fast: bool
    best: frozenset[str]
    role: str

    @property
    def mark(self) -> str:
        """What stands beside its name: `recommended`, `failed` or ""."""
        return FAILED if self.row.failure else RECOMMENDED if self.row.recommended else ""


def formatted_rows(group: Group) -> tuple[FormattedRow, ...]:
    """Return the rows of a group as text, best values and the Pareto front marked."""
    rows, files, baseline = group.rows, group.files, group.baseline
    scores = [row.score.value for row in files if row.score and math.isfinite(row.score.value)]
    higher = group.metric is None or metric_named(group.metric).higher_is_better
    pick = max if higher else min
    best_score = pick(scores) if len(scores) > 1 else None
    sizes = [row.artifact.flash_bytes for row in files if not row.failure]
    best_size = min(sizes) if len(sizes) > 1 else None
    latencies = [row.timing.p50_ms for row in rows if row.timing and group.device]
    best_latency = min(latencies) if len(latencies) > 1 else None
    front = {id(row) for row in pareto_front(rows)}
    made = []
    for row, label in zip(rows, _labels(rows), strict=True):
        score, timing = row.score, row.timing if group.device else None
        # Without the metric its unit is unknown.
        place, judged, drop = row.deciding() or ("", score, None)
        unit = judged.metric if judged else ""
        is_file = not row.is_source
        best = {
            "size": row.artifact.flash_bytes == best_size,
            "score": score is not None and score.value == best_score,
            "latency": timing is not None and timing.p50_ms == best_latency,
        }
        metric = score.metric if score else ""
        speed = _speed(baseline, row) if timing else None
        role = RECOMMENDED if row.recommended else "front" if id(row) in front else "other"
        made.append(
            FormattedRow(
                row=row,
                label=label,
                size=size_text(row.artifact.flash_bytes) if is_file else "",
                size_ratio=_shrinkage(baseline, row),
                download=size_text(row.artifact.size_deflated_bytes) if is_file else "",
                download_ratio=_shrinkage(baseline, row, deflated=True),
                macs=count_text(row.inspection.macs) if row.inspection else "",
                score=score_text(metric, score.value) if score else "",
                score_interval=interval_text(metric, score.ci95) if score else "",
                drop=drop_text(unit, drop.value) if drop else "",
                drop_interval=place + drop_interval_text(unit, drop.ci95) if drop else "",
                verdict=drop.verdict if drop else "",
                agreement="" if row.agreement is None else f"{100 * row.agreement:.2f} %",
                latency=latency_text(timing.p50_ms) if timing else "",
                latency_ratio=1 / speed.value if speed else None,
                as_fast=speed is not None and speed.is_equal,
                best=frozenset(
                    name for name, holds in best.items() if holds and is_file and not row.failure
                ),
                role=role,
            )
        )
    return tuple(made)


def pareto_front(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the scored files, by size, to which no other is both as small and as good."""
    scored = [
        row for row in rows if row.score and math.isfinite(row.score.value) and not row.is_source
    ]

    def goodness(row: Row) -> float:
        return (
            -metric_named(row.score.metric).loss(0.0, row.score.value) if row.score else -math.inf
        )

    front: list[Row] = []
    for row in sorted(scored, key=lambda row: (row.artifact.flash_bytes, -goodness(row))):
        if not front or goodness(row) > goodness(front[-1]):
            front.append(row)
    return tuple(front)


def _shrinkage(baseline: Row | None, row: Row, *, deflated: bool = False) -> float | None:
    """How many times smaller than float32, as a file or as a download."""

    def size(of: Row) -> int:
        return of.artifact.size_deflated_bytes if deflated else of.artifact.flash_bytes

    if baseline is None or baseline is row or row.is_source:
        return None
    if not (size(baseline) and size(row)):
        return None
    return size(baseline) / size(row)


def _speed(baseline: Row | None, row: Row) -> LatencyRatio | None:
    """The latency over that of float32, where both were timed in the same way."""
    if baseline is None or baseline is row or not (baseline.timing and row.timing):
        return None
    before, after = baseline.timing, row.timing
    if not (before.p50_ms and after.p50_ms):
        return None
    ways = [(t.device, t.runtime, t.delegate, t.threads) for t in (before, after)]
    return latency_ratio(after, before) if ways[0] == ways[1] else None


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

"""An old file beside the one that takes its place, as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Comparison, Inspection, Row, Timing
from edgekit.reports.formatting import (
    count_text,
    drop_interval_text,
    drop_text,
    drop_unit,
    interval_text,
    latency_text,
    metric_title,
    score_text,
    size_text,
    timing_text,
)
from edgekit.reports.markdown_table import escaped


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A line of the table.

    Attributes:
        title: What it is.
        read: Its number in a row; None where it was not taken.
        text: The number in words.
    """

    title: str
    read: Callable[[Row], float | None]
    text: Callable[[float], str]


def _contents(read: Callable[[Inspection], float]) -> Callable[[Row], float | None]:
    return lambda row: read(row.inspection) if row.inspection else None


def _timed(read: Callable[[Timing], float | None]) -> Callable[[Row], float | None]:
    return lambda row: read(row.timing) if row.timing else None


_FIGURES = (
    Figure(title="size", read=lambda row: row.artifact.size_bytes, text=size_text),
    Figure(title="flash", read=lambda row: row.artifact.flash_bytes, text=size_text),
    Figure(
        title="download (deflated)",
        read=lambda row: row.artifact.size_deflated_bytes,
        text=size_text,
    ),
    Figure(title="parameters", read=_contents(lambda found: found.parameters), text=count_text),
    Figure(title="multiply-accumulates", read=_contents(lambda found: found.macs), text=count_text),
    Figure(title="operators", read=_contents(lambda found: len(found.ops)), text=count_text),
    Figure(
        title="operators in float",
        read=_contents(lambda found: len(found.in_float)),
        text=count_text,
    ),
    Figure(
        title="activations alive at most (predicted)",
        read=_contents(lambda found: found.peak.alive_bytes if found.peak else 0),
        text=size_text,
    ),
    Figure(
        title="memory: weights and arena", read=_timed(lambda t: t.memory_bytes), text=size_text
    ),
    Figure(title="latency p50", read=_timed(lambda t: t.p50_ms), text=latency_text),
    Figure(title="latency p90", read=_timed(lambda t: t.percentile_ms(90)), text=latency_text),
)


def comparison_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown: figures, operators, and how they were measured."""
    old, new = comparison.old, comparison.new
    names = [f"`{_code(printable(row.artifact.path, MOST_PATH))}`" for row in (old, new)]
    lines = [f"### {names[0]} → {names[1]}", "", "| | old | new | change |", "|---|--:|--:|--:|"]
    lines += _score_lines(comparison)
    for figure in _FIGURES:
        before, after = figure.read(old), figure.read(new)
        if before is None and after is None:
            continue
        cells = ["" if one is None else figure.text(one) for one in (before, after)]
        lines.append(f"| {figure.title} | {cells[0]} | {cells[1]} | {_change(before, after)} |")
    if comparison.operators:
        lines += ["", "| operator | old | new | change |", "|---|--:|--:|--:|"]
        lines += [
            f"| {escaped(printable(name))} | {before} | {after} | {after - before:+d} |"
            for name, (before, after) in comparison.operators.items()
        ]
    elif old.inspection and new.inspection:
        lines += ["", "The same operators, as many of each."]
    if new.timing:
        lines += ["", escaped(f"Latency: {timing_text(new.timing)}.")]
    lines += [line for text in comparison.warnings for line in ("", f"> {escaped(text)}")]
    return "\n".join(lines)


def _score_lines(comparison: Comparison) -> Iterator[str]:
    old, new = comparison.old, comparison.new
    if old.score is None or new.score is None:
        return
    metric = new.score.metric
    cells = [
        f"{score_text(metric, one.value)} ({interval_text(metric, one.ci95)})"
        for one in (old.score, new.score)
    ]
    title = f"{metric_title(metric)} ({new.score.n} samples, 95 % interval)"
    yield f"| {escaped(title)} | {escaped(cells[0])} | {escaped(cells[1])} | {_loss(new)} |"
    for collapse in new.collapses:
        yield f"| **lost** | | {escaped(f'{collapse.where}: {collapse.detail}')} | |"


def _loss(new: Row) -> str:
    """Return the drop with its paired interval and verdict, at the place that decided it."""
    deciding = new.deciding()
    if deciding is None:
        return ""
    where, score, drop = deciding
    interval = drop_interval_text(score.metric, drop.ci95)
    verdict = new.drop.verdict if new.drop else drop.verdict
    drop_said = f"{drop_text(score.metric, drop.value)} {drop_unit(score.metric)}"
    return escaped(f"{where}drop {drop_said} ({interval}), {verdict}")


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None or before == after:
        return "" if before != after else "none"
    return f"{(after - before) / before:+.1%}" if before else f"+{after:g}"


def _code(text: str) -> str:
    """Return text for a code span, which nothing in it ends."""
    return text.replace("`", "'").replace("|", "\\|")

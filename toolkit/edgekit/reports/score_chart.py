"""The chart of score against size, with intervals, Pareto front and latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from edgekit.evaluation.metrics import metric_named
from edgekit.printable import printable
from edgekit.reports.chart_style import COLOURS, WIDTH, role_colour, styled, tooltips
from edgekit.reports.formatted_rows import FormattedRow, formatted_rows, pareto_front
from edgekit.reports.formatting import compared, device_text, interval_text, metric_title
from edgekit.reports.groups import Group, is_float
from edgekit.reports.label_placement import Anchor, Box, Place, place
from edgekit.reports.page_text import capitalized

if TYPE_CHECKING:
    import altair as alt

# Sizes of the plot within the axes, in px: labels are placed for a wide and for a narrow one.
HEIGHT = 340
WIDE = 690
NARROW = 430
SLIM = 285
LONGEST = 24  # characters of a label
MOST_NAMED = 10  # points of a chart in which every one has its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Both axes, with their domains: sizes in kB, scores in the chart's unit."""

    x: alt.X
    y: alt.Y
    sizes: tuple[float, float]
    scores: tuple[float, float]


def accuracy_size(group: Group, *, width: int = WIDTH) -> alt.LayerChart | None:
    """Draw score against size: intervals, Pareto front, float32 line, latency as area."""
    import altair as alt

    shown = [
        line
        for line in formatted_rows(group)
        if line.row.score
        and not line.row.is_source
        and all(map(math.isfinite, (*line.row.score.ci95, line.row.score.value)))
    ]
    if not shown:
        return None
    assert group.metric is not None, "something is scored"
    metric = group.metric
    slowest = max(
        (t.p50_ms for line in shown if (t := line.row.timing) and group.device), default=0
    )
    points = [_point(line, slowest, group.compared_with) for line in shown]
    axes = _axes(points, metric)
    x, y = axes.x, axes.y
    # What matters most is drawn last, on top.
    drawn = sorted(points, key=lambda point: -point["order"])
    base = alt.Chart(alt.Data(values=drawn))
    by_row = {id(line.row): point for line, point in zip(shown, points, strict=True)}
    front = [by_row[id(row)] for row in pareto_front([line.row for line in shown])]
    colour = role_colour()
    area = alt.Size("area:Q", scale=None, legend=None)
    layers = []
    if baseline := [point for point in points if point["float"]]:
        layers.append(
            alt.Chart(alt.Data(values=baseline[:1]), name="baseline")
            .mark_rule(strokeDash=[2, 4], color=COLOURS["muted"])
            .encode(y=alt.Y("score:Q"))
        )
    layers += [
        alt.Chart(alt.Data(values=front), name="front")
        .mark_line(interpolate="step-after", color=COLOURS["front"], opacity=0.55, strokeWidth=2)
        .encode(x=x, y=y),
        base.mark_rule(strokeWidth=1.5, opacity=0.7)
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
        .properties(name="intervals"),
        base.mark_point(filled=True, opacity=1, stroke=COLOURS["surface"], strokeWidth=1)
        .encode(x=x, y=y, color=colour, size=area, tooltip=tooltips(points))
        .properties(name="points"),
        base.transform_filter("datum.role == 'recommended'")
        .mark_point(filled=False, opacity=1, strokeWidth=2, color=COLOURS["accent"])
        .encode(x=x, y=y, size=alt.Size("ring:Q", scale=None, legend=None))
        .properties(name="ring"),
        *_label_layers(points, front, axes),
    ]
    subtitle = ["Ringed: recommended. Line: Pareto front. Dashed: float32. Bars: 95 % interval."]
    if slowest:
        subtitle.append(f"Area of a point: p50 latency on {device_text(group.device)}.")
    title = f"{printable(group.model)}: {metric_title(metric)} against size"
    return styled(alt.layer(*layers), title, subtitle, width, height=HEIGHT)


def _axes(points: Sequence[Mapping[str, Any]], metric: str) -> Axes:
    import altair as alt

    sizes = _log_domain([point["size_kb"] for point in points])
    low, high = min(p["low"] for p in points), max(p["high"] for p in points)
    pad = 0.08 * (high - low) or 0.01 * abs(high) or 1
    about = metric_named(metric)
    ceiling = about.ceiling * _factor(metric)
    scores = (low - pad, max(high, min(high + pad, ceiling)))
    unit = ", %" if about.unit == "percent" else ""
    unit += "" if about.higher_is_better else " (lower is better)"
    return Axes(
        x=alt.X(
            "size_kb:Q",
            title="file size, kB (logarithmic)",
            scale=alt.Scale(type="log", domain=list(sizes), nice=False),
            axis=alt.Axis(values=_log_ticks(*sizes), grid=False),
        ),
        y=alt.Y(
            "score:Q",
            title=metric_title(metric) + unit,
            scale=alt.Scale(domain=list(scores), zero=False, nice=False),
            axis=alt.Axis(tickCount=6),
        ),
        sizes=sizes,
        scores=scores,
    )


def _factor(metric: str) -> int:
    """Return what a score is multiplied by to be drawn."""
    return 100 if metric_named(metric).unit == "percent" else 1


def _point(line: FormattedRow, slowest_ms: float, compared_with: str) -> dict[str, Any]:
    row = line.row
    score, timing = row.score, row.timing
    assert score is not None
    factor = _factor(score.metric)
    metric = metric_title(score.metric)
    share = timing.p50_ms / slowest_ms if timing and slowest_ms else 0.2
    area = 30 + 330 * share
    point: dict[str, Any] = {
        "label": printable(line.label, LONGEST),
        "size_kb": max(row.artifact.flash_bytes, 1) / 1000,
        "score": factor * score.value,
        "low": factor * score.ci95[0],
        "high": factor * score.ci95[1],
        "role": line.role,
        "order": ("recommended", "front", "other").index(line.role),
        "float": is_float(row),
        "area": area,
        "ring": (math.sqrt(area) + 9) ** 2,
        "Variant": line.label + (" (recommended)" if row.recommended else ""),
        "Size": ", ".join(
            filter(None, (line.size, compared(line.size_ratio, "smaller", "larger")))
        ),
        capitalized(metric): line.score,
        "95 % interval": interval_text(score.metric, score.ci95),
        "Test samples": f"{score.n:,}",
    }
    if line.drop:
        point["Drop"] = f"{line.drop} ({line.drop_interval}), {line.verdict}"
    if line.agreement:
        point[f"Agreement with {compared_with}"] = line.agreement
    if slowest_ms:
        point["p50 latency"] = line.latency
    return point


def _label_layers(
    points: Sequence[dict[str, Any]], front: Sequence[dict[str, Any]], axes: Axes
) -> list[alt.Chart]:
    """Label the points, once for a wide and once for a narrow plot; one of them is visible."""
    import altair as alt

    layers = []
    points = sorted(points, key=lambda point: point["order"])
    for width, condition in ((WIDE, f"width >= {NARROW}"), (SLIM, f"width < {NARROW}")):
        texts: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for point, spot in zip(points, _places(points, front, axes, width), strict=True):
            if spot is not None:
                weight = "bold" if point["role"] == "recommended" else "normal"
                text = {key: point[key] for key in ("label", "size_kb", "score")}
                texts.setdefault((spot.align, weight), []).append(
                    text | {"dx": spot.dx, "dy": spot.dy}
                )
        # Vega-Lite takes alignment and weight from a mark, not from its data.
        layers += [
            alt.Chart(alt.Data(values=values))
            .mark_text(
                align=align,
                baseline="middle",
                fontWeight=weight,
                color=COLOURS["ink"],
                dx=alt.expr("datum.dx"),
                dy=alt.expr("datum.dy"),
                opacity=alt.expr(f"{condition} ? 1 : 0"),
            )
            .encode(x=axes.x, y=axes.y, text="label:N")
            for (align, weight), values in texts.items()
        ]
    return layers


def _places(
    points: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    axes: Axes,
    width: float,
) -> list[Place | None]:
    """Find the places for a plot of this width, in px; lines are kept free of text too."""
    left, right = (math.log(end) for end in axes.sizes)
    low, high = axes.scores

    def x(point: Mapping[str, Any]) -> float:
        return width * (math.log(point["size_kb"]) - left) / (right - left)

    def y(score: float) -> float:
        return HEIGHT * (high - score) / (high - low)

    def line(left: float, right: float, score: float) -> Box:
        return Box(left=left, right=right, top=y(score) - 2, bottom=y(score) + 2)

    anchors = [
        Anchor(
            x=x(point),
            y=y(point["score"]),
            radius=math.sqrt(point["ring" if point["order"] == 0 else "area"] / math.pi),
            text=point["label"],
            must=point["role"] != "other" or len(points) <= MOST_NAMED,
        )
        for point in points
    ]
    lines_drawn = [
        Box(left=x(p) - 2, right=x(p) + 2, top=y(p["high"]), bottom=y(p["low"])) for p in points
    ]
    lines_drawn += [line(x(p), x(q), p["score"]) for p, q in pairwise(front)]
    lines_drawn += [line(0, width, p["score"]) for p in points if p["float"]]
    return place(anchors, lines_drawn, Box(left=0, top=0, right=width, bottom=HEIGHT))


def _log_domain(sizes: Sequence[float]) -> tuple[float, float]:
    """Leave a tenth of the axis free on either side, and room where all sizes are alike."""
    margin = max((max(sizes) / min(sizes)) ** 0.12, 1.1) if len(set(sizes)) > 1 else 2.0
    return min(sizes) / margin, max(sizes) * margin


def _log_ticks(low: float, high: float) -> list[float]:
    """Return at most 7 round sizes for a logarithmic axis, even within one decade."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        finer = [step * 10.0**decade for decade in decades for step in steps]
        finer = [tick for tick in finer if low <= tick <= high]
        if len(finer) > 7:
            break
        ticks = finer
    return ticks

"""Charts of outputs: errors of normal samples and anomalies, scatters, precision-recall curves.

Float32 is drawn beside the files of interest: the recommended one, and int8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from edgekit.evaluation.metrics import AVERAGE_PRECISION
from edgekit.modes import INT8
from edgekit.printable import printable
from edgekit.records import Histogram, PrecisionRecall, Report, Row, Scatter
from edgekit.reports.chart_style import COLOURS, SHORT_LABEL, styled, tooltips
from edgekit.reports.formatting import plain, significant
from edgekit.reports.groups import Group, groups_by_model, is_float

if TYPE_CHECKING:
    import altair as alt

WIDTH = 470
HEIGHT = 300
LOW = 200  # px: of a histogram
MOST_COLUMNS = 4
"""The most scatters of a model: of more columns, those that lost most."""
RARE = 0.2
"""A class with at most this share of the samples has a curve: that of a common one lies in a
corner, where nothing is seen."""
STYLES: tuple[tuple[str, str, list[int]], ...] = (
    ("other", "circle", [1, 0]),
    ("accent", "cross", [1, 0]),
    ("front", "triangle-up", [6, 3]),
)
"""Colour, shape and dashes: of float32, of the first file of interest, of the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart beside others of its kind.

    Attributes:
        name: A name that suits a file.
        heading: What it shows.
        legend: How it is read.
        draw: Makes the chart.
    """

    name: str
    heading: str
    legend: str
    draw: Callable[[], alt.LayerChart]


def panels(report: Report) -> tuple[Panel, ...]:
    """Return the charts of outputs that a report has figures for."""
    groups = groups_by_model(report)
    found: list[Panel] = []
    for group in groups:
        of = f"{printable(group.model)}, " if len(groups) > 1 else ""
        rows = _files(group)
        for make in (_error_panels, _scatter_panels, _curve_panels):
            found += make(rows, of)
    # Of several with one name, the second is called "scatter-2".
    names: dict[str, int] = {}
    numbered = []
    for panel in found:
        names[panel.name] = count = names.get(panel.name, 0) + 1
        name = panel.name if count == 1 else f"{panel.name}-{count}"
        numbered.append(
            Panel(name=name, heading=panel.heading, legend=panel.legend, draw=panel.draw)
        )
    return tuple(numbered)


def _files(group: Group) -> list[Row]:
    """Return float32 (else the first file), then the recommended file and int8."""
    scored = [row for row in group.files if row.score]
    first = next((row for row in scored if is_float(row)), None) or next(iter(scored), None)
    chosen = [row for row in scored if row.recommended]
    chosen += [row for row in scored if row.artifact.mode == INT8.name]
    rest = {id(row): row for row in chosen if row is not first}
    return [] if first is None else [first, *rest.values()][: len(STYLES)]


def _name(row: Row) -> str:
    return plain(printable(row.artifact.variant))


def _error_panels(rows: Sequence[Row], of: str) -> Iterator[Panel]:
    told = [(row, row.score.views.errors) for row in rows if row.score and row.score.views.errors]
    edges = [edge for _, errors in told for one in errors for edge in one.edges if edge > 0]
    most = max((s for _, errors in told for one in errors for s in _shares(one)), default=0.0)
    for row, errors in told:
        if edges:
            yield Panel(
                name="errors",
                heading=f"Reconstruction error: {of}{_name(row)}",
                legend="Share of the samples of each kind, by the error.",
                draw=partial(_histogram, errors, (min(edges), max(edges)), most, _name(row)),
            )


def _shares(histogram: Histogram) -> list[float]:
    total = max(1, sum(histogram.counts))
    return [count / total for count in histogram.counts]


def _histogram(
    errors: Sequence[Histogram], domain: tuple[float, float], most: float, name: str
) -> alt.LayerChart:
    """Draw both kinds of samples over a logarithmic axis that all files have in common."""
    import altair as alt

    kinds = [plain(one.label) for one in errors]
    values = [
        {
            "kind": plain(one.label), "low": low, "high": high, "share": 100 * share,
            "Kind": plain(one.label), "Error": f"{significant(low)} to {significant(high)}",
            "Samples": f"{count:,}, {100 * share:.1f} %",
        }
        for one in errors
        for low, high, share, count in zip(
            one.edges, one.edges[1:], _shares(one), one.counts, strict=False
        )
        if low > 0
    ]  # fmt: skip
    x = alt.X(
        "low:Q",
        title="mean squared error (logarithmic)",
        scale=alt.Scale(type="log", domain=list(domain), nice=False),
        axis=alt.Axis(tickCount=4, grid=False, format="~g"),
    )
    y = alt.Y(
        "share:Q",
        title="% of the kind",
        scale=alt.Scale(domain=[0, 105 * most]),
        axis=alt.Axis(tickCount=4),
    )
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[COLOURS["other"], COLOURS["accent"]][: len(kinds)]),
        legend=alt.Legend(orient="top", title=None, symbolType="square"),
    )
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_rect(opacity=0.6, strokeWidth=1)
        .encode(
            x=x, x2="high:Q", y=y, y2=alt.datum(0), color=colour, stroke=colour,
            tooltip=tooltips(values),
        )
        .properties(name="bins")
    )  # fmt: skip
    return styled(alt.layer(bars), f"{name}: reconstruction error", [], WIDTH, LOW)


def _scatter_panels(rows: Sequence[Row], of: str) -> Iterator[Panel]:
    told = [row for row in rows if row.score and row.score.views.scatters]
    if not told or told[0].score is None:
        return
    scatters = told[0].score.views.scatters
    lost = {
        one.label: one.value / (one.allowed or 1e-300)
        for row in reversed(told)
        if row.drop
        for one in row.drop.per_column
    }
    shown = sorted(scatters, key=lambda one: -lost.get(one.label, 0.0))[:MOST_COLUMNS]
    few = (
        f" Of {len(scatters)} columns, those that lost most." if len(shown) < len(scatters) else ""
    )
    for one in scatters:
        if one not in shown:
            continue
        series = [
            (_name(row), same)
            for row in told
            if row.score
            for same in row.score.views.scatters
            if same.label == one.label
        ]
        column = f", column {printable(one.label)}" if len(scatters) > 1 else ""
        yield Panel(
            name="scatter",
            heading=f"{of}Predicted against true{column}".removesuffix(", "),
            legend=f"{len(one.true):,} of the samples; on the line, predictions are true.{few}",
            draw=partial(_scatter, series, column),
        )


def _scatter(series: Sequence[tuple[str, Scatter]], column: str) -> alt.LayerChart:
    """Draw predictions over true values, and the line on which they are equal."""
    import altair as alt

    values = [
        {"true": true, "predicted": predicted, "file": name}
        for name, one in series
        for true, predicted in zip(one.true, one.predicted, strict=False)
    ]
    every = [end for _, one in series for end in (*one.true, *one.predicted)]
    low, high = min(every, default=0.0), max(every, default=1.0)
    domain = [low, high if high > low else low + 1]
    line = [{"true": end, "predicted": end} for end in domain]
    x, y = (
        axis(
            f"{name}:Q",
            title=name,
            scale=alt.Scale(domain=domain, zero=False, nice=True),
            axis=alt.Axis(tickCount=5),
        )
        for axis, name in ((alt.X, "true"), (alt.Y, "predicted"))
    )
    names = [name for name, _ in series]
    layers = [
        alt.Chart(alt.Data(values=line), name="line")
        .mark_line(color=COLOURS["muted"], strokeDash=[2, 4], strokeWidth=1)
        .encode(x=x, y=y),
        alt.Chart(alt.Data(values=values))
        # A text for each of some hundred points would be most of the page.
        .mark_point(opacity=0.7, strokeWidth=1.5, size=28, aria=False)
        .encode(
            x=x, y=y, color=_colour(names),
            shape=alt.Shape(
                "file:N",
                scale=alt.Scale(domain=names, range=[STYLES[k][1] for k in range(len(names))]),
                legend=_legend(),
            ),
        )
        .properties(name="points"),
    ]  # fmt: skip
    title = f"Predicted against true{column}"
    return styled(alt.layer(*layers), title, [], WIDTH, HEIGHT)


def _curve_panels(rows: Sequence[Row], of: str) -> Iterator[Panel]:
    told = [row for row in rows if row.score and row.score.views.curves]
    if not told or told[0].score is None:
        return
    judged = told[0].score.metric == AVERAGE_PRECISION.name
    for one in told[0].score.views.curves:
        if not (judged or one.share is None or one.share <= RARE):
            continue
        series = [
            (_name(row), same)
            for row in told
            if row.score
            for same in row.score.views.curves
            if same.label == one.label
        ]
        guessing = "" if one.share is None else " Dotted: guessing."
        areas = ", ".join(f"{name} {same.area:.3f}" for name, same in series)
        yield Panel(
            name="precision-recall",
            heading=f"Precision and recall: {of}{printable(one.label)}",
            legend=f"At each score from which a sample counts.{guessing} Area: {areas}.",
            draw=partial(_curve, series, one.share),
        )


def _curve(series: Sequence[tuple[str, PrecisionRecall]], share: float | None) -> alt.LayerChart:
    """Draw precision over recall."""
    import altair as alt

    values: list[dict[str, Any]] = [
        {
            "recall": recall, "height": height, "file": name, "File": name,
            "Recall": f"{100 * recall:.1f} %", "Precision": f"{100 * height:.1f} %",
        }
        for name, one in series
        for recall, height in zip(one.recall, one.precision, strict=False)
    ]  # fmt: skip
    names = [name for name, _ in series]
    scale = alt.Scale(domain=[0, 1.02], nice=False)
    ticks = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format="~%")
    x = alt.X("recall:Q", title="recall", scale=scale, axis=ticks)
    y = alt.Y("height:Q", title="precision", scale=scale, axis=ticks)
    base = alt.Chart(alt.Data(values=values))
    layers = [
        base.mark_line(strokeWidth=2, opacity=0.85)
        .encode(
            x=x, y=y, color=_colour(names), order="recall:Q",
            strokeDash=alt.StrokeDash(
                "file:N",
                scale=alt.Scale(
                    domain=names, range=[STYLES[k][2] for k in range(len(names))]
                ),
                legend=_legend(),
            ),
        )
        .properties(name="curves"),
        base.mark_point(size=60, opacity=0, aria=False).encode(x=x, y=y, tooltip=tooltips(values)),
    ]  # fmt: skip
    if share is not None:
        layers.append(
            alt.Chart(alt.Data(values=[{"height": share}]), name="guessing")
            .mark_rule(strokeDash=[2, 4], color=COLOURS["muted"])
            .encode(y=y)
        )
    title = f"Precision and recall: {plain(series[0][1].label)}"
    return styled(alt.layer(*layers), title, [], WIDTH, HEIGHT)


def _colour(names: Sequence[str]) -> alt.Color:
    import altair as alt

    shades = [COLOURS[STYLES[k][0]] for k in range(len(names))]
    return alt.Color("file:N", scale=alt.Scale(domain=list(names), range=shades), legend=_legend())


def _legend() -> alt.Legend:
    import altair as alt

    return alt.Legend(orient="top", title=None, labelExpr=SHORT_LABEL)

"""Charts from records: one function per chart, which returns an Altair chart or None.

None means that there is nothing to draw: no scores, no latencies, no inspection. Colours are the
light theme's (`style.COLOURS`); the page maps them to its own custom properties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.printable import printable
from edgekit.records import Inspection, Report
from edgekit.reports.chart_style import (
    COLOURS,
    SHORT_LABEL,
    WIDTH,
    name_axis,
    role_colour,
    styled,
    tooltips,
)
from edgekit.reports.formatted_rows import FormattedRow, formatted_rows
from edgekit.reports.formatting import compared, device_text, latency_text, plain, size_text
from edgekit.reports.groups import Group, groups_by_device, groups_by_model, is_float
from edgekit.reports.score_chart import accuracy_size
from edgekit.reports.sensitivity_chart import recorded, sensitivity_chart
from edgekit.reports.view_charts import panels

if TYPE_CHECKING:
    import altair as alt

MOST_LAYERS = 16


def charts(report: Report) -> dict[str, alt.LayerChart]:
    """Return every chart the report has figures for, by a name that suits a file."""
    drawn: dict[str, alt.LayerChart | None] = {}
    timed = [group for group in groups_by_device(report) if group.device]
    for position, group in enumerate(groups_by_model(report)):
        drawn[numbered("accuracy-size", position)] = accuracy_size(group)
    for position, group in enumerate(timed):
        drawn[numbered("latency", position)] = latency(group)
    for position, group in enumerate(groups_by_model(report)):
        drawn[numbered("bytes", position)] = layer_bytes(group)
    for position, (_, costs) in enumerate(recorded(report)):
        drawn[numbered("sensitivity", position)] = sensitivity_chart(costs)
    drawn |= {panel.name: panel.draw() for panel in panels(report)}
    return {name: chart for name, chart in drawn.items() if chart is not None}


def latency(group: Group, *, width: int = WIDTH) -> alt.LayerChart | None:
    """Draw the median latency of every variant, with a whisker up to the 90th percentile."""
    import altair as alt

    values: list[dict[str, Any]] = []
    for line in formatted_rows(group):
        timing = line.row.timing
        if timing is None or group.device is None:
            continue
        p90 = timing.percentile_ms(90)
        values.append(
            {
                "label": line.label,
                "p50": timing.p50_ms,
                "p90": p90,
                "text": latency_text(timing.p50_ms),
                "role": line.role if line.role == "recommended" else "other",
                "Variant": line.label,
                "p50 latency": latency_text(timing.p50_ms),
                "p90 latency": latency_text(p90),
                "p99 latency": latency_text(timing.percentile_ms(99)),
                "Invocations": f"{len(timing.values_ns):,}",
                "Threads": str(timing.threads),
                "Against float32": compared(
                    line.latency_ratio, "faster", "slower", equal=line.as_fast
                ),
            }
        )
    if not values:
        return None
    longest = max(value["p90"] for value in values)
    base = alt.Chart(alt.Data(values=values))
    y = alt.Y(
        "label:N",
        title=None,
        sort=[value["label"] for value in values],
        axis=name_axis(),
    )
    x = alt.X(
        "p50:Q",
        title="latency of one inference, ms",
        scale=alt.Scale(domain=[0, longest * 1.4], nice=False),
        axis=alt.Axis(tickCount=5),
    )
    colour = role_colour()
    layers = [
        base.mark_bar(height=14, cornerRadiusEnd=2)
        .encode(x=x, y=y, color=colour, tooltip=tooltips(values))
        .properties(name="bars"),
        base.mark_rule(color=COLOURS["ink"], strokeWidth=1.5)
        .encode(x=x, x2="p90:Q", y=y)
        .properties(name="whiskers"),
        base.mark_tick(color=COLOURS["ink"], thickness=1.5, size=8).encode(x=alt.X("p90:Q"), y=y),
        base.mark_text(align="left", dx=8, color=COLOURS["ink"]).encode(
            x=alt.X("p90:Q"), y=y, text="text:N"
        ),
    ]
    title = f"{printable(group.model)}: latency"
    subtitle = [f"Bar: median. Whisker: 90th percentile. {device_text(group.device)}."]
    return styled(alt.layer(*layers), title, subtitle, width, height=26 * len(values))


def layer_bytes(group: Group, *, width: int = WIDTH) -> alt.LayerChart | None:
    """Draw the bytes of every layer, float32 beside the recommended (else smallest) file."""
    import altair as alt

    compared = compared_files(group)
    if not any(op.bytes for _, inspection in compared for op in inspection.ops):
        return None
    names = [line.label for line, _ in compared]
    tables = [_bytes_by_layer(inspection) for _, inspection in compared]
    layers = list(dict.fromkeys(layer for table in tables for layer in table))
    if len(layers) > MOST_LAYERS:
        ranked = sorted(layers, key=lambda name: -max(t.get(name, 0) for t in tables))
        kept = set(ranked[: MOST_LAYERS - 1])
        rest = f"{len(layers) - len(kept)} smaller layers"
        layers = [layer for layer in layers if layer in kept] + [rest]
        tables = [
            {layer: n for layer, n in table.items() if layer in kept}
            | {rest: sum(n for layer, n in table.items() if layer not in kept)}
            for table in tables
        ]
    values = [
        {
            "layer": plain(layer),
            "file": name,
            "kb": table.get(layer, 0) / 1000,
            "Layer": plain(layer),
            "File": name,
            "Weights": size_text(table.get(layer, 0)),
            "Share": f"{100 * table.get(layer, 0) / (sum(table.values()) or 1):.1f} %",
        }
        for name, table in zip(names, tables, strict=True)
        for layer in layers
    ]
    colours = [COLOURS["other"], COLOURS["accent"]][-len(names) :]
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X("kb:Q", title="constants, kB", axis=alt.Axis(tickCount=5)),
            y=alt.Y(
                "layer:N",
                title=None,
                sort=[plain(layer) for layer in layers],
                axis=name_axis(),
                scale=alt.Scale(paddingInner=0.25),
            ),
            yOffset=alt.YOffset("file:N", sort=names),
            color=alt.Color(
                "file:N",
                sort=names,
                scale=alt.Scale(domain=names, range=colours),
                legend=alt.Legend(
                    orient="top", title=None, symbolType="square", labelExpr=SHORT_LABEL
                ),
            ),
            tooltip=tooltips(values),
        )
        .properties(name="layers")
    )
    title = f"{printable(group.model)}: size by layer"
    return styled(alt.layer(bars), title, [], width, height=len(layers) * (10 + 12 * len(names)))


def compared_files(group: Group) -> list[tuple[FormattedRow, Inspection]]:
    """Return float32 and the recommended file, or the smallest: those that were inspected."""
    shown = [
        line for line in formatted_rows(group) if line.row.inspection and not line.row.is_source
    ]
    base = next((line for line in shown if is_float(line.row)), None)
    chosen = next((line for line in shown if line.row.recommended), None)
    if chosen is None and shown:
        chosen = min(shown, key=lambda line: line.row.artifact.flash_bytes)
    picked = [base, chosen] if base is not chosen else [chosen]
    return [(line, line.row.inspection) for line in picked if line and line.row.inspection]


def svg(chart: alt.LayerChart) -> str:
    """Return the chart as an SVG document."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.to_dict()))


def png(chart: alt.LayerChart, *, scale: float = 2) -> bytes:
    """Return the chart as a PNG image, `scale` pixels a unit."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(chart.to_dict(), scale=scale))


def numbered(name: str, position: int) -> str:
    """Name the chart of the group at `position`: latency, latency-2, ..."""
    return name if position == 0 else f"{name}-{position + 1}"


def _bytes_by_layer(inspection: Inspection) -> dict[str, int]:
    table: dict[str, int] = {}
    for op in inspection.ops:
        if op.bytes:
            table[op.layer or op.name] = table.get(op.layer or op.name, 0) + op.bytes
    return table

"""The style of all charts: colours, fonts, tooltips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

WIDTH = 760
FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"
# In both palettes text has a contrast of at least 4.5 to 1, and marks of at least 3 to 1.
COLOURS = {
    "ink": "#1d2733",
    "muted": "#5b6775",
    "grid": "#e3e8ed",
    "accent": "#0a7a5c",
    "front": "#3465a8",
    "other": "#7f8b99",
    "surface": "#fffffe",
}
DARK = {
    "ink": "#e6ebf0",
    "muted": "#a3afbb",
    "grid": "#2c3641",
    "accent": "#45c79d",
    "front": "#7fabec",
    "other": "#8793a1",
    "surface": "#1a2128",
}


LABEL_PX = 120
# A longer label loses its middle, so that both of its ends are seen; about 7 px a character.
SHORT_LABEL = (
    "length(datum.label) > 17 ? slice(datum.label, 0, 7) + '...' + slice(datum.label, -7)"
    " : datum.label"
)


def styled(
    chart: alt.LayerChart, title: str, subtitle: list[str], width: int, height: int
) -> alt.LayerChart:
    """Return a chart with title, size in px and the common style; its width follows the page."""
    import altair as alt

    ink, muted, grid = (COLOURS[name] for name in ("ink", "muted", "grid"))
    return (
        chart.properties(
            title=alt.TitleParams(text=title, **({"subtitle": subtitle} if subtitle else {})),
            width=width,
            height=height,
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        )
        .configure(font=FONT, background=COLOURS["surface"], padding=6)
        .configure_view(stroke=None)
        .configure_text(font=FONT, fontSize=12)
        .configure_title(
            anchor="start", color=ink, fontSize=15, subtitleColor=muted, subtitleFontSize=12,
            offset=14, subtitlePadding=4,
        )
        .configure_legend(labelColor=ink, labelFontSize=12, labelLimit=LABEL_PX, offset=8)
        .configure_axis(
            labelColor=muted, titleColor=muted, gridColor=grid, tickColor=grid, domainColor=grid,
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
            titlePadding=10, labelFlush=False,
        )
    )  # fmt: skip


def name_axis() -> alt.Axis:
    """Return the axis of a bar chart on which the bars have names."""
    import altair as alt

    return alt.Axis(
        domain=False, ticks=False, labelLimit=LABEL_PX, labelExpr=SHORT_LABEL, labelPadding=8
    )


def role_colour() -> alt.Color:
    """Return the colour of each role, without a legend: captions and labels explain it."""
    import altair as alt

    domain = ["recommended", "front", "other"]
    shades = [COLOURS["accent"], COLOURS["front"], COLOURS["other"]]
    return alt.Color("role:N", scale=alt.Scale(domain=domain, range=shades), legend=None)


def tooltips(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fields of a tooltip: those whose names have a capital or a space."""
    names = dict.fromkeys(name for value in values for name in value)
    return [f"{name}:N" for name in names if name != name.lower() or " " in name]

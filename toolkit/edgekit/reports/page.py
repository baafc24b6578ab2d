"""The report as one self-contained HTML file.

It loads nothing: scripts, styles and images are embedded, and its content security policy forbids
anything else. Every text that came from a file is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.printable import printable
from edgekit.records import Report
from edgekit.reports import (
    confusion,
    example_cards,
    file_contents,
    page_layers,
    page_scores,
    page_tables,
    sections,
)
from edgekit.reports.chart_style import COLOURS, DARK
from edgekit.reports.charts import numbered
from edgekit.reports.device_comparison import compare_devices, table_groups
from edgekit.reports.drawing import PageCharts
from edgekit.reports.formatting import metric_title
from edgekit.reports.glossary import glossary
from edgekit.reports.groups import Group, groups_by_device, groups_by_model
from edgekit.reports.page_text import capitalized, escaped
from edgekit.reports.view_charts import panels

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)


MOST_TITLE = 200  # characters: of several models it has the names of all


def html(report: Report, charts: PageCharts) -> str:
    """Return the report as one HTML document of about a megabyte, most of it the chart library.

    Args:
        report: The report.
        charts: What `drawing.page_charts` drew of it; empty for a page without charts.
    """
    specs: dict[str, dict[str, Any]] = {}

    def figure(chart: str, heading: str, legend: str) -> str:
        """Embed the chart as a static image, and keep its specification for the script."""
        if chart not in charts.specs:
            return ""
        name = f"chart-{len(specs) + 1}"
        specs[name] = charts.specs[chart]
        picture = themed(charts.pictures[chart])
        return (
            f'<figure aria-labelledby="{name}-caption"><figcaption id="{name}-caption">'
            f"<strong>{escaped(heading)}</strong>{legend}</figcaption>"
            f'<div class="chart" data-chart="{name}">{picture}</div></figure>'
        )

    whole, timed, tabled = groups_by_model(report), groups_by_device(report), table_groups(report)
    named = report.title or ", ".join(group.model for group in whole) or "edgekit report"
    title = printable(named, MOST_TITLE)
    parts = [
        sections.alerts(report),
        sections.collapses(report),
        sections.recommendation(report),
        sections.warnings(report),
        sections.request(report),
        sections.preprocessing(report),
        "<h2>Variants</h2>",
        *(
            figure(numbered("accuracy-size", n), _named(group, whole, _score_heading(group)),
                   sections.score_legend(group))
            for n, group in enumerate(whole)
        ),
        *(page_tables.variants_table(group, several=len(tabled) > 1) for group in tabled),
        *(page_tables.device_table(one, several=len(whole) > 1) for one in compare_devices(report)),
        sections.verdicts(report),
        *(page_scores.columns_table(group, several=len(whole) > 1) for group in whole),
        *(page_scores.outputs_table(group, several=len(whole) > 1) for group in whole),
        *(page_scores.fidelity(group, several=len(whole) > 1) for group in whole),
        *(
            figure(numbered("latency", n), _named(group, timed, "Latency"),
                   sections.latency_legend(group))
            for n, group in enumerate(group for group in timed if group.device)
        ),
        _outputs(report, charts, figure),
        "<h2>Size breakdown</h2>" if any(row.inspection for row in report.rows) else "",
        *(
            figure(numbered("bytes", n), _named(group, whole, "Size by layer"),
                   file_contents.bytes_legend(group)) + file_contents.bytes_table(group)
            for n, group in enumerate(whole)
        ),
        *(
            confusion.matrices(group, several=len(whole) > 1) + page_tables.per_class(group)
            for group in whole
        ),
        page_layers.layers(report, figure),
        file_contents.predictions(report),
        sections.data(report),
        sections.conditions(report),
        glossary(report),
        sections.reproduce(report),
    ]  # fmt: skip
    data = "".join(
        f'<script type="application/json" id="{name}">{_embedded(spec)}</script>\n'
        for name, spec in specs.items()
    )
    scripts = ""
    if specs:
        scripts = f"{data}<script>\n{_library(charts.library)}\n</script>\n"
        scripts += f"<script>\n{_asset('page.js')}</script>"
    created = f" · {escaped(report.created)}" if report.created else ""
    return document(
        f"{title}: edgekit report",
        f"edgekit report{created}",
        title,
        "".join(part + chr(10) for part in parts if part),
        f"<footer>{sections.footer(report)}</footer>\n"
        f'<div id="tip" role="tooltip" hidden></div>\n{scripts}',
    )


def document(title: str, eyebrow: str, heading: str, main: str, after: str = "") -> str:
    """Return a page of its own, which loads nothing.

    Args:
        title: Of the window, as text.
        eyebrow: The line above the heading, as HTML.
        heading: The heading, as text.
        main: The content, as HTML.
        after: What follows it, as HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<link rel="icon" href="data:,">
<style>
{_properties()}
{_asset("page.css")}</style>
</head>
<body>
<header>
<p class="eyebrow">{eyebrow}</p>
<h1>{escaped(heading)}</h1>
</header>
<main>
{main}</main>
{after}
</body>
</html>
"""


def _outputs(report: Report, charts: PageCharts, figure: Callable[[str, str, str], str]) -> str:
    """Return the section of single outputs: charts of them, and the samples done worst."""
    drawn = "".join(
        figure(panel.name, panel.heading, escaped(panel.legend)) for panel in panels(report)
    )
    shown = example_cards.examples(report, charts.examples)
    panel = f'<div class="panels">{drawn}</div>' if drawn else ""
    return f"<h2>Outputs</h2>{panel}{shown}" if drawn or shown else ""


def _named(group: Group, among: tuple[Group, ...], heading: str) -> str:
    """Add model and device to a heading where there are several."""
    if len(among) < 2:
        return heading
    return f"{heading}: {group.name}"


def _score_heading(group: Group) -> str:
    name = metric_title(group.metric)
    return f"{capitalized(name)} against size"


def _properties() -> str:
    """Return both palettes as custom properties; print uses the light one."""
    light, dark = (
        "".join(f"--{name}: {colour}; " for name, colour in palette.items())
        for palette in (COLOURS, DARK)
    )
    return (
        f":root {{ {light}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
        f"@media print {{ :root {{ {light}}} }}"
    )


def themed(picture: str) -> str:
    """Replace a chart's colours by the page's custom properties, so that it follows the theme."""
    for name, colour in COLOURS.items():
        picture = picture.replace(f'"{colour}"', f'"var(--{name})"')
    return picture


def _embedded(spec: dict[str, Any]) -> str:
    """Return JSON that cannot close its script element, whatever strings it contains."""
    return themed(json.dumps(spec, separators=(",", ":"), allow_nan=False)).replace("<", "\\u003c")


def _library(code: str) -> str:
    """Return Vega, Vega-Lite and Vega-Embed with their notice; they are never downloaded."""
    notice = (
        "/* Vega, Vega-Lite and Vega-Embed, copyright University of Washington Interactive Data "
        "Lab and contributors, BSD 3-Clause; with D3, copyright Mike Bostock, ISC. */"
    )
    return f"{notice}\n{code}".replace("</script", "<\\/script")


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")

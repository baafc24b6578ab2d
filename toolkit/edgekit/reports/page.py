"""One self-contained HTML file for a reader who was not there.

Nothing in it reaches out: scripts, styles and pictures are inside, and its content security
policy forbids the rest. Every text that came from a file is escaped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit.records import Report
from edgekit.reports import file_contents, sections
from edgekit.reports.charts import numbered
from edgekit.reports.device_comparison import across, compared_groups
from edgekit.reports.drawing import PageCharts
from edgekit.reports.figures import METRICS, Group, groups, models
from edgekit.reports.glossary import reading
from edgekit.reports.sections import escaped
from edgekit.reports.style import COLOURS, DARK

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)


def html(report: Report, charts: PageCharts) -> str:
    """Return the report as one HTML document of about a megabyte, most of it the chart library.

    Args:
        report: What it tells.
        charts: What `drawing.page_charts` drew of it; empty for a page without pictures.
    """
    specs: dict[str, dict[str, Any]] = {}

    def figure(chart: str, heading: str, legend: str) -> str:
        """Show the chart as a still picture, and keep its specification for the script."""
        if chart not in charts.specs:
            return ""
        name = f"chart-{len(specs) + 1}"
        specs[name] = charts.specs[chart]
        picture = _themed(charts.pictures[chart])
        return (
            f'<figure aria-labelledby="{name}-caption"><figcaption id="{name}-caption">'
            f"<strong>{escaped(heading)}</strong>{legend}</figcaption>"
            f'<div class="chart" data-chart="{name}">{picture}</div></figure>'
        )

    whole, timed, tabled = models(report), groups(report), compared_groups(report)
    title = report.title or ", ".join(group.model for group in whole) or "edgekit report"
    parts = [
        sections.chosen(report),
        sections.warnings(report),
        sections.asked(report),
        "<h2>The variants</h2>",
        *(
            figure(numbered("accuracy-size", n), _named(group, whole, _score_heading(group)),
                   sections.score_legend(group))
            for n, group in enumerate(whole)
        ),
        *(sections.variants(group, several=len(tabled) > 1) for group in tabled),
        *(sections.latencies(one, several=len(whole) > 1) for one in across(report)),
        sections.verdicts(report),
        *(
            figure(numbered("latency", n), _named(group, timed, "Latency"),
                   sections.latency_legend(group))
            for n, group in enumerate(group for group in timed if group.device)
        ),
        "<h2>Where the bytes are</h2>" if any(row.inspection for row in report.rows) else "",
        *(
            figure(numbered("bytes", n), _named(group, whole, "Constants of every layer"),
                   file_contents.bytes_legend(group)) + file_contents.bytes_table(group)
            for n, group in enumerate(whole)
        ),
        *(sections.per_class(group) for group in whole),
        file_contents.predictions(report),
        sections.data(report),
        sections.conditions(report),
        reading(report),
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
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}: edgekit report</title>
<link rel="icon" href="data:,">
<style>
{_properties()}
{_asset("page.css")}</style>
</head>
<body>
<header>
<p class="eyebrow">edgekit report{created}</p>
<h1>{escaped(title)}</h1>
</header>
<main>
{"".join(part + chr(10) for part in parts if part)}</main>
<footer>{sections.footer(report)}</footer>
<div id="tip" role="tooltip" hidden></div>
{scripts}
</body>
</html>
"""


def _named(group: Group, among: tuple[Group, ...], heading: str) -> str:
    """Say which model and device a figure is about where there are several."""
    if len(among) < 2:
        return heading
    return f"{heading}: {group.name}"


def _score_heading(group: Group) -> str:
    name = METRICS.get(group.metric or "", "score")
    return f"{name[0].upper()}{name[1:]} against size"


def _properties() -> str:
    """Write both palettes as custom properties; paper is always printed light."""
    light, dark = (
        "".join(f"--{name}: {colour}; " for name, colour in palette.items())
        for palette in (COLOURS, DARK)
    )
    return (
        f":root {{ {light}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
        f"@media print {{ :root {{ {light}}} }}"
    )


def _themed(picture: str) -> str:
    """Replace a chart's fixed colours by the page's custom properties, to follow its theme."""
    for name, colour in COLOURS.items():
        picture = picture.replace(f'"{colour}"', f'"var(--{name})"')
    return picture


def _embedded(spec: dict[str, Any]) -> str:
    """Write JSON that cannot end its script element, whatever the strings in it say."""
    return _themed(json.dumps(spec, separators=(",", ":"), allow_nan=False)).replace("<", "\\u003c")


def _library(code: str) -> str:
    """The bundle of Vega, Vega-Lite and Vega-Embed, from the converter's own copy: no network."""
    notice = (
        "/* Vega, Vega-Lite and Vega-Embed, copyright University of Washington Interactive Data "
        "Lab and contributors, BSD 3-Clause; with D3, copyright Mike Bostock, ISC. */"
    )
    return f"{notice}\n{code}".replace("</script", "<\\/script")


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")

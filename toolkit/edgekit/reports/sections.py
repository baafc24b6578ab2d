"""The page's sections as HTML, but for its tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from edgekit.printable import printable
from edgekit.records import Report
from edgekit.reports.device_comparison import (
    compare_devices,
    device_names,
)
from edgekit.reports.findings import collapsed_files, reasons
from edgekit.reports.formatted_rows import FormattedRow, formatted_rows
from edgekit.reports.formatting import (
    ABOUT_THE_SAME,
    compared,
    drop_unit,
    metric_title,
    timing_text,
)
from edgekit.reports.glossary import VERDICTS
from edgekit.reports.groups import Group, groups_by_model
from edgekit.reports.next_command import explanation, next_command
from edgekit.reports.page_text import capitalized, escaped, fact_list, typographic

NOTHING = "No file is recommended"
MOST_LOSSES = 12
"""Lost outputs and classes of one file that are not folded."""
PREPROCESSING = "preprocessing"
"""The entry of `Report.data` that has a section of its own."""


def alerts(report: Report) -> str:
    """Say why nothing can be recommended."""
    if not report.alerts:
        return ""
    texts = "".join(f"<p>{escaped(text)}</p>" for text in report.alerts)
    return f'<section class="card chosen alert"><h2>Not to be shipped yet</h2>{texts}</section>'


def collapses(report: Report) -> str:
    """List what the files lost, file by file."""
    lost = collapsed_files(report)
    if not lost:
        return ""
    items = "".join(
        f"<dt>{escaped(name)}</dt><dd>{_lines(texts)}</dd>" for name, texts in lost.items()
    )
    return (
        '<section class="warnings lost"><h2>Lost outputs and classes</h2>'
        f'<p>These files are not recommended.</p><dl class="read">{items}</dl></section>'
    )


def recommendation(report: Report) -> str:
    """Show the recommended file, why it was chosen, and what it costs."""
    why, groups = reasons(report), groups_by_model(report)
    recommended = [
        (group, line) for group in groups for line in formatted_rows(group) if line.row.recommended
    ]
    cards = []
    for group, line in recommended:
        elsewhere = _elsewhere(report, group)
        command = next_command(report, line.row)
        # The first file's card has the reason, if one model has several.
        reason = why.pop(group.model, "")
        of = group.model if len(groups) > 1 else ""
        card = _recommendation_card(
            group, line, reason=reason, elsewhere=elsewhere, command=command, of=of
        )
        cards.append(card)
    for model, reason in why.items():
        if reason:
            of = f": {escaped(printable(model))}" if len(groups) > 1 else ""
            cards.append(
                f'<section class="card chosen none"><p class="eyebrow">{NOTHING}{of}'
                f'</p><p class="reason">{escaped(_without(NOTHING, reason))}</p></section>'
            )
    return "".join(cards)


def warnings(report: Report) -> str:
    """List the warnings of the report and of its latencies."""
    names = device_names(report)
    unstable = []
    for row in report.rows:
        if row.timing and (row.timing.warning or not row.timing.stable):
            where = f" on {names[row.timing.device]}" if len(names) > 1 else ""
            warning = row.timing.warning or "the latency did not stabilize."
            unstable.append(f"{printable(row.artifact.variant)}{where}: {warning}")
    texts = dict.fromkeys((*report.warnings, *unstable))
    if not texts:
        return ""
    items = "".join(f"<li>{escaped(text)}</li>" for text in texts)
    return f'<section class="warnings"><h2>Warnings</h2><ul>{items}</ul></section>'


def request(report: Report) -> str:
    """List what was requested."""
    pairs = {key: value for key, value in report.asked.items() if key != "command"}
    return f"<section><h2>Request</h2>{fact_list(pairs)}</section>" if pairs else ""


def preprocessing(report: Report) -> str:
    """Say how raw inputs become what the model takes, and how that was found."""
    text = report.data.get(PREPROCESSING)
    return f"<section><h2>Preprocessing</h2><p>{escaped(text)}</p></section>" if text else ""


def verdicts(report: Report) -> str:
    """Explain the verdicts that occur."""
    found = [v for v in VERDICTS if any(row.drop and row.drop.verdict == v for row in report.rows)]
    if not found:
        return ""
    text = "; ".join(f"<b>{verdict}</b>: {VERDICTS[verdict]}" for verdict in found)
    return f'<p class="note">Verdicts: {text}.</p>'


def score_legend(group: Group) -> str:
    """Explain the marks of the score chart."""
    keys = [("ring", "recommended")] if any(row.recommended for row in group.rows) else []
    keys.append(("step", "Pareto front: nothing is both smaller and better"))
    if group.baseline and group.baseline.score:
        keys.append(("dash", "float32"))
    keys.append(("bar", "95 % interval"))
    if group.device:
        keys.append(("dot", "area: p50 latency"))
    return _keys(keys)


def latency_legend(group: Group) -> str:
    """Explain the marks of the latency chart, and how it was measured."""
    timing = next((row.timing for row in group.rows if row.timing), None)
    where = f" {escaped(timing_text(timing))}." if timing else ""
    return f"Bar: median of single inferences. Whisker: up to the 90th percentile.{where}"


def data(report: Report) -> str:
    """Describe the samples that were used."""
    pairs = {key: value for key, value in report.data.items() if key != PREPROCESSING}
    for row in report.rows:
        # A manifest is read from a file: it may hold anything.
        check = row.artifact.manifest.get("lowering")
        difference = check.get("max_abs_difference") if isinstance(check, Mapping) else None
        if isinstance(check, Mapping) and isinstance(difference, float):
            pairs.setdefault(
                "float32 file against the source model",
                f"largest difference {difference:.3g} over {check.get('samples', '?')} samples",
            )
    return f"<section><h2>Data</h2>{fact_list(pairs)}</section>" if pairs else ""


def conditions(report: Report) -> str:
    """Describe devices, conditions and versions of the measurements."""
    timed = [row.timing for row in report.rows if row.timing]
    names = dict.fromkeys((*(timing.device for timing in timed), *report.devices))
    alone = len(names) < 2
    parts: list[tuple[str, Mapping[str, str]]] = []
    if alone or report.device:
        parts.append(("Device and conditions" if alone else "Device", report.device))
    for name in names:
        facts = dict(report.devices.get(name, {}))
        for timing in timed:
            for key, value in timing.conditions.items():
                if timing.device == name and value not in (None, "", {}, []):
                    facts.setdefault(str(key).replace("_", " "), _condition_text(value))
        parts = [(parts[0][0], {**report.device, **facts})] if alone else [*parts, (name, facts)]
    columns = "".join(
        f"<div><h3>{escaped(name)}</h3>{fact_list(p, names=p is report.versions)}</div>"
        for name, p in (*parts, ("Versions", report.versions))
        if p
    )
    return (
        f'<section><h2>How it was measured</h2><div class="columns">{columns}</div></section>'
        if columns
        else ""
    )


def reproduce(report: Report) -> str:
    """Show the command that reproduces the files."""
    command = report.asked.get("command")
    if not command:
        return ""
    return (
        f'<section><h2>Reproduce</h2><pre class="card"><code>{escaped(command)}</code></pre>'
        '<p class="note">With the versions above and the same data the files are '
        "byte-identical; latencies vary with the machine.</p></section>"
    )


def footer(report: Report) -> str:
    """List every file with its digest."""
    files = {(row.artifact.path, row.artifact.sha256) for row in report.rows}
    items = "".join(
        f"<dt>{escaped(path)}</dt><dd><code>{escaped(sha256)}</code></dd>"
        for path, sha256 in sorted(files)
    )
    return (
        '<details><summary>Files and their SHA-256</summary><dl class="facts names">'
        f"{items}</dl></details>"
        if items
        else ""
    )


def _lines(texts: Sequence[str]) -> str:
    """Return a line for each text; all but the first are folded where there are many."""
    first, rest = texts[:MOST_LOSSES], texts[MOST_LOSSES:]
    shown = "<br>".join(map(escaped, first))
    if not rest:
        return shown
    folded = "<br>".join(map(escaped, rest))
    return f"{shown}<details><summary>{len(rest):,} more</summary>{folded}</details>"


def _without(heading: str, text: str) -> str:
    """Return the text without the heading under which it stands."""
    return capitalized(text.removeprefix(f"{heading}: "))


def _elsewhere(report: Report, group: Group) -> list[tuple[str, str, str]]:
    """Return the recommended file's latency on each of several devices."""
    return [
        (
            f"Latency on {name}",
            cell.latency,
            _against(cell.ratio, "faster", "slower", equal=cell.as_fast),
        )
        for one in compare_devices(report)
        for line in one.files
        if one.model == group.model and line.recommended
        for name, cell in zip(one.devices, line.cells, strict=True)
        if cell
    ]


def _recommendation_card(
    group: Group,
    line: FormattedRow,
    *,
    reason: str,
    elsewhere: Iterable[tuple[str, str, str]],
    command: str,
    of: str,
) -> str:
    row = line.row
    figures = [("Size", line.size, _against(line.size_ratio, "smaller", "larger"))]
    if row.score:
        name = metric_title(row.score.metric)
        below = f"{line.score_interval}\n95 % interval, n\u00a0=\u00a0{row.score.n:,}"
        figures.append((capitalized(name), line.score, below))
    if line.drop:
        below = f"{line.drop_interval}\n95 % interval: {line.verdict}"
        figures.append((f"Drop, {drop_unit(group.metric)}", line.drop, below))
    if line.latency:
        below = _against(line.latency_ratio, "faster", "slower", equal=line.as_fast)
        figures.append(("Latency, median", line.latency, below))
    figures += elsewhere
    items = "".join(
        f"<div><dt>{escaped(name)}</dt><dd><b>{typographic(figure)}</b>"
        f"<span>{typographic(below)}</span></dd></div>"
        for name, figure, below in figures
    )
    why = f'<p class="reason">{escaped(reason)}</p>' if reason else ""
    eyebrow = f"Recommended: {printable(of)}" if of else "Recommended"
    said = explanation(command)
    said = f"<small>{escaped(said)}.</small>" if said else ""
    return (
        f'<section class="card chosen"><p class="eyebrow">{escaped(eyebrow)}</p>'
        f"<h2>{escaped(printable(row.artifact.path.name))}</h2>{why}"
        f'<dl class="figures">{items}</dl>'
        f'<p class="path"><code>{escaped(row.artifact.path)}</code></p>'
        f'<p class="next"><b>Next</b> <code>{html.escape(command)}</code>{said}</p></section>'
    )


def _condition_text(value: object) -> str:
    """Return a condition as text: {"load_average": 0.2} is load average 0.2."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{str(key).replace('_', ' ')} {one}" for key, one in value.items())


def _keys(keys: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<span class="key"><i class="{kind}"></i>{text}</span>' for kind, text in keys)


def _against(ratio: float | None, better: str, worse: str, *, equal: bool = False) -> str:
    text = compared(ratio, better, worse, equal=equal)
    return text and f"{text}\n{'as' if text == ABOUT_THE_SAME else 'than'} float32"

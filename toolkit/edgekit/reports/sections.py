"""The page's sections, from records to HTML. Everything that is not ours is escaped here."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping

from edgekit.records import Report
from edgekit.reports.device_comparison import RULE, Across, Cell, across, device_names
from edgekit.reports.figures import (
    ALIKE,
    METRICS,
    VERDICTS,
    Group,
    Line,
    compared,
    drop_unit,
    latency_text,
    lines,
    models,
    plain,
    timing_text,
)


def escaped(text: object) -> str:
    """Make text from outside inert in HTML."""
    return html.escape(plain(text))


def chosen(report: Report) -> str:
    """Say first which file to ship, why, and what it costs."""
    cards = [
        _chosen_card(group, line, report.reason if position == 0 else "", _elsewhere(report, group))
        for position, (group, line) in enumerate(
            (group, line) for group in models(report) for line in lines(group)
            if line.row.recommended
        )
    ]  # fmt: skip
    if cards:
        return "".join(cards)
    if not report.reason:
        return ""
    return (
        '<section class="card chosen none"><p class="eyebrow">No file is recommended</p>'
        f'<p class="reason">{escaped(report.reason)}</p></section>'
    )


def warnings(report: Report) -> str:
    """List what the reader must know before believing the figures."""
    names = device_names(report)
    unstable = []
    for row in report.rows:
        if row.timing and (row.timing.warning or not row.timing.stable):
            where = f" on {names[row.timing.device]}" if len(names) > 1 else ""
            warning = row.timing.warning or "the latency did not settle."
            unstable.append(f"{row.artifact.variant}{where}: {warning}")
    texts = dict.fromkeys((*report.warnings, *unstable))
    if not texts:
        return ""
    items = "".join(f"<li>{escaped(text)}</li>" for text in texts)
    return f'<section class="warnings"><h2>Before you rely on this</h2><ul>{items}</ul></section>'


def asked(report: Report) -> str:
    """Say what was asked for."""
    pairs = {key: value for key, value in report.asked.items() if key != "command"}
    return f"<section><h2>What was asked</h2>{_facts(pairs)}</section>" if pairs else ""


def _verdict(line: Line) -> str:
    if not line.verdict:
        return ""
    agreement = f"<small>{escaped(line.agreement)}</small>" if line.agreement else ""
    return (
        f'<span class="verdict-{escaped(line.verdict)}">{escaped(line.verdict)}</span>{agreement}'
    )


def variants(group: Group, *, several: bool) -> str:
    """Tabulate the rows of a group; intervals and ratios below the figures."""
    shown = lines(group)
    metric = METRICS.get(group.metric or "", "score")
    unit = drop_unit(group.metric)
    agreeing = "agrees with float32" if any(line.agreement for line in shown) else ""
    columns: list[tuple[str, str, str, Callable[[Line], str]]] = [
        ("Size", "against float32", "", lambda line: _stacked(
            line, "size", line.size, compared(line.size_ratio, "smaller", "larger"))),
        (metric[0].upper() + metric[1:], "95 % interval", "score", lambda line: _stacked(
            line, "score", line.score, line.score_interval)),
        (f"Drop, {unit}" if unit else "Drop", "95 % interval", "drop", lambda line: _stacked(
            line, "drop", line.drop, line.drop_interval)),
        ("Verdict", agreeing, "verdict", _verdict),
        ("Latency", "p50, against float32, p90", "latency", lambda line: _stacked(
            line, "latency", line.latency, compared(line.latency_ratio, "faster", "slower"), (
                f"p90 {latency_text(line.row.timing.percentile_ms(90))}" if line.row.timing else ""
            ))),
    ]  # fmt: skip
    if group.staged:
        columns.insert(1, ("Download", "deflated, MACs", "", lambda line: _stacked(
            line, "download", line.download,
            compared(line.download_ratio, "smaller", "larger"), f"{line.macs} MACs")))  # fmt: skip
    kept = [c for c in columns if not c[2] or any(getattr(line, c[2]) for line in shown)]
    head = "".join(
        f'<th scope="col">{escaped(name)}{f"<small>{below}</small>" if below else ""}</th>'
        for name, below, _, _ in kept
    )
    rows = "".join(
        f"<tr{' class=recommended' if line.row.recommended else ''}>"
        f'<th scope="row">{escaped(line.label)}'
        f"{'<small>recommended</small>' if line.row.recommended else ''}</th>"
        + "".join(
            f'<td data-label="{escaped(name)}">{cell(line)}</td>' for name, _, _, cell in kept
        )
        + "</tr>"
        for line in shown
    )
    heading = ""
    if several:
        heading = f"<h3>{escaped(group.name)}</h3>"
    timed = next((line.row.timing for line in shown if line.row.timing), None)
    caption = ""
    if timed is None or group.device:
        told = f"Latency: {escaped(timing_text(timed))}." if timed else "Latency: not taken."
        caption = f"<caption>{told}</caption>"
    return (
        f'{heading}<div class="card variants scroll" tabindex="0"><table>{caption}'
        f'<thead><tr><th scope="col">Variant</th>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def latencies(one: Across, *, several: bool) -> str:
    """Tabulate the latencies of a model on several devices, a column each."""

    def cell(found: Cell | None) -> str:
        if found is None:
            return "\u2013"
        figure = _number(found.latency)
        below = (compared(found.ratio, "faster", "slower"), f"p90 {found.p90}", found.score)
        return (f'<span class="best">{figure}</span>' if found.best else figure) + "".join(
            f"<small>{_number(text)}</small>" for text in below if text
        )

    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in one.devices)
    rows = "".join(
        f"<tr{' class=recommended' if line.recommended else ''}>"
        f'<th scope="row">{escaped(line.label)}'
        f"{'<small>recommended</small>' if line.recommended else ''}</th>"
        + "".join(
            f'<td data-label="{escaped(name)}">{cell(found)}</td>'
            for name, found in zip(one.devices, line.cells, strict=True)
        )
        + "</tr>"
        for line in one.lines
    )
    of = f"{escaped(one.model)}: latency" if several else "Latency"
    return (
        f"<h3>{of} on {len(one.devices)} devices</h3>"
        '<div class="card variants scroll" tabindex="0"><table>'
        f"<caption>p50, against float32, p90. {RULE}</caption>"
        f'<thead><tr><th scope="col">Variant</th>{head}</tr></thead><tbody>{rows}</tbody>'
        f"</table></div>{_facts(one.devices, names=True)}"
    )


def verdicts(report: Report) -> str:
    """Explain the verdicts that occur."""
    found = [v for v in VERDICTS if any(row.drop and row.drop.verdict == v for row in report.rows)]
    if not found:
        return ""
    text = "; ".join(f"<b>{verdict}</b>: {VERDICTS[verdict]}" for verdict in found)
    return f'<p class="note">Verdicts: {text}.</p>'


def score_legend(group: Group) -> str:
    """Explain the marks of the score chart."""
    keys = [
        ("ring", "recommended"),
        ("step", "Pareto front: nothing is both smaller and better"),
        ("bar", "95 % interval"),
    ]
    if group.baseline and group.baseline.score:
        keys.insert(2, ("dash", "float32"))
    if group.device:
        keys.append(("dot", "area: p50 latency"))
    return _keys(keys)


def latency_legend(group: Group) -> str:
    """Explain the marks of the latency chart, and where it was taken."""
    timing = next((row.timing for row in group.rows if row.timing), None)
    where = f" {escaped(timing_text(timing))}." if timing else ""
    return f"Bar: median of single inferences. Whisker: up to the 90th percentile.{where}"


def per_class(group: Group) -> str:
    """Tabulate recall and precision of the recommended (else first) scored classifier."""
    scored = [line for line in lines(group) if line.row.score and line.row.score.per_class]
    if not scored:
        return ""
    line = next((line for line in scored if line.row.recommended), scored[0])
    base = group.baseline
    before = {}
    if base and base.score and base is not line.row:
        before = {one.label: one.recall for one in base.score.per_class}
    score = line.row.score
    assert score is not None
    extra = '<th scope="col">Recall, float32</th>' if before else ""
    rows = "".join(
        f'<tr><th scope="row">{escaped(one.label)}</th><td>{one.n:,}</td>'
        f"<td>{100 * one.recall:.2f} %</td>"
        + (
            f"<td>{100 * before[one.label]:.2f} %</td>"
            if one.label in before
            else "<td></td>" * bool(before)
        )
        + f"<td>{100 * one.precision:.2f} %</td></tr>"
        for one in score.per_class
    )
    return (
        f'<details class="card"><summary>Class by class: {escaped(line.label)}</summary>'
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Class</th>'
        f'<th scope="col">Test samples</th><th scope="col">Recall</th>{extra}'
        f'<th scope="col">Precision</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def data(report: Report) -> str:
    """Say on which samples the figures rest."""
    pairs = dict(report.data)
    for row in report.rows:
        # A manifest is read as it lies beside a file: anything may be in it.
        check = row.artifact.manifest.get("lowering")
        difference = check.get("max_abs_difference") if isinstance(check, Mapping) else None
        if isinstance(check, Mapping) and isinstance(difference, float):
            pairs.setdefault(
                "float32 file against the source model",
                f"largest difference {difference:.3g} over {check.get('samples', '?')} samples",
            )
    return f"<section><h2>Data</h2>{_facts(pairs)}</section>" if pairs else ""


def conditions(report: Report) -> str:
    """Say where, with what and under which conditions it was measured, one device at a time."""
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
                    facts.setdefault(str(key).replace("_", " "), _told(value))
        parts = [(parts[0][0], {**report.device, **facts})] if alone else [*parts, (name, facts)]
    columns = "".join(
        f"<div><h3>{escaped(name)}</h3>{_facts(p, names=p is report.versions)}</div>"
        for name, p in (*parts, ("Versions", report.versions))
        if p
    )
    return (
        f'<section><h2>How it was measured</h2><div class="columns">{columns}</div></section>'
        if columns
        else ""
    )


def reproduce(report: Report) -> str:
    """Give the command that makes all this again."""
    command = report.asked.get("command")
    if not command:
        return ""
    return (
        f'<section><h2>Make it again</h2><pre class="card"><code>{escaped(command)}</code></pre>'
        '<p class="note">With the versions above and the same data the files come out '
        "byte for byte the same; latencies vary with the machine.</p></section>"
    )


def footer(report: Report) -> str:
    """Name every file with its digest, so that a page and a file can be matched."""
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


def _elsewhere(report: Report, group: Group) -> list[tuple[str, str, str]]:
    """The recommended file's latency on each of several devices, as figures of the card."""
    return [
        (f"Latency on {name}", cell.latency, _against(cell.ratio, "faster", "slower"))
        for one in across(report)
        for line in one.lines
        if one.model == group.model and line.recommended
        for name, cell in zip(one.devices, line.cells, strict=True)
        if cell
    ]


def _chosen_card(
    group: Group, line: Line, reason: str, elsewhere: Iterable[tuple[str, str, str]]
) -> str:
    row = line.row
    figures = [("Size", line.size, _against(line.size_ratio, "smaller", "larger"))]
    if row.score:
        name = METRICS[row.score.metric]
        below = f"{line.score_interval}\n95 % interval, n\u00a0=\u00a0{row.score.n:,}"
        figures.append((name[0].upper() + name[1:], line.score, below))
    if line.drop:
        below = f"{line.drop_interval}\n95 % interval: {line.verdict}"
        figures.append((f"Drop, {drop_unit(group.metric)}", line.drop, below))
    if line.latency:
        below = _against(line.latency_ratio, "faster", "slower")
        figures.append(("Latency, median", line.latency, below))
    figures += elsewhere
    items = "".join(
        f"<div><dt>{escaped(name)}</dt><dd><b>{_number(figure)}</b>"
        f"<span>{_number(below)}</span></dd></div>"
        for name, figure, below in figures
    )
    why = f'<p class="reason">{escaped(reason)}</p>' if reason else ""
    return (
        '<section class="card chosen"><p class="eyebrow">Recommended</p>'
        f"<h2>{escaped(row.artifact.path.name)}</h2>{why}"
        f'<dl class="figures">{items}</dl>'
        f'<p class="path"><code>{escaped(row.artifact.path)}</code></p></section>'
    )


def _told(value: object) -> str:
    """Say a condition in words: {"load_average": 0.2} is load average 0.2."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{str(key).replace('_', ' ')} {one}" for key, one in value.items())


def _facts(pairs: Mapping[str, object], *, names: bool = False) -> str:
    items = "".join(
        f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in pairs.items()
    )
    return f'<dl class="facts{" names" if names else ""}">{items}</dl>'


def _keys(keys: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<span class="key"><i class="{kind}"></i>{text}</span>' for kind, text in keys)


def _against(ratio: float | None, better: str, worse: str) -> str:
    text = compared(ratio, better, worse)
    return text and f"{text}\n{'as' if text == ALIKE else 'than'} float32"


def _number(text: str) -> str:
    """Set a figure with the true minus and times signs; it came from `figures`, not outside."""
    return text.replace("-", "\u2212").replace("x ", "\u00d7 ").replace("\n", "<br>")


def _stacked(line: Line, column: str, figure: str, *below: str) -> str:
    if not figure:
        return ""
    shown = f'<span class="best">{_number(figure)}</span>' if column in line.best else ""
    return (shown or _number(figure)) + "".join(
        f"<small>{_number(text)}</small>" for text in below if text
    )

"""The columns of every table of rows. A new one is an entry in `COLUMNS`.

The terminal, Markdown and the page show the columns that have values in a group of rows; CSV always
has the fields of all of them, so that scripts can rely on its header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from edgekit.modes import FLOAT32
from edgekit.printable import printable
from edgekit.records import Artifact, Drop, Inspection, Score, Timing
from edgekit.reports import further
from edgekit.reports.findings import collapse_text
from edgekit.reports.formatted_rows import FormattedRow
from edgekit.reports.formatting import (
    drop_unit,
    latency_text,
    metric_title,
    size_text,
)
from edgekit.reports.groups import Group

Field = Callable[[FormattedRow], object]

MOST_SHOWN = 4
"""Further metrics, and further outputs, that have a column; JSON and CSV have them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure of one row.

    Attributes:
        figure: With its unit; "" where nothing was measured.
        note: What belongs to it in every table: its interval.
        ratio: How many times better than float32, or None.
        equal: Whether that is within the noise, so that in words it is none.
        details: What only the page has room for.
        best: Whether it is the best of its group.
        css_class: Its style on the page.
    """

    figure: str
    note: str = ""
    ratio: float | None = None
    equal: bool = False
    details: tuple[str, ...] = ()
    best: bool = False
    css_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table of rows.

    Attributes:
        title: Its heading, in lower case; of a group where it depends on the metric.
        cell: Its figure of a row.
        subtitle: What `Cell.figure` or `Cell.note` is: "95 % interval", "p50"; of a group where it
            depends on its files.
        unit: The unit where cells are without it, "" for none.
        better: What a ratio above 1 is called, where cells have ratios: "smaller".
        worse: What a ratio below 1 is called.
        details: What `Cell.details` are: "p90".
        present: Whether it applies to a group; it is also left out where none of the rows has a
            figure.
        terminal: How a table of 80 characters shows it: in a column of its own, before or below
            the figure of the column to its left, or not at all.
        page: How the page shows it, which is wider.
        terminal_heading: Two short lines for it, where title and subtitle are too wide there; ""
            for title and subtitle.
        optional: Whether the terminal leaves it out where there is no room, the last one first.
        align: Where its figures are in Markdown.
        csv: Field name -> its unrounded value.
    """

    title: str | Callable[[Group], str]
    cell: Callable[[FormattedRow], Cell]
    subtitle: str | Callable[[Group], str] = ""
    unit: Callable[[Group], str] = lambda _: ""
    better: str = ""
    worse: str = ""
    details: tuple[str, ...] = ()
    present: Callable[[Group], bool] = lambda _: True
    terminal: Literal["own", "before", "below", "none"] = "own"
    page: Literal["own", "below"] = "own"
    terminal_heading: Callable[[Group], str] = lambda _: ""
    optional: bool = False
    align: Literal["left", "right"] = "right"
    csv: Mapping[str, Field] = field(default_factory=dict)

    def heading(self, group: Group) -> str:
        """Its title in a table of this group."""
        return self.title if isinstance(self.title, str) else self.title(group)

    def subheading(self, group: Group) -> str:
        """Its subtitle in a table of this group."""
        return self.subtitle if isinstance(self.subtitle, str) else self.subtitle(group)


def present_columns(group: Group, rows: Sequence[FormattedRow]) -> tuple[Column, ...]:
    """Return the columns that have figures for these rows of the group."""
    return tuple(
        column
        for column in COLUMNS
        if column.present(group) and any(column.cell(row).figure for row in rows)
    )


def stacked(
    columns: Sequence[Column], layout: Literal["terminal", "page"]
) -> Iterator[tuple[Column, tuple[Column, ...]]]:
    """Yield each column of its own in this layout, and those that share it."""

    def where(column: Column) -> str:
        return column.terminal if layout == "terminal" else column.page

    def shares(column: Column) -> bool:
        return where(column) != "own"

    columns = [column for column in columns if where(column) != "none"]
    for position, column in enumerate(columns):
        # The first has no column to share.
        if position == 0 or not shares(column):
            yield column, tuple(takewhile(shares, columns[position + 1 :]))


def csv_fields() -> dict[str, Field]:
    """Return every field of a CSV file: what the row is, then those of each column."""
    fields = dict(_IDENTITY)
    for column in COLUMNS:
        fields |= column.csv
    fields |= _CHOICE
    return fields


def _file(read: Callable[[Artifact], object]) -> Field:
    return lambda line: None if line.row.is_source else read(line.row.artifact)


def _inspection(read: Callable[[Inspection], object]) -> Field:
    return lambda line: read(line.row.inspection) if line.row.inspection else None


def _score(read: Callable[[Score], object]) -> Field:
    return lambda line: read(line.row.score) if line.row.score else None


def _drop(read: Callable[[Drop], object]) -> Field:
    return lambda line: read(line.row.drop) if line.row.drop else None


def _timing(read: Callable[[Timing], object]) -> Field:
    return lambda line: read(line.row.timing) if line.row.timing else None


def _least_sqnr(line: FormattedRow) -> float | None:
    """The SQNR of the worst output, in dB; None where no output differs, or none was compared."""
    return min((one.sqnr_db for one in line.row.fidelity if one.sqnr_db is not None), default=None)


def _fidelity(line: FormattedRow) -> Cell:
    least = _least_sqnr(line)
    if least is not None:
        return Cell(figure=f"{least:z.1f} dB")
    return Cell(figure="exact" if line.row.fidelity else "")


def _latency(line: FormattedRow) -> Cell:
    timing = line.row.timing
    return Cell(
        figure=line.latency,
        ratio=line.latency_ratio,
        equal=line.as_fast,
        details=(f"p90 {latency_text(timing.percentile_ms(90))}",) if timing else (),
        best="latency" in line.best,
    )


def _shown(position: int) -> Column:
    """Return the column of a further metric that was asked for."""
    return Column(
        title=lambda group: metric_title(further.metric_at(group, position)),
        present=lambda group: further.metric_at(group, position) is not None,
        cell=lambda line: Cell(figure=further.metric_text(line.row.score, position)),
        optional=True,
        csv={"other_metrics": lambda line: further.metrics(line.row.score)} if not position else {},
    )


def _output(position: int) -> Column:
    """Return the column of a further output that has targets."""

    def cell(line: FormattedRow) -> Cell:
        figure, interval = further.output_texts(line.row.score, position)
        return Cell(figure=figure, note=interval)

    return Column(
        title=lambda group: further.output_at(group, position),
        subtitle=lambda group: further.output_metric(group, position),
        present=lambda group: bool(further.output_at(group, position)),
        cell=cell,
        optional=position > 0,
        csv={"other_outputs": lambda line: further.outputs(line.row.score)} if not position else {},
    )


def _agrees_with(group: Group) -> str:
    name = group.compared_with
    return f"agrees\nwith {'f32' if name == FLOAT32.name else printable(name, 9)}"


def blank(line: FormattedRow) -> str:
    """Return what stands in a column of its own without a figure: the source is no file."""
    return "-" if line.row.is_source else ""


_IDENTITY: Mapping[str, Field] = {
    "model": lambda line: line.row.model,
    "variant": lambda line: line.row.artifact.variant,
    "mode": lambda line: line.row.artifact.mode,
    "path": lambda line: line.row.artifact.path,
    "sha256": lambda line: line.row.artifact.sha256,
}
_CHOICE: Mapping[str, Field] = {
    "recommended": lambda line: str(line.row.recommended).lower(),
    "failure": lambda line: line.row.failure,
}

COLUMNS: tuple[Column, ...] = (
    Column(
        title=lambda group: "flash" if group.has_packed else "size",
        better="smaller",
        worse="larger",
        cell=lambda line: Cell(figure=line.size, ratio=line.size_ratio, best="size" in line.best),
        csv={
            "size_bytes": _file(lambda artifact: artifact.size_bytes),
            "size_deflated_bytes": _file(lambda artifact: artifact.size_deflated_bytes),
            "size_ratio": lambda line: line.size_ratio,
            "flash_bytes": _file(lambda artifact: artifact.flash_bytes),
        },
    ),
    Column(
        title="size",
        subtitle="unpacked",
        present=lambda group: group.has_packed,
        terminal="none",
        page="below",
        cell=lambda line: Cell(
            figure="" if line.row.is_source else size_text(line.row.artifact.size_bytes)
        ),
    ),
    Column(
        title="download",
        subtitle="deflated",
        better="smaller",
        worse="larger",
        present=lambda group: group.has_several_floats,
        cell=lambda line: Cell(figure=line.download, ratio=line.download_ratio),
    ),
    Column(
        title="MACs",
        present=lambda group: group.has_several_floats,
        terminal="below",
        page="below",
        cell=lambda line: Cell(figure=line.macs),
        csv={
            "macs": _inspection(lambda inspection: inspection.macs),
            "parameters": _inspection(lambda inspection: inspection.parameters),
        },
    ),
    Column(
        title=lambda group: metric_title(group.metric),
        subtitle="95 % interval",
        cell=lambda line: Cell(
            figure=line.score, note=line.score_interval, best="score" in line.best
        ),
        csv={
            "metric": _score(lambda score: score.metric),
            "score": _score(lambda score: score.value),
            "score_low": _score(lambda score: score.ci95[0]),
            "score_high": _score(lambda score: score.ci95[1]),
            "n": _score(lambda score: score.n),
        },
    ),
    Column(
        title="drop",
        subtitle="95 % interval",
        unit=lambda group: drop_unit(group.metric),
        cell=lambda line: Cell(figure=line.drop, note=line.drop_interval),
        csv={
            "drop": _drop(lambda drop: drop.value),
            "drop_low": _drop(lambda drop: drop.ci95[0]),
            "drop_high": _drop(lambda drop: drop.ci95[1]),
        },
    ),
    Column(
        title="verdict",
        terminal="before",
        align="left",
        cell=lambda line: Cell(figure=line.verdict, css_class=f"verdict-{line.verdict}"),
        csv={"verdict": lambda line: line.verdict},
    ),
    Column(
        title="agreement",
        subtitle=lambda group: f"with {group.compared_with}",
        terminal_heading=_agrees_with,
        page="below",
        optional=True,
        cell=lambda line: Cell(figure=line.agreement),
        csv={"agreement": lambda line: line.row.agreement},
    ),
    Column(
        title="fidelity",
        subtitle="SQNR, worst output",
        terminal_heading=lambda _: "fidelity\n(SQNR)",
        optional=True,
        cell=_fidelity,
        csv={
            "sqnr_db": _least_sqnr,
            "collapses": lambda line: tuple(map(collapse_text, line.row.collapses)),
        },
    ),
    *(_shown(position) for position in range(MOST_SHOWN)),
    *(_output(position) for position in range(MOST_SHOWN)),
    Column(
        title="latency",
        subtitle="p50",
        better="faster",
        worse="slower",
        details=("p90",),
        cell=_latency,
        csv={
            "p50_ms": _timing(lambda timing: timing.p50_ms),
            "p90_ms": _timing(lambda timing: timing.percentile_ms(90)),
            "p99_ms": _timing(lambda timing: timing.percentile_ms(99)),
            "mean_ms": _timing(lambda timing: timing.mean_ms),
            "latency_ratio": lambda line: line.latency_ratio,
            "invocations": _timing(lambda timing: len(timing.values_ns)),
            "threads": _timing(lambda timing: timing.threads),
            "device": lambda line: line.row.place,
            "runtime": _timing(lambda timing: timing.runtime),
            "delegate": _timing(lambda timing: timing.delegate),
        },
    ),
    Column(
        title="memory",
        subtitle="peak RSS",
        page="below",
        optional=True,
        # Of several devices it would be no more comparable than a latency.
        present=lambda group: group.device is not None,
        cell=lambda line: Cell(
            figure=size_text(line.row.timing.peak_rss_bytes)
            if line.row.timing and line.row.timing.peak_rss_bytes
            else ""
        ),
        csv={"peak_rss_bytes": _timing(lambda timing: timing.peak_rss_bytes)},
    ),
    Column(
        title="model memory",
        subtitle="weights and arena",
        terminal="none",
        page="below",
        present=lambda group: group.device is not None,
        cell=lambda line: Cell(
            figure=size_text(line.row.timing.memory_bytes)
            if line.row.timing and line.row.timing.memory_bytes
            else ""
        ),
        csv={"memory_bytes": _timing(lambda timing: timing.memory_bytes)},
    ),
)
"""In the order in which every table shows them."""

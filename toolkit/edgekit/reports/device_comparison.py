"""One table across devices: a line a file, a column a device, a ratio only within a column."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from edgekit.printable import printable
from edgekit.records import Report, Row
from edgekit.reports.figures import (
    Group,
    device_text,
    groups,
    latency_text,
    lines,
    models,
    timing_text,
)

File = tuple[str, str]  # variant and digest
RULE = (
    "Ratios are against float32 on the same device; devices are not put in ratio with each other."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A file on a device.

    Attributes:
        latency: The median, with its unit.
        p90: The 90th percentile, likewise.
        ratio: How many times faster than float32 on this device, or None.
        best: Whether nothing is faster on this device.
        score: "scores ..." where the score taken there is another than the table of files has.
    """

    latency: str
    p90: str
    ratio: float | None
    best: bool
    score: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcrossLine:
    """A file, timed in one way; None where a device has no such figure."""

    label: str
    recommended: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """One model on several devices.

    Attributes:
        devices: What each column is: short name -> device, runtime and threads in words.
        lines: The files.
    """

    model: str
    devices: dict[str, str]
    lines: tuple[AcrossLine, ...]


def across(report: Report) -> tuple[Across, ...]:
    """One table for every model that was timed on several devices."""
    names = device_names(report)
    timed = [
        replace(group, rows=rows)
        for group in groups(report)
        if (rows := tuple(row for row in group.rows if row.timing))
    ]
    return tuple(
        _across(whole, parts, names)
        for whole in models(report)
        if len(parts := [group for group in timed if group.model == whole.model]) > 1
    )


def compared_groups(report: Report) -> tuple[Group, ...]:
    """What can stand in one table: a model on its device; one on several without latencies."""
    several = {one.model for one in across(report)}
    apart = [group for group in groups(report) if group.model not in several]
    return tuple(group for group in models(report) if group.model in several) + tuple(apart)


def device_names(report: Report) -> dict[str, str]:
    """Device -> the part before the colon, made unique: "pi4: Raspberry Pi 4" is pi4."""
    devices = dict.fromkeys(row.timing.device for row in report.rows if row.timing)
    names: dict[str, str] = {}
    for device in devices:
        names[device] = _unused(printable(device.split(": ", 1)[0]) or "?", names.values())
    return names


def _across(whole: Group, parts: Sequence[Group], names: dict[str, str]) -> Across:
    often = any(len({_file(row) for row in part.rows}) < len(part.rows) for part in parts)
    cells: dict[str, list[Cell | None]] = {}
    recommended = set()
    scores = {_file(line.row): line.score for line in lines(whole)}
    files: dict[File, str] = {}
    for row in whole.rows:
        files[_file(row)] = _unused(printable(row.artifact.variant), files.values())
    for position, part in enumerate(parts):
        for line, label in zip(lines(part), _labels(part.rows, files, often=often), strict=True):
            assert line.row.timing is not None
            own = f"scores {line.score}" if line.score != scores[_file(line.row)] else ""
            cells.setdefault(label, [None] * len(parts))[position] = Cell(
                latency=line.latency,
                p90=latency_text(line.row.timing.percentile_ms(90)),
                ratio=line.latency_ratio,
                best="latency" in line.best,
                score=own,
            )
            if line.row.recommended:
                recommended.add(label)
    described = {}
    for part in parts:
        ways = dict.fromkeys(timing_text(row.timing) for row in part.rows if row.timing)
        name, device = names[part.device or ""], device_text(part.device)
        told = device.partition(": ")[2] or device
        described[name] = "; ".join(way.replace(device, told, 1) for way in ways)
    return Across(
        model=whole.model,
        devices=described,
        lines=tuple(
            AcrossLine(label=label, recommended=label in recommended, cells=tuple(row))
            for label, row in cells.items()
        ),
    )


def _labels(rows: Sequence[Row], files: dict[File, str], *, often: bool) -> list[str]:
    """Names that are the same on every device: the file, and where `often` how it was timed."""
    made: list[str] = []
    for row in rows:
        name = files[_file(row)]
        if often and row.timing:
            way = f", {printable(row.timing.delegate)}" if row.timing.delegate else ""
            name += f" ({row.timing.threads}t{way})"
        made.append(_unused(name, made))
    return made


def _file(row: Row) -> File:
    return row.artifact.variant, row.artifact.sha256


def _unused(name: str, taken: Collection[str]) -> str:
    """The name, with a number where it is taken."""
    numbered = (f"{name} #{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbered) if one not in taken)

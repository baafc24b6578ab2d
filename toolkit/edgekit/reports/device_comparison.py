"""One table of several devices: a line per file, a column per device, ratios within a column."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from edgekit.printable import printable
from edgekit.records import Report, Row
from edgekit.reports.formatted_rows import formatted_rows
from edgekit.reports.formatting import device_text, latency_text, timing_text
from edgekit.reports.groups import Group, groups_by_device, groups_by_model

File = tuple[str, str]  # variant and digest
RATIO_NOTE = (
    "Ratios are against float32 on the same device; devices are not compared with each other."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLatency:
    """The latency of a file on a device.

    Attributes:
        latency: The median, with its unit.
        p90: The 90th percentile, likewise.
        ratio: How many times faster than float32 on this device, or None.
        as_fast: Whether that is within the noise of both.
        best: Whether nothing is faster on this device.
        score: "scores ..." where the score on this device differs from the table of files.
    """

    latency: str
    p90: str
    ratio: float | None
    as_fast: bool
    best: bool
    score: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFile:
    """A file, timed in one way; None where a device has no such latency."""

    label: str
    recommended: bool
    cells: tuple[DeviceLatency | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceComparison:
    """One model on several devices.

    Attributes:
        devices: What each column is: short name -> device, runtime and threads in words.
        files: One line per file.
    """

    model: str
    devices: dict[str, str]
    files: tuple[ComparedFile, ...]


def compare_devices(report: Report) -> tuple[DeviceComparison, ...]:
    """Return a comparison for every model that was timed on several devices."""
    names = device_names(report)
    timed = [
        replace(group, rows=rows)
        for group in groups_by_device(report)
        if (rows := tuple(row for row in group.rows if row.timing))
    ]
    return tuple(
        _comparison(whole, parts, names)
        for whole in groups_by_model(report)
        if len(parts := [group for group in timed if group.model == whole.model]) > 1
    )


def table_groups(report: Report) -> tuple[Group, ...]:
    """Return the groups of the tables: a model on its device; without latencies if on several."""
    several = {one.model for one in compare_devices(report)}
    apart = [group for group in groups_by_device(report) if group.model not in several]
    return tuple(group for group in groups_by_model(report) if group.model in several) + tuple(
        apart
    )


def device_names(report: Report) -> dict[str, str]:
    """Map each device to a short unique name: "pi4: Raspberry Pi 4" is pi4."""
    devices = dict.fromkeys(row.timing.device for row in report.rows if row.timing)
    names: dict[str, str] = {}
    for device in devices:
        names[device] = _unused(printable(device.split(": ", 1)[0]) or "?", names.values())
    return names


def _comparison(whole: Group, parts: Sequence[Group], names: dict[str, str]) -> DeviceComparison:
    often = any(len({_file(row) for row in part.rows}) < len(part.rows) for part in parts)
    cells: dict[str, list[DeviceLatency | None]] = {}
    recommended = set()
    scores = {_file(line.row): line.score for line in formatted_rows(whole)}
    files: dict[File, str] = {}
    for row in whole.rows:
        files[_file(row)] = _unused(printable(row.artifact.variant), files.values())
    for position, part in enumerate(parts):
        for line, label in zip(
            formatted_rows(part), _labels(part.rows, files, often=often), strict=True
        ):
            assert line.row.timing is not None
            own = f"scores {line.score}" if line.score != scores[_file(line.row)] else ""
            cells.setdefault(label, [None] * len(parts))[position] = DeviceLatency(
                latency=line.latency,
                p90=latency_text(line.row.timing.percentile_ms(90)),
                ratio=line.latency_ratio,
                as_fast=line.as_fast,
                best="latency" in line.best,
                score=own,
            )
            if line.row.recommended:
                recommended.add(label)
    described = {}
    for part in parts:
        ways = dict.fromkeys(timing_text(row.timing) for row in part.rows if row.timing)
        name, device = names[part.device or ""], device_text(part.device)
        description = device.partition(": ")[2] or device
        described[name] = "; ".join(way.replace(device, description, 1) for way in ways)
    return DeviceComparison(
        model=whole.model,
        devices=described,
        files=tuple(
            ComparedFile(label=label, recommended=label in recommended, cells=tuple(row))
            for label, row in cells.items()
        ),
    )


def _labels(rows: Sequence[Row], files: dict[File, str], *, often: bool) -> list[str]:
    """Return names that are the same on every device: the file, if `often` how it was timed."""
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
    """Return the name, with a number where it is in use."""
    numbered = (f"{name} #{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbered) if one not in taken)

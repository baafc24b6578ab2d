"""Rows grouped so that only comparable ones share a table or a chart."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.modes import FLOAT32
from edgekit.printable import printable
from edgekit.records import Report, Row
from edgekit.reports.formatting import device_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that may be compared: one model, timed on one device (None: latencies are not shown)."""

    model: str
    device: str | None
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The model, and the device where latencies are shown, in words."""
        where = f" on {device_text(self.device)}" if self.device else ""
        return f"{printable(self.model)}{where}"

    @property
    def baseline(self) -> Row | None:
        """The float32 row, the baseline of size and latency ratios."""
        return next((row for row in self.rows if is_float(row)), None)

    @property
    def files(self) -> tuple[Row, ...]:
        """The rows of files: all but the source's."""
        return tuple(row for row in self.rows if not row.is_source)

    @property
    def compared_with(self) -> str:
        """What drops and agreement are against: the first file that is scored, by name."""
        first = next((row for row in self.files if row.score), None)
        return (
            FLOAT32.name if first is None or is_float(first) else printable(first.artifact.variant)
        )

    @property
    def has_several_floats(self) -> bool:
        """Whether it holds several float models: compression shows in their download and MACs."""
        return sum(row.artifact.mode == FLOAT32.name for row in self.rows) > 1

    @property
    def has_packed(self) -> bool:
        """Whether a file is stored packed: then its size on flash is not that of its content."""
        return any(row.artifact.gzip_bytes is not None for row in self.files)

    @property
    def metric(self) -> str | None:
        """The metric of the rows that are scored."""
        return next((row.score.metric for row in self.rows if row.score), None)


def groups_by_device(report: Report) -> tuple[Group, ...]:
    """Split a report so that models and devices are never compared with each other."""
    made = []
    for model in dict.fromkeys(row.model for row in report.rows):
        rows = [row for row in report.rows if row.model == model]
        devices = dict.fromkeys(row.place for row in rows if row.place)
        if len(devices) < 2:
            made.append(Group(model=model, device=next(iter(devices), None), rows=tuple(rows)))
            continue
        # The source belongs to no device: it stands once, on top.
        first = next(iter(devices))
        for device in (*devices, None):
            part = tuple(r for r in rows if (first if r.is_source else r.place) == device)
            if part:
                made.append(Group(model=model, device=device, rows=part))
    return tuple(made)


def groups_by_model(report: Report) -> tuple[Group, ...]:
    """Return one group per model, every file once: for what does not depend on the device."""
    made = []
    for model in dict.fromkeys(row.model for row in report.rows):
        files = {
            (row.artifact.variant, row.artifact.sha256): row
            for row in reversed(report.rows)
            if row.model == model
        }
        devices = {row.timing.device for row in report.rows if row.model == model and row.timing}
        made.append(
            Group(
                model=model,
                device=devices.pop() if len(devices) == 1 else None,
                rows=tuple(reversed(files.values())),
            )
        )
    return tuple(made)


def is_float(row: Row) -> bool:
    """Whether this is the float32 file."""
    return FLOAT32.name in (row.artifact.mode, row.artifact.variant)

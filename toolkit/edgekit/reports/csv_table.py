"""Reports as CSV: unrounded figures for other programs."""

from __future__ import annotations

import csv as csv_format
import io
from numbers import Real
from pathlib import Path
from typing import Any

from edgekit.printable import MOST_PATH, printable
from edgekit.records import Report
from edgekit.reports.columns import csv_fields
from edgekit.reports.formatted_rows import formatted_rows
from edgekit.reports.groups import groups_by_device

_MOST_CELL = 100
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(report: Report) -> str:
    """Return one line per row with unrounded figures, units in the column names."""
    stream = io.StringIO()
    fields = csv_fields()
    writer = csv_format.writer(stream, lineterminator="\n")
    writer.writerow(fields)
    for group in groups_by_device(report):
        for line in formatted_rows(group):
            writer.writerow(_cell(value(line)) for value in fields.values())
    return stream.getvalue()


def _cell(value: Any) -> Any:
    """Return a cell as spreadsheets may read it: numbers as they are, text never a formula.

    A text that would begin one is put behind an apostrophe, which spreadsheets do not show.
    """
    if value is None or isinstance(value, Real):
        return value
    if isinstance(value, tuple):
        text = "; ".join(printable(one, _MOST_CELL) for one in value)
    else:
        # A path must open its file; a name need only be told from others.
        text = printable(value, MOST_PATH if isinstance(value, Path) else _MOST_CELL)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text

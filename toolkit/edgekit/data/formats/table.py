"""Tables: `.csv` files with a header, numeric columns and a target column."""

from __future__ import annotations

import csv
import difflib
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path

import numpy as np

from edgekit.data.formats.format import Format
from edgekit.data.formats.validation import VALIDATION, substitute_test
from edgekit.data.formats.windows import cut_windows, overlapping
from edgekit.data.labels import number_labels
from edgekit.data.store import ArrayStore, RawDataset, array_store
from edgekit.errors import DataError, UsageError
from edgekit.records import EACH_ROW, Array, TableOptions

INDEX_NAMES = ("", "unnamed: 0", "index", "id")
"""Names of columns that only count the rows, in lower case."""
# 31.12.2024, 12/31/24 10:30, 10:30:00
DATE = re.compile(
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?|\d{1,2}:\d{2}(:\d{2})?"
)
FLOAT32_MAX = float(np.finfo(np.float32).max)


def open_csv(
    path: Path,
    target: str | None,
    seed: int,
    share: float | None = None,
    table: TableOptions = EACH_ROW,
) -> RawDataset:
    """Open a `.csv` file; all columns but the target (and `split`) become one input, in order.

    Columns of dates and one that only counts the rows are left out, with a note.

    Args:
        path: The file, separated by commas, semicolons or tabs.
        target: The column to predict.
        seed: Draws the test split where no column `split` says train or test.
        share: The share of that test split; None takes a fifth.
        table: How rows become samples.

    Raises:
        UsageError: No target is given, or there is no such column.
        DataError: No header, a cell that is no number, a row of another length.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            rows = csv.reader(stream, delimiter=max(",;\t", key=first.count))
            header = _header(next(rows, []), path)
            target = _target(target, header, path)
            for name in (table.group, *table.ignore):
                if name is not None and name not in header:
                    raise _no_column(name, header, path)
            found = _columns(_numbered(rows, header, path), header, target, table, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table.", found=f"{error}.", hint="Save it as UTF-8 .csv."
        ) from error
    if not found.targets:
        raise DataError(f"{path} has a header but no rows.", hint="Add at least one row.")
    (wanted,), labels, note = number_labels([_typed(found.targets)], None, str(path))
    assert wanted is not None, "a table's target is never missing"
    windows = cut_windows(
        wanted, found.splits, found.groups, table, share=share, seed=seed, place=str(path)
    )
    tested, notes = substitute_test(set(windows.splits.tolist()), "split = {}")
    notes = [*([note] if note else []), *found.notes, *notes, *windows.notes]

    def store(split: str) -> ArrayStore | None:
        chosen = np.flatnonzero(windows.splits == split)
        if not len(chosen):
            return None
        rows = windows.rows[chosen]
        features = found.features[rows if table.window else rows[:, 0]]
        groups = None if windows.groups is None else windows.groups[chosen]
        stored = array_store({"x": features}, wanted[rows[:, -1]], groups)
        return replace(stored, overlap=overlapping(table))

    return RawDataset(
        name=path.stem,
        train=store("train"),
        test=store(tested),
        drawn=not found.splits,
        labels=labels,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table hold.

    Attributes:
        features: Columns of numbers that are inputs, float32 `[rows, columns]`.
        targets: The target's cells.
        splits: Cells of the column `split`; empty without one.
        groups: Cells of the group's column; empty without one.
        notes: Columns that were left out unasked.
    """

    features: Array
    targets: list[str]
    splits: list[str]
    groups: list[str]
    notes: tuple[str, ...]


def _header(cells: Sequence[str], path: Path) -> list[str]:
    header = [" ".join(cell.split()) for cell in cells]
    if not header or all(_number(cell) is not None for cell in header):
        raise DataError(
            f"{path} has no header.",
            found=f"The first line is {','.join(cells)[:60]!r}.",
            hint="Put the names of the columns into the first line.",
        )
    strange = [name for name in header if not name.isprintable()]
    if strange:
        raise DataError(
            f"{path}: the name of column {header.index(strange[0]) + 1} holds a control character.",
            found=f"It is {strange[0]!r:.80}.",
            hint="Rename it; --column takes printable names.",
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}.", hint="Rename one.")
    return header


def _target(target: str | None, header: Sequence[str], path: Path) -> str:
    if target is not None and target in header:
        return target
    if target is None:
        raise UsageError(
            f"{path}: which column is to be predicted?",
            found=_listed(header),
            hint=f"Name it: --column {header[-1]}",
        )
    raise _no_column(target, header, path)


def _no_column(name: str, header: Sequence[str], path: Path) -> UsageError:
    close = difflib.get_close_matches(name, header, n=1)
    return UsageError(
        f"{path} has no column {name!r}.",
        found=f"Did you mean {close[0]!r}?" if close else _listed(header),
        hint="Give one of the columns of the first line.",
    )


def _listed(header: Sequence[str]) -> str:
    shown = ", ".join(column or "one without a name" for column in header[:12])
    return f"Columns: {shown}{', ...' if len(header) > 12 else ''}."


def _numbered(
    rows: Iterator[list[str]], header: Sequence[str], path: Path
) -> Iterator[tuple[int, list[str]]]:
    """Yield row numbers (the header is row 1) and cells; blank lines are passed over."""
    for number, cells in enumerate(rows, start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(cells)} cells, but the header has {len(header)}.",
                hint="Give every row one cell a column; quote texts that hold the separator.",
            )
        yield number, cells


def _columns(
    rows: Iterator[tuple[int, list[str]]],
    header: Sequence[str],
    target: str,
    table: TableOptions,
    path: Path,
) -> Columns:
    first = next(rows, None)
    special = {target, "split", table.group, *table.ignore}
    dates = [
        name
        for name, cell in zip(header, first[1] if first else (), strict=False)
        if name not in special and _is_date(cell)
    ]
    inputs = [at for at, name in enumerate(header) if name not in (*special, *dates)]
    if not inputs:
        raise DataError(f"{path} has no column beside {target!r}.", hint="Add the model's inputs.")
    split_at = header.index("split") if "split" in header and target != "split" else None
    group_at = None if table.group is None else header.index(table.group)
    target_at = header.index(target)
    values = array("f")
    targets, splits, groups = [], [], []
    for number, cells in chain([first] if first else [], rows):
        for position in inputs:
            value = _number(cells[position])
            if value is None:
                raise _bad_cell(path, number, header[position], cells[position])
            values.append(value)
        targets.append(cells[target_at].strip())
        if not targets[-1]:
            raise _bad_cell(path, number, target, "")
        if group_at is not None:
            groups.append(cells[group_at].strip())
        if split_at is not None:
            splits.append(cells[split_at].strip())
            if splits[-1] not in ("train", "test", *VALIDATION):
                raise DataError(
                    f"{path}, row {number}, column 'split': {splits[-1]!r}.",
                    hint="Write train, test or validation there, or leave the column out.",
                )
    features = np.frombuffer(values, np.float32) if values else np.empty(0, np.float32)
    features = features.reshape(-1, len(inputs))
    counting = [i for i, at in enumerate(inputs) if _counts_rows(header[at], features[:, i])]
    if counting and len(inputs) > 1:
        dates += [header[inputs[counting[0]]] or "the unnamed one"]
        features = np.delete(features, counting[0], axis=1)
    left = f"Columns left out (dates, or numbers of rows): {', '.join(dates)}." if dates else ""
    return Columns(
        features=features,
        targets=targets,
        splits=splits,
        groups=groups,
        notes=(left,) if left else (),
    )


def _is_date(cell: str) -> bool:
    """Tell whether a cell is a date or a time, and no number."""
    text = cell.strip()
    if _number(text) is not None or not any(mark in text for mark in "-/:."):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return DATE.fullmatch(text) is not None
    return True


def _counts_rows(name: str, values: Array) -> bool:
    """Tell whether a column is an index as other programs write it.

    It holds whole numbers, each once; in another order, or with gaps, where rows were drawn.
    """
    if name.lower() not in INDEX_NAMES or len(values) < 2:
        return False
    whole = np.all(values == np.floor(values)) and values.min() >= 0
    return bool(whole) and len(np.unique(values)) == len(values)


def _bad_cell(path: Path, row: int, column: str, cell: str) -> DataError:
    found = f"{cell!r:.60} is no finite number." if cell.strip() else "The cell is empty."
    return DataError(
        f"{path}, row {row}, column {column!r} cannot be used.",
        found=found,
        hint="Correct the cell, drop the row, or leave a column of inputs out with --ignore.",
    )


def _number(cell: str) -> float | None:
    """Return the number in a cell, or None where there is none that float32 can hold."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= FLOAT32_MAX else None


def _typed(cells: Sequence[str]) -> Array:
    """Return integers where all cells are whole numbers, floats where all are numbers."""
    numbers = [_number(cell) for cell in cells]
    if any(number is None for number in numbers):
        return np.array(cells)
    floats = np.array(numbers, np.float64)
    if any(mark in cell for cell in cells for mark in ".eE") or np.abs(floats).max() > 2**53:
        return floats
    return floats.astype(np.int64)


FORMAT = Format(
    recognizes=lambda argument: argument.is_file and argument.has_suffix(".csv"),
    open=lambda argument: open_csv(
        argument.path, argument.column, argument.seed, argument.split, argument.table
    ),
    has_columns=True,
)

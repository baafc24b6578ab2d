"""Tables: `.csv` files with a header, numeric columns and a target column."""

from __future__ import annotations

import csv
import difflib
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgekit.data.formats.format import Format
from edgekit.data.formats.validation import VALIDATION, substitute_test
from edgekit.data.labels import number_labels
from edgekit.data.splits import TEST_SHARE, held_out
from edgekit.data.store import RawDataset, array_store
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.tasks import as_classes
from edgekit.records import Array

FLOAT32_MAX = float(np.finfo(np.float32).max)


def open_csv(path: Path, target: str | None, seed: int, share: float | None = None) -> RawDataset:
    """Open a `.csv` file; all columns but the target (and `split`) become one input, in order.

    Args:
        path: The file, separated by commas, semicolons or tabs.
        target: The column to predict.
        seed: Draws the test split where no column `split` says train or test.
        share: The share of that test split; None takes a fifth.

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
            features, targets, splits = _columns(
                _numbered(rows, header, path), header, target, path
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table.", found=f"{error}.", hint="Save it as UTF-8 .csv."
        ) from error
    if not targets:
        raise DataError(f"{path} has a header but no rows.", hint="Add at least one row.")
    wanted = _typed(targets)
    (wanted_number,), labels, note = number_labels([wanted], None, str(path))
    assert wanted_number is not None, "a table's target is never missing"
    notes = [note] if note else []
    if splits:
        tested, stands_in = substitute_test(set(splits), "split = {}")
        notes += stands_in
        train, test = (np.flatnonzero(np.array(splits) == split) for split in ("train", tested))
    else:
        classes, _ = as_classes(wanted_number)
        train, test = held_out(len(wanted_number), classes, share or TEST_SHARE, seed)
        notes.append(f"No split column: {len(test)} of {len(targets)} rows were drawn for testing.")
    return RawDataset(
        name=path.stem,
        train=array_store({"x": features[train]}, wanted_number[train]) if len(train) else None,
        test=array_store({"x": features[test]}, wanted_number[test]) if len(test) else None,
        drawn=not splits,
        labels=labels,
        notes=tuple(notes),
    )


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
    columns = f"Columns: {', '.join(header[:12])}{', ...' if len(header) > 12 else ''}."
    if target is None:
        raise UsageError(
            f"{path}: which column is to be predicted?",
            found=columns,
            hint=f"Name it: --column {header[-1]}",
        )
    close = difflib.get_close_matches(target, header, n=1)
    raise UsageError(
        f"{path} has no column {target!r}.",
        found=f"Did you mean {close[0]!r}?" if close else columns,
        hint="Give one of the columns of the first line as --column.",
    )


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
    rows: Iterator[tuple[int, list[str]]], header: Sequence[str], target: str, path: Path
) -> tuple[Array, list[str], list[str]]:
    """Return features `[n, columns]` float32, the target's texts, and the splits' names."""
    inputs = [position for position, name in enumerate(header) if name not in (target, "split")]
    if not inputs:
        raise DataError(f"{path} has no column beside {target!r}.", hint="Add the model's inputs.")
    split_at = header.index("split") if "split" in header and target != "split" else None
    target_at = header.index(target)
    values = array("f")
    targets, splits = [], []
    for number, cells in rows:
        for position in inputs:
            value = _number(cells[position])
            if value is None:
                raise _bad_cell(path, number, header[position], cells[position])
            values.append(value)
        targets.append(cells[target_at].strip())
        if not targets[-1]:
            raise _bad_cell(path, number, target, "")
        if split_at is not None:
            splits.append(cells[split_at].strip())
            if splits[-1] not in ("train", "test", *VALIDATION):
                raise DataError(
                    f"{path}, row {number}, column 'split': {splits[-1]!r}.",
                    hint="Write train, test or validation there, or leave the column out.",
                )
    features = np.frombuffer(values, np.float32) if values else np.empty(0, np.float32)
    return features.reshape(-1, len(inputs)), targets, splits


def _bad_cell(path: Path, row: int, column: str, cell: str) -> DataError:
    found = f"{cell!r:.60} is no finite number." if cell.strip() else "The cell is empty."
    return DataError(
        f"{path}, row {row}, column {column!r} cannot be used.",
        found=found,
        hint="Correct the cell, drop the row, or turn the column into numbers.",
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
    open=lambda argument: open_csv(argument.path, argument.column, argument.seed, argument.split),
    has_columns=True,
)

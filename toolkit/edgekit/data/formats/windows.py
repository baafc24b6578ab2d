"""Rows of a table become samples: windows of consecutive rows, split by column, group or time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.data.splits import TEST_SHARE, held_out
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.tasks import as_classes
from edgekit.records import Array, TableOptions

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Samples as rows of the table.

    Attributes:
        rows: Rows of each sample, `[n, window]`; `[n, 1]` where each row is a sample.
        splits: Name of each sample's split, `[n]`.
        groups: Number of each sample's group, `[n]`, or None.
        notes: What was left out or drawn.
    """

    rows: Rows
    splits: Array
    groups: Array | None
    notes: tuple[str, ...]


def cut_windows(
    targets: Array,
    splits: Sequence[str],
    groups: Sequence[str],
    options: TableOptions,
    *,
    share: float | None,
    seed: int,
    place: str,
) -> Windows:
    """Cut the rows of a table into samples.

    No window spans two groups or two splits. Where no column names the splits, whole groups are
    drawn for testing; windows without groups are split by time, since those that overlap are no
    independent samples; single rows are drawn, of each class alike.

    Args:
        targets: Numbered targets, `[rows]`.
        splits: Split of each row; empty where no column names them.
        groups: Group of each row; empty where there are none.
        options: Length and distance of the windows.
        share: Share of the rows or groups that is drawn for testing; None takes a fifth.
        seed: Draws them.
        place: The table in messages.

    Raises:
        UsageError: Length or distance of the windows is not positive.
        DataError: No group has as many rows as a window.
    """
    if min(options.window or 1, options.stride) < 1 or options.window == 0:
        raise UsageError(
            f"Invalid windows: {options.window} rows, every {options.stride}.",
            hint="Give whole numbers from 1.",
        )
    n, length = len(targets), options.window or 1
    numbers = np.unique(np.array(groups), return_inverse=True)[1] if groups else None
    notes: list[str] = []
    if splits:
        named = np.array(splits)
    else:
        tested, note = _drawn(targets, numbers, options, share or TEST_SHARE, seed)
        named = np.where(tested, "test", "train")
        notes.append(note)
    keys = np.zeros(n, np.int64) if numbers is None else numbers
    keys = keys * (n + 1) + np.unique(named, return_inverse=True)[1]
    parts, short = [], 0
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        if len(rows) < length:
            short += 1
            continue
        parts.append(np.lib.stride_tricks.sliding_window_view(rows, length)[:: options.stride])
    if not parts:
        raise DataError(
            f"{place} has no {length} rows that follow each other in one group and split.",
            found=f"It has {n} rows.",
            hint="Give a smaller --window.",
        )
    if short:
        whole = short + len(parts)
        notes.append(f"{short} of {whole} groups have fewer rows than a window, and are left out.")
    rows = np.concatenate(parts)
    if options.window is None:
        rows = np.sort(rows, axis=0)  # as they stand in the table
    last = rows[:, -1]
    return Windows(
        rows=rows,
        splits=named[last],
        groups=None if numbers is None else numbers[last],
        notes=tuple(notes),
    )


def overlapping(options: TableOptions) -> int:
    """Return the number of windows after each one that share rows with it."""
    return math.ceil((options.window or 1) / options.stride) - 1


def _drawn(
    targets: Array, groups: Array | None, options: TableOptions, share: float, seed: int
) -> tuple[Array, str]:
    """Return which rows are for testing, and a note."""
    n = len(targets)
    tested = np.zeros(n, bool)
    if groups is not None:
        count = int(groups.max()) + 1
        _, chosen = held_out(count, None, share, seed)
        tested = np.isin(groups, chosen)
        return tested, f"No split column: {len(chosen)} of {count} groups were drawn for testing."
    if options.window is not None:
        tested[n - max(1, round(n * share)) :] = True
        return tested, f"No split column: the last {tested.sum()} of {n} rows are for testing."
    _, chosen = held_out(n, as_classes(targets)[0], share, seed)
    tested[chosen] = True
    return tested, f"No split column: {len(chosen)} of {n} rows were drawn for testing."

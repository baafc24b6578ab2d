"""What a data format is: how it is recognized, and how it becomes stores of raw samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.data.store import RawDataset
from edgekit.files import FILE, FOLDER, MISSING
from edgekit.records import EACH_ROW, Dataset, Split, TableOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A DATA argument, with the options that say how it is read.

    Attributes:
        text: The argument itself.
        path: The same, taken for a path.
        found: What is at that path, as `files.what_is` tells it.
        column: The column to predict, for formats with columns.
        table: How rows become samples, likewise.
        preprocessing: The user's spec; None takes the source's own.
        seed: Draws the test split of a source that has none.
        split: Share of the samples that is drawn for testing; None leaves it to the format.
        needed: The only split that will be read, if that is known.
    """

    text: str
    path: Path
    found: str
    column: str | None = None
    table: TableOptions = EACH_ROW
    preprocessing: Mapping[str, Any] | None = None
    seed: int = 0
    split: float | None = None
    needed: Split | None = None

    @property
    def is_file(self) -> bool:
        """Whether the path is a regular file."""
        return self.found == FILE

    @property
    def is_folder(self) -> bool:
        """Whether the path is a folder."""
        return self.found == FOLDER

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing at the path."""
        return self.found == MISSING

    def has_suffix(self, suffix: str) -> bool:
        """Whether the path ends in `suffix`, in upper or lower case."""
        return self.path.suffix.lower() == suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One form that data may have. A module defines one as `FORMAT`.

    Attributes:
        recognizes: Whether an argument is of this format; looks at names only.
        open: Read it into stores of raw samples. Raises a `DataError` where it is damaged.
        has_columns: Whether `--column` chooses the target.
    """

    recognizes: Callable[[Argument], bool]
    open: Callable[[Argument], RawDataset | Dataset]
    has_columns: bool = False

"""What reports print on a terminal: tables without lines, and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgekit.folding import TERMINAL, fold

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GAP: Final = 2  # characters between two columns
_LEAST: Final = 8
"""Characters of a name that is shortened in the middle and still tells something."""


def plain_table() -> Table:
    """Return an empty table without lines."""
    from rich.table import Table

    return Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)


def show(console: Console, table: Table) -> None:
    """Print a table, as wide as the console at most."""
    console.print(table, soft_wrap=False)


def say(console: Console, text: str, style: str = "", *, label: str = "") -> None:
    """Print a sentence, folded unless the console folds none (`soft_wrap`: a pipe, a file)."""
    from rich.text import Text

    for line in fold(text, None if console.soft_wrap else console.width, label=label):
        console.print(Text(line, style), soft_wrap=True)


def narrowed(width: int | None, *names: int) -> tuple[int, ...]:
    """Return the widths of columns of names, in a table of 80 columns, for a narrower terminal."""
    missing = max(0, TERMINAL - (width or TERMINAL))
    return tuple(max(_LEAST, name - -(-missing // len(names))) for name in names)

"""Tables of a terminal: columns a gap apart, without lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

GAP: Final = 2  # characters between two columns


def plain_table() -> Table:
    """Return an empty table without lines."""
    from rich.table import Table

    return Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)

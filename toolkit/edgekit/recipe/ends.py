"""The ends of a graph, and which of them edgekit may leave in float."""

from __future__ import annotations

from typing import Final

from edgekit.modes import FLOAT32, MODES

ENDS: Final = ("input", "output")
"""The ends of a graph whose types a quantize step chooses."""


def free_ends(mode: str, *asked: str | None) -> tuple[str, ...]:
    """Return the ends that may be float32 though the mode's default is another type.

    Args:
        mode: The mode.
        asked: The types that were asked for, in the order of `ENDS`; None where none was.
    """
    if MODES[mode].io_types[0] == FLOAT32.name:
        return ()
    return tuple(end for end, kind in zip(ENDS, asked, strict=True) if kind is None)

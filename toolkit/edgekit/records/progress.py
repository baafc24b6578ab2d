"""Progress of long work, on its way to the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A stage's progress, on its way to the terminal.

    Attributes:
        stage: What is being done, in words ("lowering", "calibrating").
        done: Steps done.
        total: Steps in all, or None where nobody knows.
        detail: A few words beside the bar.
    """

    stage: str
    done: int = 0
    total: int | None = None
    detail: str = ""


Listener = Callable[[Progress], None]
"""Progress callback."""


def silent(_: Progress) -> None:
    """Ignore progress."""

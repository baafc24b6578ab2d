"""What was found when a bundle's figures were derived again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["same", "differs", "not checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One figure of a report, derived again.

    Attributes:
        variant: The file it is of.
        figure: Its name, such as `size_bytes` or `drop_ci95`.
        status: Whether the figure is the same; `not checked` where it could not be derived.
        recorded: As the bundle has it, in words.
        found: As it was derived now; "" where it was not.
        reason: Why it was not checked, or how far apart the two are.
    """

    variant: str
    figure: str
    status: Status
    recorded: str
    found: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A bundle, verified.

    Attributes:
        path: The bundle.
        figures: One entry a figure, file by file.
        versions: What has another version than when the bundle was made: name -> (then, now).
    """

    path: Path
    figures: tuple[Replayed, ...]
    versions: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def count(self, status: Status) -> int:
        """Return how many figures have a status."""
        return sum(one.status == status for one in self.figures)

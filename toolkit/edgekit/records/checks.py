"""What is said of a file that was held against conditions, and of two files that were compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.records.results import Row

Basis = Literal["read", "measured", "simulated", "predicted"]
"""Where a figure is from: `read` in the file, `measured` here, `simulated` by the compiler of an
NPU, or `predicted` from the graph."""

FigureUnit = Literal["bytes", "ms", "operators", "score", "drop"]
"""Unit of a figure; `score` and `drop` are in the unit of their metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """One condition, and what was found.

    Attributes:
        name: Name of the condition: a key of `conditions.CONDITIONS`, such as max_size.
        met: Whether it is met.
        unit: Unit of `wanted` and `found`.
        wanted: The limit.
        found: The figure; None where it could not be taken, and the condition is unmet.
        basis: Where the figure is from.
        at_least: Whether `wanted` is a lower limit.
        metric: Name of the metric, for a score or a drop.
        ci95: 95 % interval of `found`, where it has one.
        detail: What else there is to know, in words.
    """

    name: str
    met: bool
    unit: FigureUnit
    wanted: float
    found: float | None
    basis: Basis
    at_least: bool = False
    metric: str | None = None
    ci95: tuple[float, float] | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A file held against conditions.

    Attributes:
        path: The file.
        results: One entry a condition, in the order of `conditions.CONDITIONS`.
        row: All that was measured of the file for it.
        warnings: What the reader must know before believing the figures.
    """

    path: Path
    results: tuple[ConditionResult, ...]
    row: Row
    warnings: tuple[str, ...] = ()

    @property
    def met(self) -> bool:
        """Whether every condition is met."""
        return all(one.met for one in self.results)

    @property
    def unmet(self) -> tuple[str, ...]:
        """Names of the conditions that are not met."""
        return tuple(one.name for one in self.results if not one.met)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two files, measured alike: an old one and the one that takes its place.

    Attributes:
        old: The old file.
        new: The new one; its drop is against the old one, on the same samples.
        operators: Operator -> how many the old file and the new one have, where these differ.
        warnings: What the reader must know before believing the figures.
    """

    old: Row
    new: Row
    operators: Mapping[str, tuple[int, int]]
    warnings: tuple[str, ...] = ()

"""What a figure of a class is by its counts; `macro` and `label_counts` average it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.records import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of each class, from `[..., k]` hits, samples of the class, predictions of it.

    Attributes:
        value: Hits, samples, predictions -> values; no division by zero.
        slopes: The same -> derivatives by hits and by predictions.
    """

    value: Callable[[Array, Array, Array], Array]
    slopes: Callable[[Array, Array, Array], tuple[Array, Array]]

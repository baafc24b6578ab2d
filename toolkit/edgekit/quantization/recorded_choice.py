"""A choice of ranges and of the float graph's form, as a manifest records it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from edgekit.choices import AUTO, RangesMethod
from edgekit.modes import MODES
from edgekit.quantization.passes.equalize import EQUALIZE
from edgekit.quantization.passes.fold_normalization import FOLD_NORMALIZATION
from edgekit.records import Plan

# What a choice may consist of -> whether channels are equalized.
_CHOICES: Final[Mapping[tuple[str, ...], bool]] = {
    (): False,
    (FOLD_NORMALIZATION.name,): False,
    (EQUALIZE.name,): True,
    (FOLD_NORMALIZATION.name, EQUALIZE.name): True,
}

EqualizedBy = Literal["activations", "weights"]
"""Whose magnitudes tell how wide a channel is."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A choice as a manifest tells it.

    Attributes:
        method: How ranges are taken; None where activations remain float.
        passes: Names of the passes.
        equalized_by: As of `Form`.
        margin: As of `Form`.
        float_figures: Whether the layers of figures without bounds are float.
    """

    method: RangesMethod | None
    passes: tuple[str, ...]
    equalized_by: EqualizedBy | None
    margin: float = 0.0
    float_figures: bool = False

    def fits(self, plan: Plan) -> bool:
        """Whether it can be a choice for a plan."""
        return MODES[plan.mode].calibrated == (self.method is not None)


def recorded_choice(told: Any) -> Recorded | None:
    """Read what `Choice.described` wrote; None where it does not tell all, or is something else."""
    if not isinstance(told, Mapping):
        return None
    method, passes, by = (told.get(name) for name in ("method", "passes", "equalized_by"))
    if not isinstance(passes, list) or not all(isinstance(name, str) for name in passes):
        return None
    methods = [None, *get_args(RangesMethod)]
    ways = get_args(EqualizedBy) if _CHOICES.get(tuple(passes)) else (None,)
    if tuple(passes) not in _CHOICES or method not in methods or method == AUTO or by not in ways:
        return None
    margin, float_figures = told.get("margin", 0.0), told.get("float_figures", False)
    if not isinstance(margin, float) or not 0 <= margin <= 1 or float_figures not in (True, False):
        return None
    return Recorded(method, tuple(passes), by, margin, bool(float_figures))

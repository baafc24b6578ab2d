"""Forms of the float graph that are compared, and a choice among them as a manifest records it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from edgekit.choices import AUTO, RangesMethod
from edgekit.modes import MODES
from edgekit.quantization.calibration import Calibration
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.equalize import EQUALIZE, equalizable
from edgekit.quantization.passes.fold_normalization import FOLD_NORMALIZATION
from edgekit.records import Plan

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

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
class Form:
    """A form of the float graph.

    Attributes:
        model: The graph, with passes applied.
        passes: Names of the passes.
        equalized_by: How channels were equalized; None where they were not.
    """

    model: ModelT
    passes: tuple[str, ...] = ()
    equalized_by: EqualizedBy | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A choice as a manifest tells it.

    Attributes:
        method: How ranges are taken; None where activations remain float.
        passes: Names of the passes.
        equalized_by: As of `Form`.
    """

    method: RangesMethod | None
    passes: tuple[str, ...]
    equalized_by: EqualizedBy | None

    def fits(self, plan: Plan) -> bool:
        """Whether it can be a choice for a plan."""
        return MODES[plan.mode].calibrated == (self.method is not None)


def folded(model: ModelT, plan: Plan) -> Form:
    """Return a graph with its normalizations folded, as far as there are such."""
    changed = FOLD_NORMALIZATION.apply(model, NOTHING, plan)
    return Form(changed, () if changed is model else (FOLD_NORMALIZATION.name,))


def equalized(form: Form, plan: Plan, calibration: Calibration, by: EqualizedBy) -> Form | None:
    """Return a form with its channels equalized; None where nothing can be."""
    groups = equalizable(form.model, plan)
    if not groups:
        return None
    seen = NOTHING
    if by == "activations":
        seen = calibration.observe_channels(form.model, groups)
    changed = EQUALIZE.apply(form.model, seen, plan)
    return None if changed is form.model else Form(changed, (*form.passes, EQUALIZE.name), by)


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
    return Recorded(method, tuple(passes), by)


def form_again(recorded: Recorded, model: ModelT, plan: Plan, calibration: Calibration) -> Form:
    """Make the form of a recorded choice of a graph."""
    form = folded(model, plan) if FOLD_NORMALIZATION.name in recorded.passes else Form(model)
    if recorded.equalized_by is None:
        return form
    return equalized(form, plan, calibration, recorded.equalized_by) or form

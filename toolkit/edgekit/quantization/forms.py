"""Forms of the float graph that are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.quantization.calibration import Calibration
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.equalize import EQUALIZE, equalizable
from edgekit.quantization.passes.fold_normalization import FOLD_NORMALIZATION
from edgekit.quantization.recorded_choice import EqualizedBy, Recorded
from edgekit.records import Plan

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the float graph.

    Attributes:
        model: The graph, with passes applied.
        passes: Names of the passes.
        equalized_by: How channels were equalized; None where they were not.
        floats: Names of the tensors whose operators are float.
        margin: By which share of their widths ranges reach further than was seen.
    """

    model: ModelT
    passes: tuple[str, ...] = ()
    equalized_by: EqualizedBy | None = None
    floats: frozenset[str] = frozenset()
    margin: float = 0.0


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


def form_again(recorded: Recorded, model: ModelT, plan: Plan, calibration: Calibration) -> Form:
    """Make the form of a recorded choice of a graph."""
    form = folded(model, plan) if FOLD_NORMALIZATION.name in recorded.passes else Form(model)
    if recorded.equalized_by is not None:
        form = equalized(form, plan, calibration, recorded.equalized_by) or form
    return replace(form, margin=recorded.margin)

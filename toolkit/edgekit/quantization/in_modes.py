"""A float graph, written in the precisions of a plan and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgekit.modes import DYNAMIC, FLOAT16, FLOAT32, INT4, MODES
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes import cleaned
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.writer import Written, write_integers
from edgekit.records import Plan, Ranges
from edgekit.tflite.int4_weights import narrow_weights
from edgekit.tflite.loops import alone, quantizable, with_loops, without_loops
from edgekit.tflite.lstm import with_resets, without_resets
from edgekit.tflite.weights import to_dynamic, to_float16, to_int4

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_REWRITERS: Final = {FLOAT16.name: to_float16, DYNAMIC.name: to_dynamic, INT4.name: to_int4}


def in_modes(
    plan: Plan, model: ModelT, ranges: Ranges | None, modes: Mapping[str, str]
) -> tuple[Plan, Written]:
    """Write a float graph in the precisions of a plan and its rules.

    Returns:
        The plan, with float32 at the ends that are free and would lose too much; and the graph.
    """
    written = Written(model, {}, {})
    if ranges is not None:
        written = _integers(plan, model, ranges, modes)
        freed = _freed(plan, written.lost)
        if freed is not plan:
            plan, lost = freed, written.lost
            written = replace(_integers(plan, model, ranges, modes), lost=lost)
        model = written.model
        if ranges.weight_bits == 4:
            model = narrow_weights(model)
    everywhere = all(asked == plan.mode for asked in modes.values())
    for mode, rewrite in _REWRITERS.items():
        if plan.mode == mode and everywhere:
            model = rewrite(model)
        elif chosen := {name for name, asked in modes.items() if asked == mode}:
            model = rewrite(model, chosen)
    return plan, replace(written, model=model)


def _integers(plan: Plan, model: ModelT, ranges: Ranges, modes: Mapping[str, str]) -> Written:
    """Write a float graph in integers, and the bodies of its loops."""
    model, ranges = cleaned(model, ranges, plan)
    denied = [name for name, mode in modes.items() if mode != plan.mode]
    bare, resets = without_resets(model)
    loops = quantizable(bare, ranges, denied)
    if not loops:
        return write_integers(model, ranges, plan, modes)
    kind = MODES[plan.mode].activations
    inner = replace(plan, input_type=kind, output_type=kind)
    outer = write_integers(without_loops(bare, loops), ranges, plan, modes)
    bodies = [write_integers(alone(bare, loop.body), ranges, inner, modes) for loop in loops]
    whole = with_loops(outer.model, bare, loops, [body.model for body in bodies])
    made = drop_unused(whole, NOTHING, plan)
    reasons = {name: why for part in (outer, *bodies) for name, why in part.reasons.items()}
    unreached = tuple(why for part in (outer, *bodies) for why in part.unreached)
    return Written(with_resets(made) if resets else made, reasons, outer.lost, unreached)


def _freed(plan: Plan, lost: Mapping[str, str]) -> Plan:
    """Return a plan with float32 at the ends that lose too much and whose type is free."""
    freed = {end for end in lost if end in plan.free_ends}
    if not freed:
        return plan
    return replace(
        plan,
        input_type=FLOAT32.name if "input" in freed else plan.input_type,
        output_type=FLOAT32.name if "output" in freed else plan.output_type,
    )

"""Plans of single variants, from a mode or from a manifest; passes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from edgekit.choices import AUTO, RangesMethod
from edgekit.errors import UsageError
from edgekit.modes import FLOAT32, INT8, IO_TYPES, MIXED, MODES, mode_named
from edgekit.recipe.ends import ENDS, free_ends
from edgekit.recipe.ranges import ranges_for
from edgekit.recipe.settings import check, closest, settings_of
from edgekit.recipe.steps import RANGES, PassStep, Quantize
from edgekit.records import MixedPlan, Plan, Rule


def default_plan(
    mode: str,
    *,
    io: str | None = None,
    ranges: RangesMethod = AUTO,
    sparse: bool = False,
    keep_names: bool = False,
) -> Plan:
    """Return the plan of a mode without a recipe.

    `io` and `ranges` apply only to modes that have a choice: with `io="uint8"` inputs and outputs
        of a float16 file remain float32, and a mode without activation ranges ignores a method.

    Args:
        mode: Default precision, or `modes.MIXED`.
        io: Type of inputs and outputs; None takes the mode's default.
        ranges: How activation ranges are chosen.
        sparse: Whether kernels are stored sparse where that makes the file smaller.
        keep_names: Whether inner tensors keep their names, in modes that shorten them.

    Raises:
        UsageError: One of them is unknown.
    """
    is_mixed = mode == MIXED
    found = INT8 if is_mixed else mode_named(mode, MIXED)
    for what, value, choices in (
        ("ranges", ranges, RANGES),
        ("type of inputs and outputs", io, IO_TYPES),
    ):
        if value is not None and value not in choices:
            raise UsageError(
                f"Unknown {what}: {value!r}.",
                hint=f"{closest(value, choices)} Known: {', '.join(choices)}.".strip(),
            )
    types = found.io_types
    # An output in integers would lose what the operators before it keep.
    usual = FLOAT32.activations if is_mixed else types[0]
    io_type = io if io in types else usual
    ranges = ranges_for(found.name, ranges)
    parts: list[str] = [mode]
    if io_type != usual:
        parts.append(f"{io_type}io")
    if found.calibrated and ranges != AUTO:
        parts.append(ranges)
    if sparse:
        parts.append("sparse")
    return (MixedPlan if is_mixed else Plan)(
        variant="-".join(parts),
        mode=found.name,
        ranges=ranges,
        input_type=io_type,
        output_type=io_type,
        sparse=sparse,
        keep_names=keep_names and found.calibrated,
        free_ends=() if is_mixed else free_ends(mode, io, io),
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON, for a manifest."""
    return asdict(plan) | {
        "rules": [asdict(rule) for rule in plan.rules],
        "passes": list(plan.passes),
        "free_ends": list(plan.free_ends),
    }


def plan_from_json(value: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_json` wrote.

    Raises:
        UsageError: A field is missing or unknown.
    """
    try:
        rules = tuple(Rule(**rule) for rule in value["rules"])
        words = {name: tuple(value.get(name, ())) for name in ("passes", "free_ends")}
        plan = Plan(**{**value, **words, "rules": rules})
        known = ("mode", "ranges", "percentile", "sparse", "keep_names")
        given = {name: getattr(plan, name) for name in known}
        check({**given, "passes": list(plan.passes)}, settings_of(Quantize), "plan")
        _check_texts(plan)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise UsageError(
            "The plan in a manifest cannot be read.",
            found=error.what
            if isinstance(error, UsageError)
            else f"{type(error).__name__}: {error}.",
            hint="Quantize the model again; the manifest was edited or is of another version.",
        ) from error
    return plan


def _check_texts(plan: Plan) -> None:
    types = MODES[plan.mode].io_types
    texts = (plan.variant, *(text for rule in plan.rules for text in (rule.layers, rule.mode)))
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is no text")
    if {*plan.free_ends} - {*ENDS}:
        raise ValueError(f"its free ends are not {' or '.join(ENDS)}")
    if {plan.input_type, plan.output_type} - {*types}:
        raise ValueError(f"its inputs or outputs are not {' or '.join(types)}")


def pass_json(step: PassStep) -> dict[str, Any]:
    """Return a pass as JSON for a manifest: values that differ from the defaults, as in TOML."""
    changed: dict[str, Any] = {"kind": step.kind}
    for part in (step, step.training):
        for entry in fields(part):
            value = getattr(part, entry.name)
            if entry.metadata.get("setting") and value != entry.default:
                changed[entry.name] = list(value) if isinstance(value, tuple) else value
    return changed

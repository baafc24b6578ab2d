"""Plans of single variants, from a bare mode or from a manifest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args

from edgekit.errors import UsageError
from edgekit.records import MODES, Mode, Plan, Rule

RangesMethod = Literal["minmax", "percentile", "mse", "entropy"]

RANGES: tuple[RangesMethod, ...] = get_args(RangesMethod)

IO_TYPES: Mapping[Mode, tuple[str, ...]] = {
    "float32": ("float32",),
    "float16": ("float32",),
    "dynamic": ("float32",),
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("float32", "int16"),
    "int4": ("float32",),
}
"""The types a file's inputs and outputs may have in each mode, the default first."""

CALIBRATED: tuple[Mode, ...] = ("int8", "int16x8")
"""The modes that quantize activations, and so need their ranges."""

PERCENTILE = 99.99


def default_plan(
    mode: Mode, *, io: str | None = None, ranges: RangesMethod = "minmax", sparse: bool = False
) -> Plan:
    """Return the plan that a bare mode means.

    `io` and `ranges` concern the modes that have a choice: `io="uint8"` leaves a float16 file's
    inputs and outputs float32, and a mode without activation ranges stays at `minmax`.

    Args:
        mode: Precision of the whole.
        io: Type of inputs and outputs; None takes the mode's default.
        ranges: How activation ranges are chosen.
        sparse: Whether kernels are stored sparse where that makes the file smaller.

    Raises:
        UsageError: One of them is unknown.
    """
    known = tuple(dict.fromkeys(io_type for types in IO_TYPES.values() for io_type in types))
    for what, value, choices in (
        ("mode", mode, MODES),
        ("ranges", ranges, RANGES),
        ("type of inputs and outputs", io, known),
    ):
        if value is not None and value not in choices:
            raise UsageError(
                f"Unknown {what}: {value!r}.",
                hint=closest(value, choices) + f" Known: {', '.join(choices)}.",
            )
    types = IO_TYPES[mode]
    io_type = io if io in types else types[0]
    ranges = ranges if mode in CALIBRATED else "minmax"
    parts: list[str] = [mode]
    if io_type != types[0]:
        parts.append(f"{io_type}io")
    if ranges != "minmax":
        parts.append(ranges)
    if sparse:
        parts.append("sparse")
    return Plan(
        variant="-".join(parts),
        mode=mode,
        ranges=ranges,
        input_type=io_type,
        output_type=io_type,
        sparse=sparse,
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as it stands in a manifest."""
    return asdict(plan) | {"rules": [asdict(rule) for rule in plan.rules]}


def plan_from_json(value: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_json` wrote.

    Raises:
        UsageError: A field is missing or unknown.
    """
    try:
        return Plan(**{**value, "rules": tuple(Rule(**rule) for rule in value["rules"])})
    except (KeyError, TypeError) as error:
        raise UsageError(
            "The plan in a manifest cannot be read.",
            found=f"{type(error).__name__}: {error}.",
            hint="Quantize the model anew; the manifest was edited or is of another version.",
        ) from error


def closest(word: Any, choices: tuple[str, ...]) -> str:
    """The choice that somebody may have meant, as a question; empty where none is near."""
    match = difflib.get_close_matches(str(word), choices, n=1)
    return f"Did you mean {match[0]!r}?" if match else ""

"""Predict whether TFLite Micro, the runtime of microcontrollers, loads a model.

It has no fallback: one operator that it lacks keeps the whole model from loading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from edgekit.archives import parse_size
from edgekit.records import TargetFit
from edgekit.targets.micro_limits import Constraint, Types
from edgekit.targets.micro_operators import HINTS, KERNELS
from edgekit.targets.node import Node
from edgekit.targets.target import Settings, Target

_NO_TENSORS: Final = frozenset({"string", "variant", "uint4", "int2"})


def fit(nodes: Sequence[Node]) -> dict[int, TargetFit]:
    """Predict for each operator whether TFLite Micro's reference kernels compute it.

    Args:
        nodes: All operators of a model, in execution order.

    Returns:
        Operator index -> fit.
    """
    # One answer for all operators of a reason: a model may have hundreds of thousands.
    known: dict[str | None, TargetFit] = {}
    answers: dict[int, TargetFit] = {}
    for node in nodes:
        reason = broken_rule(node)
        if reason not in known:
            known[reason] = TargetFit(mapped=reason is None, reason=reason)
        answers[node.index] = known[reason]
    return answers


def broken_rule(node: Node) -> str | None:
    """Return the message of the first rule that an operator violates; None if it obeys all."""
    kernel = KERNELS.get(node.name)
    if kernel is None:
        hint = HINTS.get(node.name)
        return f"TFLite Micro has no such operator. {hint or ''}".rstrip()
    for constraint in (*EVERY_OPERATOR, *kernel.constraints):
        if not constraint(node):
            hint = constraint.hint(node) if isinstance(constraint, Types) else ""
            return f"{_words(constraint)}{hint}"
    return None


def constraint_type_known(node: Node) -> bool:
    """TFLite Micro has no tensors of this type."""
    tensors = (*(tensor for tensor in node.inputs if tensor is not None), *node.outputs)
    return not any(tensor.dtype in _NO_TENSORS for tensor in tensors)


EVERY_OPERATOR: Final[tuple[Constraint, ...]] = (constraint_type_known,)


def registrations(nodes: Sequence[Node]) -> list[str]:
    """Return the methods of `MicroMutableOpResolver` that add the operators of a model, sorted.

    Args:
        nodes: All operators of a model that loads.
    """
    return sorted({KERNELS[node.name].registers for node in nodes})


def reference() -> str:
    """Return a Markdown table of the operators and their limits."""
    lines = ["| operator | limits |", "|---|---|"]
    for name, kernel in sorted(KERNELS.items()):
        lines.append(f"| {name} | {' '.join(map(_words, kernel.constraints)) or '-'} |")
    return "\n".join(lines) + "\n"


def board(*, ram: int | None = None, flash: int | None = None) -> Target:
    """Return TFLite Micro as a target, on a board with so much memory.

    Args:
        ram: Bytes that one array can take, unless the settings name others.
        flash: Bytes of flash, likewise.
    """
    published = {name: size for name, size in (("ram", ram), ("flash", flash)) if size is not None}

    def budget(settings: Settings) -> Mapping[str, int]:
        return {**published, **settings}

    return Target(
        predicted=True,
        fit=lambda nodes, _: fit(nodes),
        settings={"ram": parse_size, "flash": parse_size},
        budget=budget,
        needs_all=True,
    )


@cache
def _words(constraint: Constraint) -> str:
    if isinstance(constraint, Types):
        return constraint.message
    return (constraint.__doc__ or "").strip()


TARGET: Final = board()

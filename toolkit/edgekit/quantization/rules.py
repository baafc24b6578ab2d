"""Resolve the rules of a plan to the precision of every operator."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from edgekit.errors import UsageError
from edgekit.modes import MODES
from edgekit.records import Plan, Rule
from edgekit.targets.node import Node
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Modes that a single layer can have in a model of any other mode; those with integer activations
# mix with each other, too.
RULE_MODES: Final = tuple(mode.name for mode in MODES.values() if mode.in_rules)


def modes_of(plan: Plan, model: ModelT) -> dict[str, str]:
    """Return the mode of every operator of a float graph, by the names of its output tensors.

    The regular expression of a rule is searched for in the layer's name, its last part, and the
    output tensors' names; the last matching rule applies.

    Raises:
        UsageError: A rule is no regular expression, matches nothing, or gives a mode that only a
            whole graph can have.
    """
    operators = nodes(model)
    layers = name_layers(operators) if plan.rules else []
    modes = {tensor.name: plan.mode for node in operators for tensor in node.outputs}
    for rule in plan.rules:
        matches = _matching(rule, plan, operators, layers)
        modes.update({t.name: rule.mode for node in matches for t in node.outputs})
    return modes


def _matching(
    rule: Rule, plan: Plan, operators: Sequence[Node], layers: Sequence[str]
) -> list[Node]:
    where = f'The rule for layers "{rule.layers}" of variant {plan.variant}'
    both_calibrated = MODES[plan.mode].calibrated and MODES[rule.mode].calibrated
    if rule.mode != plan.mode and rule.mode not in RULE_MODES and not both_calibrated:
        raise UsageError(
            f"{where} asks for {rule.mode}, which single layers cannot have.",
            hint=f"Choose one of {', '.join(RULE_MODES)}, or make it the mode of the whole plan.",
        )
    try:
        pattern = re.compile(rule.layers)
    except re.error as error:
        raise UsageError(
            f"{where} is not a regular expression.",
            found=str(error),
            hint="Escape special characters with a backslash.",
        ) from error
    found = _found(pattern, operators, layers)
    if not found:
        names = list(dict.fromkeys(layers))
        plain = rule.layers.strip("^$.*")
        close = difflib.get_close_matches(plain, names, n=3, cutoff=0.4)
        raise UsageError(
            f"{where} matches no layer.",
            found=f"The layers are: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            hint=f"Did you mean {' or '.join(close)}?" if close else "edgekit inspect lists them.",
        )
    return found


def pattern_of(chosen: Node, operators: Sequence[Node], layers: Sequence[str]) -> str | None:
    """Return the `layers` of a rule that applies to one operator and no other; the shortest.

    Args:
        chosen: The operator.
        operators: All operators of the graph.
        layers: Their layers' names.

    Returns:
        A regular expression; None where no name is the operator's alone.
    """
    layer = layers[operators.index(chosen)]
    names = (layer.rpartition("/")[2], layer, *(tensor.name for tensor in chosen.outputs))
    for name in names:
        pattern = f"^{re.escape(name)}$"
        if name and _found(re.compile(pattern), operators, layers) == [chosen]:
            return pattern
    return None


def _found(
    pattern: re.Pattern[str], operators: Sequence[Node], layers: Sequence[str]
) -> list[Node]:
    return [
        node
        for node, layer in zip(operators, layers, strict=True)
        if any(
            pattern.search(name)
            for name in (layer, layer.rpartition("/")[2], *(t.name for t in node.outputs))
        )
    ]


def ruled_otherwise(plan: Plan, model: ModelT) -> frozenset[str]:
    """Return the names of the tensors that are computed in another mode than the plan's."""
    if not plan.rules:
        return frozenset()
    return frozenset(name for name, mode in modes_of(plan, model).items() if mode != plan.mode)

"""Write the plan of a variant as a recipe that `parse` reads again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from edgekit.recipe.steps import Quantize
from edgekit.records import Plan

_KEYS: Final[Mapping[str, str]] = {
    "ranges": "ranges",
    "percentile": "percentile",
    "input": "input_type",
    "output": "output_type",
    "sparse": "sparse",
    "passes": "passes",
    "keep_names": "keep_names",
}
"""Key of a quantize step -> field of a plan; rules are written apart."""


def recipe_text(plan: Plan, *, heading: Iterable[str] = (), why: Mapping[str, str] = {}) -> str:
    """Return a recipe of one step, quantize, with a comment behind each rule.

    Args:
        plan: The variant; its name is that of the recipe.
        heading: Lines of the comment at the top.
        why: `layers` of a rule -> comment.
    """
    lines = [f"# {_one_line(line)}" for line in heading]
    lines += ["schema = 1", f"name = {_text(plan.variant)}", "", "[[step]]"]
    lines += [f"kind = {_text(Quantize.kind)}", f"mode = {_text(plan.mode)}"]
    usual = Quantize(mode=plan.mode).plan(plan.variant)
    for key, attribute in _KEYS.items():
        value = getattr(plan, attribute)
        if value != getattr(usual, attribute):
            lines.append(f"{key} = {json.dumps(value)}")
    if plan.rules:
        lines.append("rules = [")
        for rule in plan.rules:
            comment = why.get(rule.layers)
            end = f"  # {_one_line(comment)}" if comment else ""
            pair = f"layers = {_text(rule.layers)}, mode = {_text(rule.mode)}"
            lines.append(f"  {{ {pair} }},{end}")
        lines.append("]")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    # A basic string of TOML is written as one of JSON.
    return json.dumps(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())

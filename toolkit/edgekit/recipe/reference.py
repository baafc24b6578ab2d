"""Markdown tables of all keys of a recipe, for the docs."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.recipe.layer_rule import LayerRule
from edgekit.recipe.parse import TOP
from edgekit.recipe.settings import REQUIRED, Setting, settings_of
from edgekit.recipe.steps import STEPS, Training


def reference() -> str:
    """Return the tables of all keys, in Markdown."""
    parts = [_table("Recipe", TOP)]
    for kind, step in STEPS.items():
        own = {
            "kind": Setting(
                meaning="What the step does.",
                accepts=f"`{kind}`",
                default=REQUIRED,
                fits=lambda _: True,
            ),
            **settings_of(step),
        }
        exclude = own.pop("exclude", None)
        if exclude is not None:
            own["exclude"] = exclude
        parts.append(_table(f'`[[step]]` with `kind = "{kind}"`', own))
    parts.append(_table("Every step that trains, also", settings_of(Training)))
    parts.append(_table("One of `rules`", settings_of(LayerRule)))
    return "\n\n".join(parts) + "\n"


def _table(title: str, settings: Mapping[str, Setting]) -> str:
    rows = [
        f"| `{name}` | {setting.accepts} | {setting.default} | {setting.meaning} |"
        for name, setting in settings.items()
    ]
    head = f"| {title} | accepts | default | meaning |\n|---|---|---|---|"
    return "\n".join([head, *rows])

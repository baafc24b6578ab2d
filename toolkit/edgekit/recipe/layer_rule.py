"""An entry of `rules` in a quantize step."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.modes import MODES
from edgekit.recipe.settings import choice, text


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRule:
    """An entry of `rules` in a quantize step.

    Attributes:
        layers: A regular expression, searched for in layer names.
        mode: The precision of those layers.
    """

    layers: str = text(
        ...,
        "Layers it applies to, searched for in their names.",
        accepts="a regular expression",
        shown="required",
    )
    mode: str = choice(tuple(MODES), "Precision of those layers.", required=True)

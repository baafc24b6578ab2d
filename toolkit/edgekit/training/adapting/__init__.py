"""Replace layers of a Keras model that a target does not take.

- `swaps`: the table: what a layer may compute, by what it can be replaced, and what has no swap.
- `layers`: layers of a model as their serialised form, found by the names of TFLite operators.
"""

from edgekit.training.adapting.layers import Chosen, Site, carry_weights, replace_layers, sites
from edgekit.training.adapting.swaps import SWAPS, Replacement, Swap

__all__ = [
    "SWAPS",
    "Chosen",
    "Replacement",
    "Site",
    "Swap",
    "carry_weights",
    "replace_layers",
    "sites",
]

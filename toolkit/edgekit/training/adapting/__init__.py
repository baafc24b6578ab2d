"""Replace layers of a Keras model that a target does not take.

- `cures`: the table: what a layer may compute, by what it can be replaced, and what has no cure.
- `layers`: layers of a model as their serialised form, found by the names of TFLite operators.
"""

from edgekit.training.adapting.cures import CURES, Cure, Replacement
from edgekit.training.adapting.layers import Site, carry_weights, replace_layers, sites

__all__ = ["CURES", "Cure", "Replacement", "Site", "carry_weights", "replace_layers", "sites"]

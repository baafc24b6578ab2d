"""Structured pruning: whole channels leave, and a smaller plain Keras model remains.

`graph` finds which channels must leave together, `importance` ranks them, `choose` picks those
that leave, `rebuild` builds the smaller model, or the same one with those channels at zero;
`shrink` does it all, at once or in rounds.
"""

from edgekit.training.shrinking.graph import ChannelGraph, Family, trace
from edgekit.training.shrinking.rebuild import masked
from edgekit.training.shrinking.shrink import PruningResult, largest_share, shrink, shrink_in_rounds
from edgekit.training.shrinking.walk import Weight

__all__ = [
    "ChannelGraph",
    "Family",
    "PruningResult",
    "Weight",
    "largest_share",
    "masked",
    "shrink",
    "shrink_in_rounds",
    "trace",
]

"""Structured pruning: remove whole channels, which gives a smaller plain Keras model.

`graph` finds which channels must be removed together, `importance` ranks them, `choose` selects
those to remove, `rebuild` builds the smaller model, or the same one with those channels at zero;
`shrink` combines these steps, at once or in rounds.
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

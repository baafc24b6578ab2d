"""Structured pruning: whole channels leave, and a smaller plain Keras model remains.

`graph` finds which channels must leave together, `importance` ranks them, `shrink` chooses,
`rebuild` builds the smaller model, or the same one with those channels at zero.
"""

from edgekit.training.shrinking.graph import ChannelGraph, Family, Weight, trace
from edgekit.training.shrinking.importance import Importance
from edgekit.training.shrinking.rebuild import masked
from edgekit.training.shrinking.shrink import Shrunk, shrink

__all__ = [
    "ChannelGraph",
    "Family",
    "Importance",
    "Shrunk",
    "Weight",
    "masked",
    "shrink",
    "trace",
]

"""Words that select a method, shared by the algorithms and by the recipes that name them."""

from __future__ import annotations

from typing import Final, Literal

RangesMethod = Literal["minmax", "percentile", "mse", "entropy"]
"""How activation ranges are chosen."""

Scope = Literal["global", "layer"]
"""Over what the magnitudes of weights are compared."""

Initial = Literal["linear", "density"]
"""Where the centroids of clusters start."""

Importance = Literal["l2", "bn_scale", "taylor"]
"""How channels are ranked."""

TAYLOR: Final = "taylor"
"""The one importance that needs samples."""

Prefer = Literal["size", "latency", "balanced"]
"""What the recommended file has least of: size, latency, or their product."""

Goal = Literal["macs", "parameters", "latency"]
"""What removing channels reduces."""

MACS: Final = "macs"
LATENCY: Final = "latency"
"""The one goal that is measured."""

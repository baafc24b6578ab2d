"""What a mode makes of the way in which ranges are chosen."""

from __future__ import annotations

from edgekit.choices import AUTO, MINMAX, RangesMethod
from edgekit.modes import MODES


def ranges_for(mode: str, asked: RangesMethod) -> RangesMethod:
    """Return how a plan of a mode chooses ranges.

    A mode that leaves activations in float has none to choose, but where it stores integers the
    form of the float graph is chosen (`auto`).
    """
    found = MODES[mode]
    if found.calibrated:
        return asked
    return AUTO if found.chooses else MINMAX

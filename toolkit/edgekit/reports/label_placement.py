"""Placement of the labels of points in a chart, so that they overlap neither marks nor each other.

Vega has a transform for this, but only where there is a canvas; a PNG drawn on a machine without a
browser has none. So the places are computed here, for a wide and for a narrow plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CHARACTER = 7.0  # mean advance of a 12 px system font, rounded up, in px
HEIGHT = 13.0
GAP = 5.0
MOST_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in px, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether this one lies wholly inside the other."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What is to be named: a circle at (x, y) of `radius` px, and its text, if it must be shown."""

    x: float
    y: float
    radius: float
    text: str
    must: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a text goes, from its anchor: offset in px and the end that sits there."""

    dx: float
    dy: float
    align: str


def place(anchors: Sequence[Anchor], lines: Sequence[Box], plot: Box) -> list[Place | None]:
    """Find a place for every text, the first anchors first; None where there is none left.

    Greedy over the places around the circle. Circles and earlier texts are never covered. A
    text that must be shown may cross one of the `lines` when every place does, and goes some
    lines further off where there is none; any other is left out then.
    """
    taken = [_around(anchor) for anchor in anchors]
    found: list[Place | None] = []
    for anchor in anchors:
        free = _free(_candidates(anchor), taken, plot)
        if anchor.must and not free:
            free = _free(_farther(anchor), taken, plot)
        clear = [pair for pair in free if not any(pair[1].meets(line) for line in lines)]
        spot, box = next(iter(clear or (free if anchor.must else [])), (None, None))
        if box is not None:
            taken.append(box)
        found.append(spot)
    return found


def _free(
    candidates: Sequence[tuple[Place, Box]], taken: Sequence[Box], plot: Box
) -> list[tuple[Place, Box]]:
    return [
        (spot, box)
        for spot, box in candidates
        if box.within(plot) and not any(box.meets(other) for other in taken)
    ]


def _around(anchor: Anchor) -> Box:
    return Box(
        left=anchor.x - anchor.radius,
        top=anchor.y - anchor.radius,
        right=anchor.x + anchor.radius,
        bottom=anchor.y + anchor.radius,
    )


def _candidates(anchor: Anchor) -> list[tuple[Place, Box]]:
    """Places around a circle, the best first, with the room the text takes there."""
    reach, slant = anchor.radius + GAP, 0.75 * anchor.radius + GAP
    above, far = reach + HEIGHT / 2, slant + HEIGHT
    return [
        _candidate(anchor, dx, dy, align)
        for dx, dy, align in (
            (reach, 0.0, "left"),
            (-reach, 0.0, "right"),
            (slant, -slant, "left"),
            (slant, slant, "left"),
            (-slant, -slant, "right"),
            (-slant, slant, "right"),
            (0.0, -above, "center"),
            (0.0, above, "center"),
            # One line further off: two points in one spot are named one below the other.
            (slant, far, "left"),
            (slant, -far, "left"),
            (-slant, far, "right"),
            (-slant, -far, "right"),
        )
    ]


def _farther(anchor: Anchor) -> list[tuple[Place, Box]]:
    """Places above and below a circle, the nearest first: lines `MOST_LINES` off at most."""
    slant = 0.75 * anchor.radius + GAP
    return [
        _candidate(anchor, dx, side * (slant + line * HEIGHT), align)
        for line in range(2, MOST_LINES + 1)
        for side in (1, -1)
        for dx, align in ((slant, "left"), (-slant, "right"), (0.0, "center"))
    ]


def _candidate(anchor: Anchor, dx: float, dy: float, align: str) -> tuple[Place, Box]:
    width = CHARACTER * len(anchor.text)
    left = anchor.x + dx - {"left": 0.0, "center": 0.5, "right": 1.0}[align] * width
    top = anchor.y + dy - HEIGHT / 2
    box = Box(left=left, top=top, right=left + width, bottom=top + HEIGHT)
    return Place(dx=dx, dy=dy, align=align), box

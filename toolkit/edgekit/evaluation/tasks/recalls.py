"""Which classes or labels a variant no longer finds, by their recalls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.evaluation.intervals import tango
from edgekit.evaluation.tasks.class_labels import label_of
from edgekit.records import Array, Collapse

KNOWN = 0.5
"""A class of which float32 finds half is one that it knows."""
LEFT_OF_KNOWN = 0.5
"""The share of its recall below which a known class has collapsed."""
LEFT_OF_OTHERS = 0.1
"""The same of a class that float32 hardly knows: next to nothing may be left."""


def next_to_nothing(known: Array, before: Array, after: Array) -> Array:
    """Return of which classes too little is left: `[k]` flags.

    Args:
        known: `[k]`, whether float32 knows the class.
        before: `[k]` recalls, or other figures where more is better, of float32.
        after: The same of the variant.
    """
    less: Array = after < np.where(known, LEFT_OF_KNOWN, LEFT_OF_OTHERS) * before
    return less


def lost_recalls(
    n: Array,
    found: Array,
    left: Array,
    lost: Array,
    won: Array,
    *,
    labels: Sequence[str] | None,
    noun: str = "class",
) -> tuple[Collapse, ...]:
    """Return the classes whose recall collapsed.

    It did if less than half of it is left (a tenth, where float32 finds less than half of the
    class), and if the paired drop of the recall, on the samples of the class, is more than chance:
    Tango's 95 % interval excludes 0 (`intervals.tango`). Of four samples all four must be lost for
    that, of fewer no loss is proof.

    Args:
        n: `[k]` samples of each class.
        found: Those that float32 finds.
        left: Those that the variant finds.
        lost: Those that float32 alone finds.
        won: Those that the variant alone finds.
        labels: Names of the classes.
        noun: What to call a class.
    """
    fewer = next_to_nothing(found >= KNOWN * n, found, left)
    return tuple(
        Collapse(
            kind="class",
            where=f"{noun} {label_of(i, labels)!r}",
            detail=f"recall {100 * found[i] / n[i]:.0f} % became {100 * left[i] / n[i]:.0f} % "
            f"on {n[i]:,} samples",
        )
        for i in np.flatnonzero(fewer).tolist()
        if tango(lost[i], won[i], n[i])[0] > 0
    )

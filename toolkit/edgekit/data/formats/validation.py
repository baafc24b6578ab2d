"""A validation split beside the others: it serves as the test split where there is none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

VALIDATION: Final = ("val", "valid", "validation")
"""Names of the validation split, as people give them."""


def substitute_test(present: Collection[str], shown: str) -> tuple[str, list[str]]:
    """Return the name of the split that serves as the test split, and notes.

    Args:
        present: Names of the splits that hold samples.
        shown: How a name is shown, such as `x_{}`.
    """
    others = [name for name in VALIDATION if name in present]
    notes, chosen = [], "test"
    if others and "test" not in present:
        chosen = others.pop(0)
        notes.append(f"There is no test split: {shown.format(chosen)} serves as one.")
    if others:
        listed = ", ".join(map(shown.format, others))
        notes.append(f"Not used: {listed}. {shown.format(chosen)} is the test split.")
    return chosen, notes

"""Class labels: texts become numbers, and numbers say what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from edgekit.errors import DataError
from edgekit.files import MISSING, check_input, what_is
from edgekit.records import Array
from edgekit_runner import decode_text, parse_labels

SORTED: Final = "in sorted order"
"""How texts are numbered where nothing declares an order."""


def number_labels(
    parts: Sequence[Array | None], labels: tuple[str, ...] | None, place: str
) -> tuple[list[Array | None], tuple[str, ...] | None, str | None]:
    """Replace texts in the targets of all splits by class numbers.

    Without `labels` the classes are the sorted texts of all splits together: the texts
    `["dog", "cat", "dog"]` become `[1, 0, 1]` with the labels `("cat", "dog")`.

    Returns:
        The targets, the labels, and a note where something was replaced.

    Raises:
        DataError: A text is none of the `labels`.
    """
    texts = [_texts(part) for part in parts]
    if all(part is None for part in texts):
        return list(parts), labels, None
    found = sorted({text for part in texts if part is not None for text in part})
    known = labels or tuple(found)
    unknown = [text for text in found if text not in known]
    if unknown:
        raise DataError(
            f"{place}: the label {unknown[0]!r} is none of the declared labels.",
            found=f"Declared: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}.",
            hint="Correct the labels, or leave the declaration out.",
        )
    numbers = {label: number for number, label in enumerate(known)}
    numbered: list[Array | None] = [
        part if text is None else np.array([numbers[item] for item in text], np.int64)
        for part, text in zip(parts, texts, strict=True)
    ]
    order = "as declared" if labels else SORTED
    return numbered, known, f"The labels are texts; they were numbered {order}."


def _texts(targets: Array | None) -> list[str] | None:
    """Return texts `[n]` or `[n, 1]` on one line each, or None where they are no texts."""
    if targets is None or targets.dtype.kind not in "US":
        return None
    return [" ".join(text.split()) for text in targets.astype(str).reshape(len(targets)).tolist()]


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """Return what the folder's `labels.txt` tells of the classes, in order (`parse_labels`).

    Raises:
        DataError: A label stands twice, or the file is not text.
    """
    path = folder / "labels.txt"
    if what_is(path) == MISSING:
        return None
    check_input(path, DataError)
    try:
        labels = tuple(parse_labels(decode_text(path.read_bytes())))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.", found=f"{error}.", hint="Save it as UTF-8, one class a line."
        ) from error
    twice = next((label for label in labels if label and labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: the label {twice!r} stands twice.", hint="One class a line.")
    return labels

"""Targets that name classes, in the forms in which people store them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.records import Array, TensorSpec


def as_classes(targets: Array) -> tuple[Array | None, str | None]:
    """Return targets as integer classes `[n]` and a note on what they were, or None.

    Integers `[n]` or `[n, 1]`, booleans, whole floats and one-hot rows `[n, k]` are classes.
    """
    if targets.dtype.kind not in "biuf":
        return None, None
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 1:
        if targets.dtype.kind != "f":
            return targets.astype(np.int64), None
        # NaN and infinity compare as larger; beyond 2 ** 53 every float is whole.
        if (np.abs(targets) <= 2**53).all() and (targets == np.round(targets)).all():
            note = "The labels are whole floats; they were read as classes."
            return targets.astype(np.int64), note
        return None, None
    if targets.ndim == 2 and _is_one_hot(targets):
        return targets.argmax(axis=1), "The labels are one-hot; they were read as classes."
    return None, None


def are_flags(classes: Array | None) -> bool:
    """Whether classes are nothing but 0 and 1."""
    return classes is not None and set(np.unique(classes)) <= {0, 1}


def are_label_flags(targets: Array) -> bool:
    """Whether targets of any shape are nothing but 0 and 1, as numbers of any kind."""
    return targets.dtype.kind in "biuf" and bool(((targets == 0) | (targets == 1)).all())


def are_shares(values: Array) -> bool:
    """Whether scores are probabilities, all in [0, 1]; else they are logits."""
    return bool(values.min() >= 0 and values.max() <= 1)


def label_of(index: int, labels: Sequence[str] | None) -> str:
    """Return the name of a class, or its number."""
    return labels[index] if labels is not None and index < len(labels) else str(index)


def class_count(output: TensorSpec) -> int | None:
    """Return the number of classes an output can tell: `k` for `[1, k]`, 2 for one unit."""
    return max(2, output.shape[1]) if len(output.shape) == 2 else None


def _is_one_hot(targets: Array) -> bool:
    ones = targets == 1
    return bool((ones | (targets == 0)).all() and (ones.sum(axis=1) == 1).all())

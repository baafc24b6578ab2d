"""The order of the classes as the model has it, where the data numbers them in another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from edgekit.data.labels import SORTED
from edgekit.data.store import RawDataset, Store, targets_by_output
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.tasks import as_classes
from edgekit.evaluation.tasks.detection import are_boxes
from edgekit.records import Array


def in_order_of(opened: RawDataset, classes: tuple[str, ...], place: str) -> RawDataset:
    """Return data whose targets are numbered in the model's order of the classes.

    Args:
        opened: The data, with its own names of the classes, or with numbers.
        classes: The same names, or numbers, in the model's order.
        place: The data in messages.

    Raises:
        UsageError: A class is listed twice.
        DataError: The targets are no classes, or one of them is not listed.
    """
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise UsageError(f"--classes lists {twice!r} twice.", hint="List each class once.")
    if any(
        s is not None and targets_by_output(s) for s in (opened.train, opened.test, opened.pool)
    ):
        raise UsageError(
            f"{place} has targets of several outputs: --classes does not say of which.",
            hint="Name the classes of each in the data: labels_<output>.",
        )
    return replace(
        opened,
        train=_renumbered(opened.train, opened.labels, classes, place),
        test=_renumbered(opened.test, opened.labels, classes, place),
        pool=_renumbered(opened.pool, opened.labels, classes, place),
        labels=classes,
        notes=tuple(note.replace(SORTED, "as --classes lists them") for note in opened.notes),
    )


def _renumbered(
    store: Store | None, labels: tuple[str, ...] | None, classes: tuple[str, ...], place: str
) -> Store | None:
    if store is None or store.targets is None:
        return store
    if are_boxes(store.targets):
        kinds = store.targets[:, :, 4]
        boxes = kinds >= 0
        old = kinds[boxes].astype(np.int64)
        targets = store.targets.copy()
        if len(old):
            targets[boxes, 4] = _places(old, labels, classes, place)[old]
        return cast("Store", replace(cast("Any", store), targets=targets))
    numbers, _ = as_classes(store.targets)
    if numbers is None or numbers.min() < 0:
        raise DataError(
            f"{place}: --classes orders classes, and the targets are none.",
            found=f"They are {store.targets.dtype} of shape {list(store.targets.shape)}.",
            hint="Leave out --classes.",
        )
    renumbered = _places(numbers, labels, classes, place)[numbers]
    return cast("Store", replace(cast("Any", store), targets=renumbered))  # all are dataclasses


def _places(
    numbers: Array, labels: tuple[str, ...] | None, classes: tuple[str, ...], place: str
) -> Array:
    """Return the place in `classes` of each class number of the data."""
    count = max(int(numbers.max()) + 1, len(labels or ()))
    names = [labels[i] if labels and i < len(labels) else str(i) for i in range(count)]
    used = {names[i] for i in np.unique(numbers)}
    missing = [name for name in names if name in used and name not in classes]
    if missing:
        raise DataError(
            f"{place}: the class {missing[0]!r} is not listed by --classes.",
            found=f"Listed: {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}.",
            hint=f"The data has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}.",
        )
    return np.array([classes.index(name) if name in classes else -1 for name in names], np.int64)

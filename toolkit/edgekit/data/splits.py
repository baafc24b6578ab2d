"""Drawing samples: the calibration subset, the validation part, a test split for tables."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.choices import SplitBy
from edgekit.data.store import ArrayStore, Store, adopted, reader_of, subset
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.tasks import CLASSIFICATION, RECONSTRUCTION, as_classes
from edgekit.records import Array, Dataset, Samples, Split

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2
"""Where samples are in no split."""

_Rule = Literal["group", "time", "draw"]


def split_of(dataset: Dataset, split: Split) -> Samples:
    """Return a split, or say what its absence means.

    Raises:
        DataError: The source does not hold it.
    """
    samples: Samples | None = getattr(dataset, split)
    if samples is not None:
        return samples
    if split == "test":
        raise DataError(
            f"{dataset.name} holds no test samples, so nothing can be scored.",
            hint="Add x_test and y_test (a test/ folder, rows with split = test), or draw some of "
            "the others: --split 0.2",
        )
    purpose = "calibrate on" if split == "calibrate" else "train on"
    raise DataError(
        f"{dataset.name} holds no training samples, so there is nothing to {purpose}.",
        found="The test split is refused for it: a score is worth nothing on samples already seen.",
        hint="Add x_train (a train/ folder, rows with split = train); labels are not needed."
        if split == "calibrate"
        else "Add x_train and y_train (a train/ folder, rows with split = train).",
    )


def training_split(dataset: Dataset, by: SplitBy = "auto") -> tuple[Samples, Samples]:
    """Divide `train` into nine tenths to fit and one tenth to stop by; the test split stays unseen.

    The division is the same every time.

    Args:
        dataset: The data.
        by: `group` takes whole groups (one engine) or sequences; `time` the last samples, of every
            group or sequence where there are some, after a gap of those that share rows with them.
            `auto` is `group` where there are groups or sequences, `time` for windows that overlap,
            and else draws samples, of each class alike.

    Raises:
        DataError: There is no train split, no target in it, or too little to divide.
        UsageError: `group`, and there are no groups.
    """
    train = adopted(split_of(dataset, "train"))
    reader = reader_of(train)
    if reader.targets is None and dataset.task != RECONSTRUCTION.name:
        raise DataError(
            f"The training samples of {dataset.name} have no targets.", hint="Add y_train."
        )
    rule = _rule(train, by, dataset.name)
    fit, validation = _divided(train, rule, VALIDATION_SHARE, seed=0)
    if not (len(fit) and len(validation)):
        raise DataError(
            f"{dataset.name} has too few training samples ({train.n}) to hold some back.",
            hint="Add samples: one in ten decides when training stops.",
        )
    return subset(train, fit, "train"), subset(train, validation, "train")


def drawn_test(samples: Samples, share: float, seed: int, name: str) -> tuple[Samples, Samples]:
    """Divide samples into a training and a test split, of the share asked for.

    Classes keep their shares; samples of one group or sequence stay together; of windows that
    overlap, without groups, the last ones are for testing. See `training_split`.

    Raises:
        DataError: There are too few to divide.
    """
    samples = adopted(samples)
    train, test = _divided(samples, _rule(samples, "auto", name), share, seed)
    if not (len(train) and len(test)):
        raise DataError(
            f"{name} has too few samples ({samples.n}) to draw a test split of {share:g}.",
            hint="Add samples, or groups: those of one group stay together.",
        )
    return subset(samples, train, "train"), subset(samples, test, "test")


def describe_validation(dataset: Dataset, by: SplitBy = "auto") -> str:
    """Say in a few words which samples `training_split` holds back; empty where it draws them."""
    train = adopted(split_of(dataset, "train"))
    rule = _rule(train, by, dataset.name)
    if rule != "time":
        return "whole groups" if rule == "group" else ""
    groups, overlap = _groups(train), _overlap(reader_of(train).store)
    words = "the end of the data" if groups is None else "the end of each group"
    if overlap:
        words += f" after a gap of {overlap} windows, which overlap with it"
    classes = _classes(train) if dataset.task == CLASSIFICATION.name else None
    if classes is not None:
        _, held = _by_time(train.n, groups, overlap, VALIDATION_SHARE)
        known, there = len(np.unique(classes)), len(np.unique(classes[held]))
        words += f" ({there} of {known} classes)" if there < known else ""
    return words


def _rule(samples: Samples, by: SplitBy, name: str) -> _Rule:
    """Return how validation samples are chosen.

    Raises:
        UsageError: By groups, and there are none.
    """
    grouped = _groups(samples) is not None
    if by == "group" and not grouped:
        raise UsageError(
            f"{name} has no groups to split by.",
            hint="Name them (--group COLUMN for a .csv, group_train in an .npz), or split by time.",
        )
    if by != "auto":
        return by
    if grouped:
        return "group"
    return "time" if _overlap(reader_of(samples).store) else "draw"


def _overlap(store: Store) -> int:
    """Return how many samples after each one, of its group, hold some of its values."""
    return store.overlap if isinstance(store, ArrayStore) else 0


def _groups(samples: Samples) -> Array | None:
    """Return the samples' groups `[n]`, or else their sequences, where they have some."""
    reader = reader_of(samples)
    if reader.store.groups is None:
        return samples.sequences
    return reader.store.groups[reader.index]


def _by_time(
    n: int, groups: Array | None, overlap: int, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices kept and held out: the last of each group, after a gap of `overlap`."""
    numbers = np.zeros(n, np.int64) if groups is None else groups
    parts = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    # Rounded sums, so that small groups have their share too.
    counts = np.diff(np.round(np.cumsum([len(part) for part in parts]) * share), prepend=0)
    counts[-1] += n > 1 and not counts.any()
    kept, held = [], []
    for part, count in zip(parts, counts.astype(int), strict=True):
        end = len(part) - count
        held.append(part[end:])
        kept.append(part[: max(0, end - overlap) if count else end])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def _divided(
    samples: Samples, rule: _Rule, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices kept and held out; those of a gap are neither."""
    groups = _groups(samples)
    if rule == "time":
        return _by_time(samples.n, groups, _overlap(reader_of(samples).store), share)
    if groups is None:
        return held_out(samples.n, _classes(samples), share, seed)
    names = np.unique(groups)
    _, chosen = held_out(len(names), None, share, seed)
    held = np.isin(groups, names[chosen])
    return np.flatnonzero(~held), np.flatnonzero(held)


def calibration_subset(train: Samples, n: int, seed: int) -> Samples:
    """Draw `n` samples of `train`, equally many of each class where classes are known.

    They come in rounds of one sample a class, so that any beginning of them is balanced too.
    Whole numbers that take more values than `n` are taken for quantities, not classes. Where the
    samples are sequences, whole sequences are drawn, and the last one ends early.

    Raises:
        UsageError: `n` is not positive.
    """
    if n < 1:
        raise UsageError(f"Invalid number of calibration samples: {n}.", hint="Give at least 1.")
    if (starts := train.starts()) is not None:
        pieces = np.split(np.arange(train.n), np.flatnonzero(starts)[1:])
        drawn = np.random.default_rng(seed).permutation(len(pieces))
        return subset(train, np.concatenate([pieces[i] for i in drawn])[:n], "calibrate")
    order = np.random.default_rng(seed).permutation(train.n)
    classes = _classes(train)
    if classes is not None and len(np.unique(classes)) <= n:
        order = order[np.argsort(_round(classes[order]), kind="stable")]
    return subset(train, order[:n], "calibrate")


def beyond_calibration(dataset: Dataset) -> NDArray[np.int64]:
    """Return which training samples calibration did not draw.

    Empty where that is not known: where both are of somebody else's reading, or sequences.
    """
    train, calibrate = dataset.train, dataset.calibrate
    nothing = np.zeros(0, np.int64)
    if train is None or calibrate is None or train.sequences is not None:
        return nothing
    ours, drawn = reader_of(train), reader_of(calibrate)
    if ours.store is not drawn.store:
        return nothing
    return np.flatnonzero(~np.isin(ours.index, drawn.index))


def held_out(
    n: int, classes: Array | None, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a `share` of `n` samples, of each class alike where classes are known.

    Returns:
        Indices kept and indices held out, both in order.
    """
    order = np.random.default_rng(seed).permutation(n)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    # Every (1 / share)-th of the shuffled classes laid end to end: right for rare classes too.
    count = max(1, round(n * share)) if n > 1 else 0
    held = np.sort(order[((np.arange(count) + 0.5) * n / max(1, count)).astype(np.int64)])
    return np.setdiff1d(np.arange(n), held), held


def _classes(samples: Samples) -> Array | None:
    """Return the samples' classes `[n]` where their targets can be classes."""
    reader = reader_of(samples)
    if reader.targets is None or reader.target_shape is not None or reader.targets.ndim > 2:
        return None
    return as_classes(reader.targets[reader.index])[0]


def _round(classes: Array) -> NDArray[np.int64]:
    """Return for each sample how many of its class came before it.

    Example:
        >>> _round(np.array([7, 7, 3, 7]))
        array([0, 1, 0, 2])
    """
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    starts = np.searchsorted(ordered, ordered)
    rounds = np.empty(len(classes), np.int64)
    rounds[order] = np.arange(len(classes)) - starts
    return rounds

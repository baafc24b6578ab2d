"""Drawing samples: the calibration subset, the validation part, a test split for tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.data.store import adopted, reader_of, subset
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.tasks import RECONSTRUCTION, as_classes
from edgekit.records import Array, Dataset, Samples, Split

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2
"""Where samples are in no split."""


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


def training_split(dataset: Dataset) -> tuple[Samples, Samples]:
    """Divide `train` into nine tenths to fit and one tenth to stop by; the test split stays unseen.

    Classes keep their shares, and samples of one group (one engine) stay together. The draw is
    the same every time.

    Raises:
        DataError: There is no train split, no target in it, or too little to divide.
    """
    train = adopted(split_of(dataset, "train"))
    reader = reader_of(train)
    if reader.targets is None and dataset.task != RECONSTRUCTION.name:
        raise DataError(
            f"The training samples of {dataset.name} have no targets.", hint="Add y_train."
        )
    fit, validation = _divided(train, _groups(train), VALIDATION_SHARE, seed=0)
    if not (len(fit) and len(validation)):
        raise DataError(
            f"{dataset.name} has too few training samples ({train.n}) to hold some back.",
            hint="Add samples: one in ten decides when training stops.",
        )
    return subset(train, fit, "train"), subset(train, validation, "train")


def drawn_test(samples: Samples, share: float, seed: int, name: str) -> tuple[Samples, Samples]:
    """Divide samples into a training and a test split, of the share asked for.

    Classes keep their shares; samples of one group or sequence stay together.

    Raises:
        DataError: There are too few to divide.
    """
    samples = adopted(samples)
    groups = _groups(samples)
    train, test = _divided(samples, samples.sequences if groups is None else groups, share, seed)
    if not (len(train) and len(test)):
        raise DataError(
            f"{name} has too few samples ({samples.n}) to draw a test split of {share:g}.",
            hint="Add samples, or groups: those of one group stay together.",
        )
    return subset(samples, train, "train"), subset(samples, test, "test")


def _groups(samples: Samples) -> Array | None:
    """Return the samples' groups `[n]`, where they have some."""
    reader = reader_of(samples)
    return None if reader.store.groups is None else reader.store.groups[reader.index]


def _divided(
    samples: Samples, groups: Array | None, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices kept and held out: whole groups, or else of each class alike."""
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

"""Test samples that were trained on, found by the digest of each sample."""

from __future__ import annotations

import numpy as np

from edgekit.data.store import reader_of
from edgekit.records import Samples

REPETITIVE_SHARE = 0.5


def overlap_note(train: Samples, test: Samples) -> str | None:
    """Return a warning with count and share of test samples that are in train, or None.

    Data that repeats itself anyway (constant rows, few distinct values) shares samples without a
    leak. A score on samples that were trained on is of use too: it shows whether two files agree.
    """
    if _are_the_same(train, test):
        return None  # of which the data's own note tells
    trained = _digests(train)
    tested = _digests(test)
    known = set(trained)
    shared = sum(digest in known for digest in tested)
    if not shared:
        return None
    share = shared / len(tested)
    repeated = 1 - len(known) / len(trained)
    said = f"{shared} of {len(tested)} test samples ({share:.1%}) are also in train"
    if repeated > REPETITIVE_SHARE:
        return f"{said}; the data repeats itself ({repeated:.0%} of train are duplicates)."
    if share > REPETITIVE_SHARE:
        return f"{said}: the score says little about new samples. Split anew to know it."
    return f"{said}: the score is a little too good."


def _are_the_same(train: Samples, test: Samples) -> bool:
    """Tell whether data without a split serves as both."""
    one, other = reader_of(train), reader_of(test)
    return one.store is other.store and np.array_equal(one.index, other.index)


def _digests(samples: Samples) -> list[bytes]:
    reader = reader_of(samples)
    digests = reader.store.digests()
    return [digests[row] for row in reader.index]

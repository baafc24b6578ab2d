"""Test samples that were trained on, found by the digest of each sample."""

from __future__ import annotations

from edgekit.data.store import reader_of
from edgekit.errors import DataError
from edgekit.records import Samples

REFUSED_SHARE = 0.5


def overlap_note(train: Samples, test: Samples, name: str) -> str | None:
    """Return a warning with count and share of test samples that are in train, or None.

    Data that repeats itself anyway (constant rows, few distinct values) shares samples without a
    leak: it is refused only where train is not itself as repetitive.

    Raises:
        DataError: More than half of the test samples are in train.
    """
    trained = _digests(train)
    tested = _digests(test)
    known = set(trained)
    shared = sum(digest in known for digest in tested)
    if not shared:
        return None
    share = shared / len(tested)
    repeated = 1 - len(known) / len(trained)
    said = f"{shared} of {len(tested)} test samples ({share:.1%}) are also in train"
    if share > REFUSED_SHARE and repeated <= REFUSED_SHARE:
        raise DataError(
            f"{name}: {said}.",
            found="A score on samples that were trained on says nothing about new ones.",
            hint="Split anew, so that no sample is on both sides.",
        )
    if repeated > REFUSED_SHARE:
        return f"{said}; the data repeats itself ({repeated:.0%} of train are duplicates)."
    return f"{said}: the score is a little too good."


def _digests(samples: Samples) -> list[bytes]:
    reader = reader_of(samples)
    digests = reader.store.digests()
    return [digests[row] for row in reader.index]

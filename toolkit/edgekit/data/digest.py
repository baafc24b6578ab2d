"""Digests: of a split, so that a manifest can say which data it saw; of a sample, to find leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.data.stored import StoredArray
from edgekit.records import Array

CHUNK_BYTES = 1 << 22


def digest_arrays(arrays: Mapping[str, Array | StoredArray]) -> str:
    """Digest names, dtypes, shapes and contents, a few megabytes at a time."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        step = max(1, CHUNK_BYTES // max(1, array.nbytes // max(1, len(array))))
        for start in range(0, len(array), step):
            digest.update(_bytes_of(array[start : start + step]))
    return digest.hexdigest()


def digest_subset(parent: str, index: NDArray[np.int64]) -> str:
    """Digest the samples at `index` of a split whose digest is `parent`."""
    return hashlib.sha256(parent.encode() + _bytes_of(index.astype("<i8"))).hexdigest()


def digest_files(names: Sequence[str], contents: Sequence[bytes]) -> str:
    """Digest the relative names of a folder's files and the digests of their contents."""
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        digest.update(f"{name}\0".encode() + content)
    return digest.hexdigest()


def digest_rows(inputs: Mapping[str, Array | StoredArray], rows: NDArray[np.int64]) -> list[bytes]:
    """Return one digest a sample, over all its inputs, a few megabytes at a time."""
    names = sorted(inputs)
    n = max(1, len(inputs[names[0]]))
    step = max(1, CHUNK_BYTES // max(1, sum(inputs[name].nbytes for name in names) // n))
    digests = []
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        views = [
            np.ascontiguousarray(inputs[name][some]).reshape(len(some), -1).view(np.uint8)
            for name in names
        ]
        for row in range(len(some)):
            digest = hashlib.blake2b(digest_size=16)
            for view in views:
                digest.update(view[row])
            digests.append(digest.digest())
    return digests


def _bytes_of(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()

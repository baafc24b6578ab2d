"""What devices are sent: the test samples packed once, and every file hashed once."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgekit.files import sha256_of
from edgekit.records import Artifact, Samples


class Uploads:
    """Packages and digests that several devices share; safe to use from several threads.

    Args:
        folder: An existing folder for the packages, and for the results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._digests: dict[Path, str] = {}
        self._packages: dict[Any, Path] = {}

    def add(self, artifact: Artifact) -> None:
        """Take over the digest of a file that is known already."""
        if artifact.gzip_bytes is not None:
            return  # its digest is that of the content
        with self._lock:
            self._digests[artifact.path] = artifact.sha256

    def digest(self, path: Path) -> str:
        """Return the sha256 of a file that does not change meanwhile."""
        with self._lock:
            if path not in self._digests:
                self._digests[path] = sha256_of(path)
            return self._digests[path]

    def package(self, samples: Samples) -> Path:
        """Return the packed inputs of a split; equal inputs share one package."""
        one = samples.read(np.zeros(1, np.int64)).inputs
        shapes = tuple((name, first.shape[1:], first.dtype.str) for name, first in one.items())
        ordered = None if samples.sequences is None else samples.sequences.tobytes()
        key = (samples.sha256, samples.n, shapes, ordered)
        with self._lock:
            if key not in self._packages:
                path = self.folder / f"data{len(self._packages)}.npz"
                pack(samples, path)
                self._packages[key] = path
            return self._packages[key]


def pack(samples: Samples, destination: Path) -> None:
    """Write prepared inputs as the runner reads them, one sample after the other.

    The same samples give the same bytes, so that a device which has them is sent nothing.
    """
    one = samples.read(np.zeros(1, np.int64)).inputs
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, first in one.items():
            member = "inputs" if len(one) == 1 else f"inputs_{name}"
            with _member(archive, member, (samples.n, *first.shape[1:]), first.dtype) as stream:
                for batch in samples.batches():
                    stream.write(np.ascontiguousarray(batch.inputs[name]).tobytes())
        if (ids := samples.sequences) is not None:
            with _member(archive, "sequence_test", ids.shape, ids.dtype) as stream:
                stream.write(ids.tobytes())


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[IO[bytes]]:
    """Open an array of an `.npz` for its values; the header is written."""
    # A fixed date: zipfile would take today's.
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_2_0(
            stream,
            {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": shape,
            },
        )
        yield stream

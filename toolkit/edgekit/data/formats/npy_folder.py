"""Folders of `.npy` files, as `numpy.save` writes them: named as the arrays of an `.npz` are.

An array is left in its file and read row by row (a Fortran-ordered one is mapped), so a folder may
be larger than memory. A `labels.txt` names the classes, a `preprocessing.toml` says how raw samples
become inputs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.archives import ArchiveError
from edgekit.data.formats.arrays import open_arrays
from edgekit.data.formats.format import Format
from edgekit.data.formats.npy import Header, read_errors, read_header
from edgekit.data.labels import read_labels
from edgekit.data.preprocessing import check_preprocessing, read_preprocessing
from edgekit.data.store import RawDataset
from edgekit.data.stored import OpenFile, StoredArray
from edgekit.errors import DataError
from edgekit.files import MISSING, check_input, what_is
from edgekit.records import Array, Split

SUFFIX = ".npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyFile:
    """One `.npy` file, of which only the header was read.

    Attributes:
        file: The file, open.
        header: What it says of itself.
    """

    file: OpenFile
    header: Header

    @property
    def shape(self) -> tuple[int, ...]:
        """`[n, ...]`."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self.header.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def in_memory(self) -> Array:
        """Read the whole array."""
        values = np.empty(self.shape, self.dtype, order="F" if self.header.fortran else "C")
        self.file.read_into(values.ravel(order="K"), self.header.size)
        return values

    def by_rows(self) -> Array | StoredArray:
        """Return the array for reading rows where they lie."""
        if self.header.fortran and self.ndim > 1 and self.nbytes:
            return self.file.mapped(self.header.size, self.shape, self.dtype, "F")
        return StoredArray(self.file, self.header.size, self.shape, self.dtype)


def has_npy(folder: Path) -> bool:
    """Tell whether a folder has samples in `.npy` files."""
    return any(path.name.startswith(("x_train", "x_test")) for path in _files(folder))


def open_npy_folder(
    folder: Path, preprocessing: Mapping[str, Any] | None, needed: Split | None = None
) -> RawDataset:
    """Open a folder of `x_train.npy`, `y_train.npy`, `x_test.npy`, `y_test.npy`.

    Several inputs are `x_train_<input>.npy`.

    Args:
        folder: The folder.
        preprocessing: The user's spec; None takes that of the folder's `preprocessing.toml`.
        needed: The only split that will be read, if that is known.

    Raises:
        DataError: A file is damaged, or the arrays do not fit each other.
    """
    arrays: dict[str, Any] = {path.stem: read_npy(path) for path in _files(folder)}
    labels = read_labels(folder)
    if labels is not None:
        arrays.setdefault("labels", np.array(labels))
    opened = open_arrays(arrays, folder.resolve().name, str(folder), needed)
    path = folder / "preprocessing.toml"
    if preprocessing is None and what_is(path) != MISSING:
        spec = check_preprocessing(read_preprocessing(path), str(path))
        return replace(opened, preprocessing=spec)
    return opened


def read_npy(path: Path) -> NpyFile:
    """Read the header of a `.npy` file.

    Raises:
        DataError: It cannot be read, it is damaged, or it holds pickled objects.
    """
    check_input(path, DataError)
    with read_errors(path):
        file = OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
        with path.open("rb") as stream:
            header = read_header(stream, path.name, path, os.fstat(stream.fileno()).st_size)
        if header is None:
            raise ArchiveError(
                "It does not begin like an .npy file.", "Write it with numpy.save(path, array)."
            )
        return NpyFile(file=file, header=header)


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".")
    )


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder and has_npy(argument.path),
    open=lambda argument: open_npy_folder(argument.path, argument.preprocessing, argument.needed),
)

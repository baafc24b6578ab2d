"""One `.npy` file: samples without targets, and in no split."""

from __future__ import annotations

from pathlib import Path

from edgekit.data.formats.arrays import open_arrays
from edgekit.data.formats.format import Format
from edgekit.data.formats.npy_folder import SUFFIX, read_npy
from edgekit.data.store import RawDataset


def open_npy(path: Path) -> RawDataset:
    """Open a `.npy` file, `[n, ...]`, for a model with one input.

    Raises:
        DataError: It is damaged, or holds no samples.
    """
    opened = open_arrays({"x_train": read_npy(path)}, path.stem, str(path))
    return RawDataset(name=opened.name, train=None, test=None, pool=opened.train)


FORMAT = Format(
    recognizes=lambda argument: argument.is_file and argument.has_suffix(SUFFIX),
    open=lambda argument: open_npy(argument.path),
)

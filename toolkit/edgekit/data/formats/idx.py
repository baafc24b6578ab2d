"""IDX files, the format of MNIST and its many relatives (format: yann.lecun.com/exdb/mnist).

Two zero bytes, a type code, the number of dimensions; each dimension as a big-endian 32-bit
integer; then the values, big-endian, last dimension fastest.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.archives import ArchiveError, read_gzip
from edgekit.data.formats.format import Argument, Format
from edgekit.data.labels import read_labels
from edgekit.data.preprocessing import check_preprocessing
from edgekit.data.store import ArrayStore, RawDataset, array_store
from edgekit.data.stored import StoredArray
from edgekit.errors import DataError
from edgekit.files import check_input
from edgekit.records import Array

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
AXES = 8
"""More axes than any data set has; numpy takes 64, the format 255."""
SPLIT_WORDS = {"train": ("train",), "test": ("t10k", "test")}


def has_idx(place: Path) -> bool:
    """Tell whether a folder, or a path taken as the beginning of file names, has IDX files."""
    return bool(_found(place, "train", "images") or _found(place, "test", "images"))


def open_idx(place: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open `train-images-idx3-ubyte[.gz]` and its three companions.

    Args:
        place: Their folder, or the beginning of their names: `sets/emnist-letters` stands for
            `sets/emnist-letters-train-images-idx3-ubyte.gz` and so on.
        preprocessing: Spec for the images; None leaves open how pixels are scaled, and other data
            than images as they are.

    Raises:
        DataError: A file is missing, damaged or ambiguous.
    """
    train, test = _split(place, "train"), _split(place, "test")
    first = train or test
    assert first is not None, "has_idx was asked before"
    images = first.inputs["x"]
    pixels = preprocessing is None and images.dtype == np.uint8
    spec = _pixels(images) if pixels else preprocessing or {"kind": "none"}
    return RawDataset(
        name=place.resolve().name.rstrip("-"),
        train=train,
        test=test,
        labels=read_labels(place) if place.is_dir() else None,
        preprocessing=check_preprocessing(spec, "preprocessing"),
    )


def read_idx(path: Path) -> Array:
    """Read one IDX file; an uncompressed one is mapped, not read.

    Raises:
        DataError: It is damaged, or no IDX file.
    """
    check_input(path, DataError)
    try:
        if path.suffix == ".gz":
            content: Any = np.frombuffer(read_gzip(path), np.uint8)
        else:
            content = np.memmap(path, np.uint8, mode="r")
    except ArchiveError as error:
        raise DataError(f"{path} cannot be read.", found=error.found, hint=error.hint) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.", found=f"{error}.", hint="The file is damaged: fetch it anew."
        ) from error
    head = bytes(content[:4])
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES or not 0 < head[3] <= AXES:
        raise DataError(
            f"{path} is not an IDX file.",
            found=f"It begins with {head.hex(' ') or 'nothing'}.",
            hint="Expected 00 00, a type code, the number of dimensions.",
        )
    start = 4 + 4 * head[3]
    body = content[start:]
    dtype = np.dtype(DTYPES[head[2]])
    shape = struct.unpack(f">{head[3]}I", content[4:start]) if len(content) >= start else (1,)
    if len(body) != math.prod(shape) * dtype.itemsize or 0 in shape[1:]:
        raise DataError(
            f"{path} is truncated or too long.",
            found=f"{'x'.join(map(str, shape))} values announced, {len(body):,} bytes there.",
            hint="Fetch the file anew.",
        )
    return np.asarray(body).view(dtype).reshape(shape)


def _found(place: Path, split: str, what: str) -> list[Path]:
    folder, prefix = (place, "") if place.is_dir() else (place.parent, place.name)
    return sorted(
        path
        for word in SPLIT_WORDS[split]
        for path in folder.glob(f"*{word}[-.]{what}[-.]idx?-*")
        if path.name.startswith(prefix)
    )


def _split(place: Path, split: str) -> ArrayStore | None:
    paths = {what: _found(place, split, what) for what in ("images", "labels")}
    for found in paths.values():
        names = {path.name.removesuffix(".gz") for path in found}
        if len(names) > 1:
            raise DataError(
                f"{place} holds several sets of IDX files.",
                found=f"Among them: {', '.join(sorted(names)[:3])}.",
                hint="Give the folder and the beginning of the names that are meant.",
            )
    if not paths["images"]:
        return None
    images = read_idx(paths["images"][0])
    targets = read_idx(paths["labels"][0]) if paths["labels"] else None
    if targets is not None and len(targets) != len(images):
        raise DataError(
            f"{paths['labels'][0]} does not belong to its images.",
            found=f"{len(targets):,} labels, {len(images):,} images.",
            hint="Fetch both files from the same place.",
        )
    return array_store({"x": images}, targets)


def _pixels(images: Array | StoredArray) -> dict[str, Any]:
    if images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3)):
        height, width = images.shape[1:3]
        channels = 1 if images.ndim == 3 else images.shape[3]
        return {"kind": "image", "height": height, "width": width, "channels": channels}
    return {"kind": "none"}


def _recognizes(argument: Argument) -> bool:
    path = argument.path
    begins_names = argument.is_missing and bool(path.name) and path.parent.is_dir()
    return (argument.is_folder or begins_names) and has_idx(path)


FORMAT = Format(
    recognizes=_recognizes,
    open=lambda argument: open_idx(argument.path, argument.preprocessing),
)

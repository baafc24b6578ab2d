"""Folders of class folders of images, decoded one by one when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.digest import digest_files
from edgekit.data.formats.format import Format
from edgekit.data.labels import read_labels
from edgekit.data.preprocessing import check_preprocessing, read_preprocessing
from edgekit.data.store import RawDataset, Rows
from edgekit.errors import DataError
from edgekit.files import MISSING, what_is
from edgekit.records import Array

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageStore:
    """Image files, by path.

    Attributes:
        files: Paths, class by class.
        targets: Class of each file, `[n]`.
        sha256: Digest over relative names and contents.
        contents: Digest of each file's content.
    """

    files: tuple[str, ...]
    targets: Array
    sha256: str
    contents: tuple[bytes, ...]
    groups: Array | None = None

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the images at `rows`, each decoded when the iterator reaches it."""
        return {"x": self._decoded(rows)}

    def digests(self) -> list[bytes]:
        """Return one digest a file."""
        return list(self.contents)

    def first_unusable(self) -> tuple[str, int] | None:
        """Return None: pixels are bytes, and always finite."""
        return None

    def firsts(self) -> list[int]:
        """Return the row of the first image of each class."""
        return [int(row) for row in np.unique(self.targets, return_index=True)[1]]

    def _decoded(self, rows: Rows) -> Iterator[Any]:
        from PIL import Image

        for row in rows:
            file = self.files[row]
            try:
                with Image.open(file) as image:
                    image.load()
                    yield image
            except Exception as error:  # Pillow's decoders raise what they like
                raise DataError(
                    f"{file} cannot be decoded.",
                    found=f"Pillow says: {error}.",
                    hint="Replace the file or remove it.",
                ) from error


def open_folder(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder with `train/<class>/<image>` and `test/<class>/<image>`.

    A `preprocessing.toml` in it says how images become inputs, a `labels.txt` the order of the
    classes (else they are sorted).

    Raises:
        DataError: There are no such folders or images, or the spec is invalid.
    """
    classes = {split: _folders(root / split) for split in SPLITS if (root / split).is_dir()}
    if not any(classes.values()):
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(
            f"{root} has no class folders under train/ or test/.",
            found=f"It holds {inside}.",
            hint="Put images into train/<class>/ and test/<class>/ (or give .npz, IDX, .csv).",
        )
    found = sorted({name for names in classes.values() for name in names})
    labels = read_labels(root) or tuple(found)
    strangers = [name for name in found if name not in labels]
    if strangers:
        raise DataError(
            f"{root}: the class folder {strangers[0]!r} is not in labels.txt.",
            hint="Name every class folder there, one a line, in the model's order.",
        )
    spec, notes = _spec(root, preprocessing), list[str]()
    skipped: list[str] = []
    stores = {
        split: _store(root, split, {name: labels.index(name) for name in names}, skipped)
        for split, names in classes.items()
    }
    if skipped:
        notes.append(f"Files that are no images were skipped: {len(skipped)} ({skipped[0]}).")
    return RawDataset(
        name=root.resolve().name,
        train=stores.get("train"),
        test=stores.get("test"),
        labels=labels,
        preprocessing=spec,
        notes=tuple(notes),
    )


def _spec(root: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
    path = root / "preprocessing.toml"
    place = "preprocessing"
    if given is None and what_is(path) != MISSING:
        given, place = read_preprocessing(path), str(path)
    given = {"kind": "image"} if given is None else given
    spec = check_preprocessing(given, place)
    if spec["kind"] != "image":
        raise DataError(
            f"{root}: preprocessing of kind {spec['kind']!r} takes no image files.",
            hint='Write kind = "image".',
        )
    return spec


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _store(root: Path, split: str, classes: Mapping[str, int], skipped: list[str]) -> ImageStore:
    files: list[str] = []
    targets: list[int] = []
    for name, number in classes.items():
        images, others = _images(root / split / name)
        files += images
        skipped += others
        targets += [number] * len(images)
    sha256, contents = digest_files(root / split, files)
    return ImageStore(
        files=tuple(files),
        targets=np.array(targets, np.int64),
        sha256=sha256,
        contents=contents,
    )


def _images(folder: Path) -> tuple[Sequence[str], Sequence[str]]:
    with os.scandir(folder) as entries:
        files = sorted(e.path for e in entries if e.is_file() and not e.name.startswith("."))
    images = [file for file in files if Path(file).suffix.lower() in SUFFIXES]
    return images, [file for file in files if Path(file).suffix.lower() not in SUFFIXES]


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder,  # tried after the other folders
    open=lambda argument: open_folder(argument.path, argument.preprocessing),
)

"""Two folders side by side, pictures in one and what belongs to them in the other.

Both `images/train` beside `labels/train` and `train/images` beside `train/labels` are usual; so are
`images` and `labels` alone, which are in no split.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from edgekit.data.formats.class_folders import SPLITS, UNSPLIT

PICTURES = "images"


def paired_folders(root: Path, other: str) -> dict[str, tuple[Path, Path]]:
    """Return the folders of pictures and of what belongs to them, by split.

    A folder is of the split with whose name its own begins: `train2017` is one of training.
    """
    found: dict[str, tuple[Path, Path]] = {}
    inside = root / PICTURES, root / other
    for name in _folders(inside[0]):
        if (split := split_of_name(name)) and (inside[1] / name).is_dir():
            found.setdefault(split, (inside[0] / name, inside[1] / name))
    for name in _folders(root):
        pair = root / name / PICTURES, root / name / other
        if (split := split_of_name(name)) and all(place.is_dir() for place in pair):
            found.setdefault(split, pair)
    if not found and all(place.is_dir() for place in inside):
        found[UNSPLIT] = inside
    return found


def split_of_name(name: str) -> str | None:
    """Return the split that a file or folder is of, by the beginning of its name.

    >>> [split_of_name(name) for name in ("train2017", "validation", "valid", "trainval", "other")]
    ['train', 'validation', 'valid', None, None]
    """
    word = name.lower().rstrip("0123456789_-")
    return word if word in SPLITS else None


def files_below(folder: Path, suffixes: Collection[str]) -> Mapping[str, str]:
    """Return the files below a folder with one of the endings: name without ending -> path.

    The names are relative to the folder and sorted. Hidden files are skipped. Of two files that
    differ in their endings only, both are there: the second under its whole name.
    """
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                path = Path(place, name)
                stem = path.relative_to(folder).with_suffix("").as_posix()
                key = stem if stem not in found else path.relative_to(folder).as_posix()
                found[key] = str(path)
    return found


def _folders(place: Path) -> list[str]:
    if not place.is_dir():
        return []
    return sorted(path.name for path in place.iterdir() if path.is_dir())

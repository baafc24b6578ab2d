"""YOLO: a text file for each picture, with a line `class cx cy w h` for each box.

`images/train` beside `labels/train`, or `train/images` beside `train/labels`. Numbers are fractions
of the picture. A polygon, `class x1 y1 x2 y2 ...`, is taken for the box around it. A picture
without a text file is one without boxes, as in the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.formats.boxes import Annotated, open_boxes
from edgekit.data.formats.format import Format
from edgekit.data.formats.images import SUFFIXES
from edgekit.data.formats.paired_folders import files_below, paired_folders
from edgekit.data.formats.yolo_names import NAME_LISTS, read_names
from edgekit.data.store import RawDataset
from edgekit.errors import DataError
from edgekit.parsing import ParseError, read_text
from edgekit.records import Array

LABELS = "labels"
MOST_BYTES = 4 << 20
MOST_CLASSES = 1 << 16
FAR = 2.0
"""Fractions beyond this are no fractions: the numbers are pixels."""


def parse_boxes(text: str, *, keypoints: bool = False) -> tuple[Array, Array]:
    """Return corners `[m, 4]` as fractions and classes `[m]` of the lines of a text.

    Args:
        text: Lines of a class and numbers.
        keypoints: Whether keypoints follow a box; else more numbers are a polygon.

    Raises:
        ParseError: A line is none of these.
    """
    corners, classes = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            kind, *values = map(float, words)
        except ValueError as error:
            raise ParseError(f"line {number} holds other words than numbers") from error
        if (
            not (kind == int(kind) if math.isfinite(kind) else False)
            or not 0 <= kind < MOST_CLASSES
        ):
            raise ParseError(f"line {number} has class {words[0]:.40}")
        if not all(abs(value) <= FAR for value in values):
            raise ParseError(f"line {number} has numbers that are no fractions of the picture")
        if len(values) == 4 or (keypoints and len(values) > 4):
            x, y, width, height = values[:4]
            corners.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        elif len(values) >= 6 and len(values) % 2 == 0:
            across, down = values[::2], values[1::2]
            corners.append((min(across), min(down), max(across), max(down)))
        else:
            raise ParseError(f"line {number} has {len(words)} numbers, not class cx cy w h")
        classes.append(int(kind))
    return np.array(corners, np.float64).reshape(-1, 4), np.array(classes, np.int64)


def open_yolo(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder of YOLO.

    Raises:
        DataError: There is nothing to read in it, or a class has no name.
    """
    folders = paired_folders(root, LABELS)
    names, source, keypoints = read_names(root, [place for _, place in folders.values()])
    notes: list[str] = []
    splits, bare = {}, 0
    for split, (pictures, labels) in folders.items():
        texts = files_below(labels, {".txt"})
        found = files_below(pictures, SUFFIXES)
        splits[split] = [_read(path, texts.get(name), keypoints) for name, path in found.items()]
        bare += sum(name not in texts for name in found)
        strays = [name for name in texts if name not in found and f"{name}.txt" not in NAME_LISTS]
        if strays:
            notes.append(f"Text files without a picture in {split}: {len(strays)} ({strays[0]}).")
    if bare:
        notes.append(f"Pictures without a text file have no boxes: {bare}.")
    _check_classes(root, splits, names, source)
    opened = open_boxes(root, splits, names, preprocessing, notes)
    origin = f"Boxes were read from YOLO text files, names of classes from {source}."
    return replace(opened, origins=(origin,))


def _read(path: str, text: str | None, keypoints: bool) -> Annotated:
    if text is None:
        return Annotated(path=path)
    name = Path(text).name
    try:
        corners, classes = parse_boxes(read_text(Path(text), MOST_BYTES), keypoints=keypoints)
    except OSError as error:
        return Annotated(path=path, reason=f"{name}: {error.strerror or 'not readable'}")
    except ParseError as error:
        return Annotated(path=path, reason=f"{name}: {error}")
    return Annotated(
        path=path, corners=corners, classes=classes, ignored=np.zeros(len(classes), bool)
    )


def _check_classes(
    root: Path,
    splits: Mapping[str, Sequence[Annotated]],
    names: Sequence[str] | None,
    source: str,
) -> None:
    for pictures in splits.values():
        for picture in pictures:
            if names is not None and picture.classes.max(initial=-1) >= len(names):
                raise DataError(
                    f"{root}: a box is of class {picture.classes.max()}, and {source} names "
                    f"{len(names)} classes.",
                    found=f"It belongs to {Path(picture.path).name}.",
                    hint="Correct the number, or name all classes; they count from 0.",
                )


def is_yolo(root: Path) -> bool:
    """Tell whether a folder has text files where YOLO has them."""
    return any(files_below(place, {".txt"}) for _, place in paired_folders(root, LABELS).values())


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder and is_yolo(argument.path),
    open=lambda argument: open_yolo(argument.path, argument.preprocessing),
)

"""Pictures with boxes: what COCO, Pascal VOC and YOLO have in common once they are read.

A target is `[m, 6]`: x1, y1, x2, y2 as fractions of the picture upright, the class, and 1 where the
box is neither to be found nor to be missed. Rows of class `NO_BOX` fill up to the most boxes of
any picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit.data.digest import digest_arrays, digest_files
from edgekit.data.formats.class_folders import UNSPLIT
from edgekit.data.formats.images import IMAGES, NOT_PLAIN, ImageStore, image_spec
from edgekit.data.formats.validation import substitute_test
from edgekit.data.labels import read_labels
from edgekit.data.store import RawDataset
from edgekit.errors import DataError
from edgekit.evaluation.tasks import DETECTION
from edgekit.records import Array
from edgekit_runner import PictureError, left_out_note, open_picture, picture_orientation

COLUMNS: Final = 6
NO_BOX: Final = -1
"""Class of the rows that only fill up."""
MOST_BOXES: Final = 1 << 12
"""Of one picture; all pictures are filled up to as many."""
SLACK: Final = 2e-3
"""Share of the picture by which rounding may take a box beyond it; it is not counted then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """A picture and its boxes, as one of the formats has them.

    Attributes:
        path: The picture.
        corners: x1, y1, x2, y2 of each box, `[m, 4]`: in pixels of `size`, or fractions.
        classes: Class of each box, `[m]`.
        ignored: Whether a box is neither to be found nor to be missed, `[m]`.
        size: Width and height that the corners are of; None where they are fractions.
        reason: Why the picture cannot be used, else an empty text.
    """

    path: str
    corners: Array = field(default_factory=lambda: np.empty((0, 4)))
    classes: Array = field(default_factory=lambda: np.empty(0, np.int64))
    ignored: Array = field(default_factory=lambda: np.empty(0, bool))
    size: tuple[int, int] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxStore(ImageStore):
    """Image files with boxes."""


@dataclass(slots=True)
class _Split:
    """What becomes of the pictures of a split."""

    files: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    boxes: list[Array] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)


def open_boxes(
    root: Path,
    splits: Mapping[str, Sequence[Annotated]],
    labels: Sequence[str] | None,
    preprocessing: Mapping[str, Any] | None,
    notes: Iterable[str],
) -> RawDataset:
    """Return pictures with boxes as a data set.

    Args:
        root: Their folder; its `preprocessing.toml` and `labels.txt` are read.
        splits: What was found in each split, or under `UNSPLIT`.
        labels: Names of the classes in the order of their numbers, where there are names.
        preprocessing: The user's spec.
        notes: What the format has to say.

    Raises:
        DataError: No picture of a split can be used, or no box lies in its picture.
    """
    tested, said = substitute_test([name for name in splits if splits[name]], "{}")
    kept = {"pool": UNSPLIT, "train": "train", "test": tested}
    read = {name: _read(splits[split]) for name, split in kept.items() if splits.get(split)}
    if not read:
        raise DataError(f"{root} holds no annotated pictures.", hint="Add pictures.")
    notes = [*notes, *said]
    for name, part in read.items():
        notes += _notes(part, root, kept[name])
    if not any(len(rows) for part in read.values() for rows in part.boxes) and any(
        part.dropped for part in read.values()
    ):
        raise DataError(
            f"{root}: all boxes are empty or lie outside their pictures.",
            found=_dropped_note(next(p for p in read.values() if p.dropped), root),
            hint="Check the order of the numbers, and whether they are pixels or fractions.",
        )
    names = tuple(labels) if labels is not None else None
    declared = read_labels(root)
    if declared is not None:
        _renumber(read.values(), names, declared, root)
        names = declared
    if names is not None:
        seen = {int(c) for p in read.values() for rows in p.boxes for c in np.unique(rows[:, 4])}
        without = [name for number, name in enumerate(names) if number not in seen]
        if without:
            notes.append(f"Classes without a box: {', '.join(without)} (each keeps its place).")
    most = max((len(rows) for part in read.values() for rows in part.boxes), default=0)
    stores = {name: _store(part, root, max(1, most)) for name, part in read.items()}
    return RawDataset(
        name=root.resolve().name,
        train=stores.get("train"),
        test=stores.get("test"),
        pool=stores.get("pool"),
        labels=names,
        preprocessing=image_spec(root, preprocessing),
        notes=tuple(notes),
        task=DETECTION.name,
    )


def _read(pictures: Sequence[Annotated]) -> _Split:
    """Check the pictures of a split, and put their boxes into fractions."""
    part = _Split()
    with ThreadPoolExecutor(max_workers=2) as pool:
        checked = pool.map(IMAGES.check, [picture.path for picture in pictures])
        for picture, (content, doubt) in zip(pictures, checked, strict=True):
            reason = picture.reason or doubt
            if reason == NOT_PLAIN:
                reason = IMAGES.decides(picture.path)
            if not reason:
                reason = _add(part, picture, content)
            if reason:
                part.left_out.append((picture.path, reason))
    return part


def _add(part: _Split, picture: Annotated, content: bytes) -> str:
    """Add a picture to its split; return why it cannot be, else an empty text."""
    if len(picture.corners) > MOST_BOXES:
        return f"more than {MOST_BOXES} boxes"
    try:
        image = open_picture(picture.path)
        orientation = picture_orientation(image)
        width, height = image.size
    except (OSError, PictureError) as error:
        return str(error)
    lying = orientation >= 5  # turned by a quarter
    upright = (height, width) if lying else (width, height)
    corners = np.asarray(picture.corners, np.float64).reshape(-1, 4)
    if picture.size is not None:
        size = picture.size if min(picture.size) > 0 else upright
        corners = corners / np.array([*size, *size])
        if lying and size == (width, height) != upright:
            corners = _turned(corners, orientation)
        elif abs(size[0] * upright[1] - size[1] * upright[0]) > 0.02 * size[0] * upright[1]:
            found = "x".join(map(str, upright))
            return f"is {found} pixels, annotated as {'x'.join(map(str, size))}"
    low, high = corners.min(initial=0), corners.max(initial=1)
    if low < -SLACK or high > 1 + SLACK:
        part.cut.append(picture.path)
    inside = np.clip(corners, 0, 1)
    fits = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    for row in np.flatnonzero(~fits):
        empty = (corners[row, 2:] <= corners[row, :2]).any()
        part.dropped.append((picture.path, "empty" if empty else "outside"))
    boxes = np.concatenate(
        [inside, picture.classes[:, None], picture.ignored[:, None]], axis=1, dtype=np.float32
    )
    part.files.append(picture.path)
    part.contents.append(content)
    part.boxes.append(boxes[fits])
    return ""


def _turned(corners: Array, orientation: int) -> Array:
    """Return boxes of a picture as stored as those of the picture upright, as pixels are turned.

    Args:
        corners: Fractions, `[m, 4]`.
        orientation: The Exif tag, 5 to 8.
    """
    corners = corners[:, [1, 0, 3, 2]]
    if orientation in (7, 8):
        corners = corners * [1, -1, 1, -1] + [0, 1, 0, 1]
        corners = corners[:, [0, 3, 2, 1]]
    if orientation in (6, 7):
        corners = corners * [-1, 1, -1, 1] + [1, 0, 1, 0]
        corners = corners[:, [2, 1, 0, 3]]
    return corners


def _notes(part: _Split, root: Path, split: str) -> list[str]:
    notes = []
    if part.left_out:
        said = left_out_note(
            [(_name(path, root), reason) for path, reason in part.left_out],
            len(part.files) + len(part.left_out),
            split,
        )
        if not part.files:
            raise DataError(f"{root}: {said}", hint="Give pictures and boxes that can be read.")
        notes.append(said)
    if part.cut:
        notes.append(
            f"Boxes reach beyond {len(part.cut)} picture{'s' * (len(part.cut) != 1)} in {split} "
            f"({_name(part.cut[0], root)}) and were cut at the border."
        )
    if part.dropped:
        notes.append(_dropped_note(part, root))
    return notes


def _dropped_note(part: _Split, root: Path) -> str:
    named = ", ".join(f"{_name(path, root)}: {why}" for path, why in part.dropped[:3])
    more = ", ..." if len(part.dropped) > 3 else ""
    return f"Boxes that are empty or outside were left out: {len(part.dropped)} ({named}{more})."


def _name(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _renumber(
    parts: Iterable[_Split], names: tuple[str, ...] | None, declared: tuple[str, ...], root: Path
) -> None:
    """Number the classes as `labels.txt` lists them.

    Raises:
        DataError: A class with boxes is not listed.
    """
    for part in parts:
        for rows in part.boxes:
            for row in rows:
                number = int(row[4])
                name = names[number] if names is not None else None
                if name is None and number < len(declared):
                    continue
                if name not in declared:
                    raise DataError(
                        f"{root}: the class {name or number!r} is not in labels.txt.",
                        hint="Name every class there, one a line, in the model's order.",
                    )
                row[4] = declared.index(name)


def _store(part: _Split, root: Path, most: int) -> BoxStore:
    targets = np.zeros((len(part.files), most, COLUMNS), np.float32)
    targets[:, :, 4] = NO_BOX
    for rows, boxes in zip(targets, part.boxes, strict=True):
        rows[: len(boxes)] = boxes
    files = digest_files([_name(path, root) for path in part.files], part.contents)
    return BoxStore(
        files=tuple(part.files),
        targets=targets,
        sha256=digest_arrays({f"{files} boxes": targets}),
        contents=tuple(part.contents),
    )

"""Pictures and masks of the same name in two folders, `images` and `masks`, or `x_mask` beside `x`.

A mask holds the number of a class for each pixel, as grey value or as entry of a palette. It is
read when the data is bound to a model, and brought to the size of the output by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.digest import digest_files, digest_subset
from edgekit.data.formats.class_folders import UNSPLIT
from edgekit.data.formats.format import Format
from edgekit.data.formats.images import IMAGES, NOT_PLAIN, SUFFIXES, ImageStore, image_spec
from edgekit.data.formats.paired_folders import files_below, paired_folders, split_of_name
from edgekit.data.formats.validation import substitute_test
from edgekit.data.labels import read_labels
from edgekit.data.store import RawDataset, Rows
from edgekit.errors import DataError
from edgekit.evaluation.tasks import SEGMENTATION
from edgekit.records import Array
from edgekit_runner import (
    PictureError,
    crop_window,
    left_out_note,
    open_picture,
    picture_orientation,
    turn_upright,
)

MASKS = "masks"
SUFFIX = "_mask"
"""What the name of a mask may end in, and does where it lies beside its picture."""
PNG = "JPEG changes class values, save masks as PNG"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskStore(ImageStore):
    """Image files with masks. `targets` are empty masks, `[n, 0, 0]`, until a size is known.

    Attributes:
        masks: Path of each picture's mask.
        turns: Exif orientation by which a mask is turned upright, `[n]`; 1 where it is so.
    """

    masks: tuple[str, ...]
    turns: Array

    def firsts(self) -> list[int]:
        """Return the row of the first picture."""
        return [0] if self.files else []

    def blamed(self, row: int) -> tuple[str, str | None]:
        """Return the mask, and a hint where it is stored with losses."""
        return self.masks[row], f"{PNG}." if _is_lossy(self.masks[row]) else None

    def part(self, rows: slice) -> MaskStore:
        """Return the pictures of a slice as a store of their own."""
        index = np.arange(len(self))[rows]
        return MaskStore(
            files=self.files[rows],
            targets=np.empty((len(index), 0, 0), np.uint8),
            sha256=digest_subset(self.sha256, index),
            contents=self.contents[rows],
            masks=self.masks[rows],
            turns=self.turns[rows],
        )

    def targets_at(self, rows: Rows, spec: Mapping[str, Any], size: tuple[int, int]) -> Array:
        """Return the masks of the store, of which only those at `rows` are read.

        Args:
            rows: Rows of the store.
            spec: How the pictures are cut out before they are resized.
            size: Height and width of the result.

        Returns:
            Class numbers, `[len(store), height, width]`; uint8 where they all fit.

        Raises:
            DataError: A mask cannot be read any more.
        """
        read = [self._resized(int(row), spec, size) for row in rows]
        kind = np.result_type(np.uint8, *{mask.dtype for mask in read})
        found = np.zeros((len(self), *size), kind)
        for row, mask in zip(rows, read, strict=True):
            found[row] = mask
        return found

    def _resized(self, row: int, spec: Mapping[str, Any], size: tuple[int, int]) -> Array:
        try:
            mask: Array = turn_upright(_decoded(self.masks[row]), int(self.turns[row]))
        except (OSError, PictureError) as error:
            raise DataError(
                f"{self.masks[row]} cannot be read.",
                found=f"{error}.",
                hint=f"{PNG}." if _is_lossy(self.masks[row]) else "Replace or remove it.",
            ) from error
        top, left, rows, columns = crop_window(mask.shape[0], mask.shape[1], spec)
        down = _nearest(rows, size[0]) + top
        across = _nearest(columns, size[1]) + left
        resized: Array = mask[down[:, None], across]
        return resized


def _nearest(size: int, goal: int) -> Rows:
    """Return the index of the pixel in which each of `goal` pixel centres lies.

    >>> _nearest(4, 2), _nearest(2, 4)
    (array([1, 3]), array([0, 0, 1, 1]))
    """
    return ((np.arange(goal) + 0.5) * size / goal).astype(np.int64)


def _decoded(path: str) -> Array:
    """Return the class numbers in a mask, `[h, w]`."""
    image = open_picture(path)
    try:
        image.load()
        values = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise many types
        raise PictureError(path, error) from error
    if values.ndim == 3:
        values = values[:, :, :-1] if image.getbands()[-1] == "A" else values
        if (values != values[:, :, :1]).any():
            raise PictureError(path, "colours, not class numbers: save it as grey or palette")
        values = values[:, :, 0]
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise PictureError(path, f"pixels of {image.mode}, not class numbers")
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


@dataclass(slots=True)
class _Split:
    """What becomes of the pictures of a split."""

    files: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def open_masks(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder of pictures and masks.

    Raises:
        DataError: No picture of a split has a mask that can be read.
    """
    folders = _places(root)
    flat = any(pictures == masks for pictures, masks in folders.values())
    tested, notes = substitute_test(list(folders), "{}")
    kept = {"pool": UNSPLIT, "train": "train", "test": tested}
    stores = {}
    for name, split in kept.items():
        if split not in folders:
            continue
        part, strays = _read(*folders[split])
        notes += _notes(part, strays, root, split)
        stores[name] = _store(part, root)
    return RawDataset(
        name=root.resolve().name,
        train=stores.get("train"),
        test=stores.get("test"),
        pool=stores.get("pool"),
        labels=read_labels(root),
        preprocessing=image_spec(root, preprocessing),
        notes=tuple(notes),
        origins=(
            f"Masks were read from files *{SUFFIX} beside their pictures."
            if flat
            else f"Masks were read from the folder {MASKS}.",
        ),
        task=SEGMENTATION.name,
    )


def _places(root: Path) -> Mapping[str, tuple[Path, Path]]:
    """Return the folders of pictures and of masks, by split; the same one where they are flat."""
    if folders := paired_folders(root, MASKS):
        return folders
    inside = {split_of_name(path.name): path for path in root.iterdir() if path.is_dir()}
    splits = {split: (path, path) for split, path in inside.items() if split and _is_flat(path)}
    return splits or ({UNSPLIT: (root, root)} if _is_flat(root) else {})


def _is_flat(folder: Path) -> bool:
    """Tell whether a picture and its mask lie in a folder side by side."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    stems = {path.stem for path in paths}
    return any(stem + SUFFIX in stems for stem in stems)


def _read(pictures: Path, masks: Path) -> tuple[_Split, list[str]]:
    """Check the pictures of a split and their masks; return masks without a picture, too."""
    found, others = files_below(pictures, SUFFIXES), dict(files_below(masks, SUFFIXES))
    if pictures == masks:
        named = {key for key in others if key.endswith(SUFFIX)}
        found = {key: path for key, path in found.items() if key not in named}
        others = {key: path for key, path in others.items() if key in named}
    part = _Split()
    pairs = []
    for name, path in found.items():
        mask = next((others.pop(key) for key in (name, name + SUFFIX) if key in others), None)
        if mask is None:
            part.left_out.append((path, "no mask"))
        else:
            pairs.append((path, mask))
    with ThreadPoolExecutor(max_workers=2) as pool:
        checked = pool.map(lambda pair: (IMAGES.check(pair[0]), IMAGES.check(pair[1])), pairs)
        for (path, mask), ((content, doubt), (digest, mask_doubt)) in zip(
            pairs, checked, strict=True
        ):
            reason = _sound(path, doubt) or _sound(mask, mask_doubt) or _misfit(part, path, mask)
            if reason:
                part.left_out.append((path, reason))
                continue
            part.files.append(path)
            part.masks.append(mask)
            part.contents.append(content)
            part.digests.append(digest)
    return part, sorted(others.values())


def _sound(path: str, doubt: str) -> str:
    reason = IMAGES.decides(path) if doubt == NOT_PLAIN else doubt
    return f"{Path(path).name}: {reason}" if reason else ""


def _misfit(part: _Split, path: str, mask: str) -> str:
    """Note how a mask is turned; return why it does not belong to its picture, else nothing."""
    try:
        image, other = open_picture(path), open_picture(mask)
    except (OSError, PictureError) as error:
        return str(error)
    orientation = picture_orientation(image)
    upright = image.size[::-1] if orientation >= 5 else image.size
    if other.size not in (upright, image.size):
        sizes = ["x".join(map(str, size)) for size in (other.size, upright)]
        return f"the mask has {sizes[0]} pixels, the picture {sizes[1]}"
    part.turns.append(1 if other.size == upright else orientation)
    return ""


def _notes(part: _Split, strays: Sequence[str], root: Path, split: str) -> list[str]:
    notes = []
    if part.left_out:
        named = [(Path(path).relative_to(root).as_posix(), why) for path, why in part.left_out]
        said = left_out_note(named, len(part.files) + len(part.left_out), split)
        if not part.files:
            raise DataError(
                f"{root}: {said}", hint=f"Give each picture a mask of its name and size in {MASKS}."
            )
        notes.append(said)
    lossy = [path for path in part.masks if _is_lossy(path)]
    if lossy:
        first = Path(lossy[0]).relative_to(root).as_posix()
        notes.append(f"Masks in {split} are JPEG ({len(lossy)}, {first}): {PNG}.")
    if strays:
        first = Path(strays[0]).relative_to(root).as_posix()
        notes.append(f"Masks without a picture in {split}: {len(strays)} ({first}).")
    return notes


def _store(part: _Split, root: Path) -> MaskStore:
    names = [Path(path).relative_to(root).as_posix() for path in part.files]
    pairs = [content + digest for content, digest in zip(part.contents, part.digests, strict=True)]
    return MaskStore(
        files=tuple(part.files),
        targets=np.empty((len(part.files), 0, 0), np.uint8),
        sha256=digest_files(names, pairs),
        contents=tuple(part.contents),
        masks=tuple(part.masks),
        turns=np.array(part.turns, np.int64),
    )


def _is_lossy(path: str) -> bool:
    return Path(path).suffix.lower() in (".jpg", ".jpeg")


def is_of_masks(root: Path) -> bool:
    """Tell whether a folder has pictures where masks are."""
    return any(files_below(place, SUFFIXES) for _, place in _places(root).values())


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder and is_of_masks(argument.path),
    open=lambda argument: open_masks(argument.path, argument.preprocessing),
)

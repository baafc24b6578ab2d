"""COCO: the boxes of all pictures of a split in one JSON file.

`annotations/instances_train2017.json` with pictures in `train2017/` or `images/`, or
`train/_annotations.coco.json` beside its pictures, as Roboflow writes it. A box is its left upper
corner, width and height in pixels from 0; a crowd is neither to be found nor to be missed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgekit.data.formats.boxes import Annotated, open_boxes
from edgekit.data.formats.class_folders import SPLITS, UNSPLIT
from edgekit.data.formats.format import Format
from edgekit.data.formats.paired_folders import PICTURES, split_of_name
from edgekit.data.store import RawDataset
from edgekit.errors import DataError
from edgekit.files import check_input
from edgekit.parsing import ParseError, parse_json, read_text

ANNOTATIONS = "annotations"
BESIDE = "_annotations.coco.json"
MOST_BYTES = 1 << 30
_BOXES = "instances"
"""What a file of boxes is called where there are others, such as captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    name: str
    size: tuple[int, int] | None
    boxes: list[tuple[list[float], int, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoFile:
    """What a JSON file says.

    Attributes:
        path: The file.
        pictures: Pictures in the order of the file.
        categories: Name of each category, by its number in the file.
        strays: Boxes of pictures that the file does not list.
    """

    path: Path
    pictures: tuple[_Picture, ...]
    categories: Mapping[int, str]
    strays: int


def read_coco(path: Path) -> CocoFile:
    """Read a JSON file of COCO.

    Raises:
        DataError: It is damaged, or no file of boxes.
    """
    check_input(path, DataError)
    hint = "Give COCO's lists images, annotations and categories."
    try:
        document = parse_json(read_text(path, MOST_BYTES))
        return _parsed(document, path)
    except OSError as error:
        raise DataError(f"{path} cannot be read.", found=f"{error}.", hint=hint) from error
    except ParseError as error:
        raise DataError(f"{path} cannot be read as COCO.", found=f"{error}.", hint=hint) from error


def _parsed(document: Any, path: Path) -> CocoFile:
    pictures: dict[Any, _Picture] = {}
    for number, image in enumerate(_listed(document, "images")):
        file, key = image.get("file_name"), image.get("id")
        if not isinstance(file, str) or type(key) not in (int, str):
            raise ParseError(f"images[{number}] has no file_name or no id")
        if key in pictures:
            raise ParseError(f"images[{number}]: the id {key!r:.40} stands twice")
        size = _size(image.get("width"), image.get("height"))
        pictures[key] = _Picture(name=file, size=size, boxes=[])
    listed = _listed(document, "categories")
    names: dict[int, str] = {}
    for number, category in enumerate(listed):
        key, name = category.get("id"), category.get("name")
        if type(key) is not int or not isinstance(name, str) or key in names:
            raise ParseError(f"categories[{number}] has no id of its own or no name")
        names[key] = " ".join(name.split())
    if "annotations" not in document:
        raise ParseError("it has no annotations")
    strays = _sort_boxes(_listed(document, "annotations"), pictures, names)
    # Roboflow lists the project as a category above all others.
    above = {category.get("supercategory") for category in listed if _is_text(category)}
    used = {kind for picture in pictures.values() for _, kind, _ in picture.boxes}
    for (key, name), category in zip(tuple(names.items()), listed, strict=True):
        if key not in used and name in above and category.get("supercategory") == "none":
            del names[key]
    return CocoFile(path=path, pictures=tuple(pictures.values()), categories=names, strays=strays)


def _sort_boxes(
    boxes: list[Mapping[str, Any]], pictures: Mapping[Any, _Picture], names: Mapping[int, str]
) -> int:
    """Give each picture its boxes; return how many belong to none."""
    strays = 0
    for number, box in enumerate(boxes):
        edges, kind, key = box.get("bbox"), box.get("category_id"), box.get("image_id")
        if not (isinstance(edges, list) and len(edges) == 4 and all(map(_is_number, edges))):
            raise ParseError(f"annotations[{number}] has bbox {edges!r:.60}, not [x, y, w, h]")
        if type(kind) is not int or kind not in names:
            raise ParseError(f"annotations[{number}] is of category {kind!r:.40}, not listed")
        picture = pictures.get(key) if isinstance(key, int | str) else None
        if picture is None:
            strays += 1
        else:
            picture.boxes.append((edges, kind, bool(box.get("iscrowd", 0))))
    return strays


def _listed(document: Any, key: str) -> list[Mapping[str, Any]]:
    found = document.get(key, []) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ParseError(f"{key} is no list of objects")
    return found


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9 and math.isfinite(value)


def _is_text(category: Mapping[str, Any]) -> bool:
    return isinstance(category.get("supercategory"), str)


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    fits = all(type(side) is int and 0 < side < 1 << 20 for side in (width, height))
    return (width, height) if fits else None


def open_coco(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder of COCO.

    Raises:
        DataError: A JSON file is damaged, or its pictures are not there.
    """
    places, notes = coco_files(root)
    files = {split: read_coco(path) for split, path in places.items()}
    names: dict[int, str] = {}
    for file in files.values():
        for key, name in file.categories.items():
            if names.setdefault(key, name) != name:
                raise DataError(
                    f"{root}: category {key} has two names.",
                    found=f"{names[key]} and, in {file.path.name}, {name}.",
                    hint="Number the categories alike in all files.",
                )
    order = {key: number for number, key in enumerate(sorted(names))}
    for split, file in files.items():
        if file.strays:
            notes.append(f"Boxes in {split} of pictures that are not listed: {file.strays}.")
    splits = {
        split: [_annotated(picture, place, order) for picture, place in _placed(root, split, file)]
        for split, file in files.items()
    }
    if not any(splits.values()):
        raise DataError(
            f"{root}: no pictures are listed.",
            found=f"images is empty in {', '.join(file.path.name for file in files.values())}.",
            hint='List each picture in images: {"id": 1, "file_name": "a.jpg", ...}.',
        )
    listed = [names[key] for key in sorted(names)]
    opened = open_boxes(root, splits, listed, preprocessing, notes)
    return replace(opened, origins=("Boxes were read from COCO JSON.",))


def _annotated(picture: _Picture, place: Path | None, order: Mapping[int, int]) -> Annotated:
    if place is None:
        return Annotated(path=picture.name, reason="not there")
    edges = np.array([box for box, _, _ in picture.boxes], np.float64).reshape(-1, 4)
    edges[:, 2:] += edges[:, :2]
    return Annotated(
        path=str(place),
        corners=edges,
        classes=np.array([order[category] for _, category, _ in picture.boxes], np.int64),
        ignored=np.array([crowd for _, _, crowd in picture.boxes], bool),
        size=picture.size or (0, 0),
    )


def _placed(root: Path, split: str, file: CocoFile) -> Iterator[tuple[_Picture, Path | None]]:
    """Yield each picture with its path, None where it is in none of the usual folders."""
    named = re.sub(f"^{_BOXES}_", "", file.path.stem)
    folders = [file.path.parent] if file.path.name == BESIDE else []
    folders += [root / PICTURES / named, root / named, root / PICTURES / split, root / split]
    folders += [root / PICTURES, root / "data", root]
    folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    for picture in file.pictures:
        path = PurePosixPath(picture.name.replace("\\", "/"))
        inside = not path.is_absolute() and ".." not in path.parts
        place = next((f for f in folders if inside and (f / path).is_file()), None)
        if place is not None:  # where one lies, the next one is looked for first
            folders.remove(place)
            folders.insert(0, place)
        yield picture, None if place is None else place / path


def coco_files(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the JSON file of each split, and notes on those that are not read.

    Raises:
        DataError: Two files are of one split.
    """
    beside = {
        split: path / BESIDE
        for path in sorted(root.iterdir())
        if path.is_dir() and (split := split_of_name(path.name)) and (path / BESIDE).is_file()
    }
    if beside:
        return beside, []
    if (root / BESIDE).is_file():
        return {UNSPLIT: root / BESIDE}, []
    every = _json_in(root / ANNOTATIONS)
    named = [path for path in every if path.stem.startswith(_BOXES)] or every
    found: dict[str, Path] = {}
    for path in named:
        words = re.split(r"[^a-z]+", path.stem.lower())
        split = next((word for word in words if word in SPLITS), UNSPLIT)
        if split in found:
            raise DataError(
                f"{root}: two files are of one split.",
                found=f"{found[split].name} and {path.name}.",
                hint=f"Keep one, or name the files of boxes {_BOXES}_train.json and so on.",
            )
        found[split] = path
    if len(found) > 1:
        found.pop(UNSPLIT, None)
    left = [path.name for path in every if path not in found.values()]
    return found, [f"Files that were not read: {', '.join(left[:5])}."] if left else []


def _json_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json")


def is_coco(root: Path) -> bool:
    """Tell whether a folder has JSON files where COCO has them."""
    return bool(
        _json_in(root / ANNOTATIONS)
        or (root / BESIDE).is_file()
        or any((path / BESIDE).is_file() for path in root.iterdir() if split_of_name(path.name))
    )


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder and is_coco(argument.path),
    open=lambda argument: open_coco(argument.path, argument.preprocessing),
)

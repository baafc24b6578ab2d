"""Pascal VOC: a picture's boxes in an XML file.

`JPEGImages`, `Annotations` and `ImageSets/Main/train.txt`, or each XML beside its picture. Edges of
boxes are pixels counted from 1, both within the box, as in the VOC development kit; where
any edge of the data set is 0 they are taken to be counted from 0, as many tools write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from edgekit.data.formats.boxes import Annotated, open_boxes
from edgekit.data.formats.class_folders import SPLITS, UNSPLIT
from edgekit.data.formats.format import Format
from edgekit.data.formats.images import SUFFIXES
from edgekit.data.formats.paired_folders import PICTURES, files_below, split_of_name
from edgekit.data.store import RawDataset
from edgekit.errors import DataError
from edgekit.parsing import ParseError
from edgekit_runner import decode_text

ANNOTATIONS = "Annotations"
XML = ".xml"
MOST_BYTES = 4 << 20
MOST_TEXT = 1 << 10
"""Bytes of an annotation and characters of a text in it at most."""
_OBJECT = ("annotation", "object")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(slots=True)
class Annotation:
    """What an XML file says.

    Attributes:
        width: Of the picture, in pixels; 0 where it is not told.
        height: Likewise.
        names: Class of each box.
        edges: xmin, ymin, xmax, ymax of each box, as written.
        difficult: Whether a box is marked as difficult to tell.
    """

    width: int = 0
    height: int = 0
    names: list[str] = field(default_factory=list)
    edges: list[tuple[float, ...]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)


def parse_annotation(content: bytes) -> Annotation:
    """Parse an annotation, without a tree and without entities of its own.

    Raises:
        ParseError: It is no XML, not of this kind, too large, or declares a document type.
    """
    if len(content) > MOST_BYTES:
        raise ParseError(f"larger than {MOST_BYTES >> 20} MB")
    found = Annotation()
    path: list[str] = []
    text: list[str] = []
    fields: dict[str, str] = {}

    def start(name: str, _: Mapping[str, str]) -> None:
        path.append(name)
        text.clear()
        if tuple(path) == _OBJECT:
            fields.clear()

    def end(_: str) -> None:
        place, value = tuple(path), "".join(text).strip()
        path.pop()
        text.clear()
        if place[:2] == _OBJECT and len(place) > 2:
            fields["/".join(place[2:])] = value
        elif place == _OBJECT:
            _add(found, fields)
        elif place == ("annotation", "size", "width"):
            found.width = int(_number(value, "width"))
        elif place == ("annotation", "size", "height"):
            found.height = int(_number(value, "height"))

    def characters(data: str) -> None:
        if sum(map(len, text)) < MOST_TEXT:
            text.append(data)

    def refuse(*_: object) -> None:
        raise ParseError("it declares a document type")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    # Entities are declared in a document type, so none can expand.
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ParseError(f"no XML: {error}") from error
    except ParseError:
        raise
    except (ValueError, LookupError) as error:  # an encoding that Python lacks
        raise ParseError(f"no XML: {error}") from error
    return found


def _add(found: Annotation, fields: Mapping[str, str]) -> None:
    if not fields.get("name"):
        raise ParseError("an object without a name")
    missing = [edge for edge in _EDGES if f"bndbox/{edge}" not in fields]
    if missing:
        raise ParseError(f"an object without {missing[0]}")
    found.names.append(" ".join(fields["name"].split()))
    found.edges.append(tuple(_number(fields[f"bndbox/{edge}"], edge) for edge in _EDGES))
    found.difficult.append(fields.get("difficult", "0") not in ("0", "", "false", "False"))


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:
        raise ParseError(f"{name} is {text[:40]!r}")
    return value


def open_voc(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder of Pascal VOC.

    Raises:
        DataError: There is nothing to read in it, or nothing that fits together.
    """
    splits: dict[str, list[tuple[str, str | None]]] = {}
    if (root / ANNOTATIONS).is_dir():
        folder = next(
            (root / name for name in ("JPEGImages", PICTURES) if (root / name).is_dir()), None
        )
        if folder is None:
            raise DataError(
                f"{root} has {ANNOTATIONS} and no JPEGImages.", hint="Put the pictures there."
            )
        pictures = dict(files_below(folder, SUFFIXES))
        texts = files_below(root / ANNOTATIONS, {XML})
        for split, names in _image_sets(root, pictures).items():
            # A picture that is listed and is not there is left out, and named.
            splits[split] = [
                (pictures.get(name, str(folder / f"{name}.jpg")), texts.get(name)) for name in names
            ]
    else:
        for split, folder in _flat(root).items():
            pictures, texts = dict(files_below(folder, SUFFIXES)), files_below(folder, {XML})
            splits[split] = [(path, texts.get(name)) for name, path in pictures.items()]
    found = {
        split: [(path, _read(text)) for path, text in pairs] for split, pairs in splits.items()
    }
    return _opened(root, found, preprocessing)


def _opened(
    root: Path,
    found: Mapping[str, Sequence[tuple[str, Annotation | str]]],
    preprocessing: Mapping[str, Any] | None,
) -> RawDataset:
    read = [a for pairs in found.values() for _, a in pairs if isinstance(a, Annotation)]
    names = sorted({name for annotation in read for name in annotation.names})
    numbers = {name: number for number, name in enumerate(names)}
    lows = [edge for annotation in read for edges in annotation.edges for edge in edges[:2]]
    from_zero = bool(lows) and min(lows) < 1
    notes: list[str] = []
    if from_zero:
        notes.append("Edges of boxes begin at 0, so pixels are counted from 0, not from 1.")

    def annotated(path: str, annotation: Annotation | str) -> Annotated:
        if isinstance(annotation, str):
            return Annotated(path=path, reason=annotation)
        corners = np.array(annotation.edges, np.float64).reshape(-1, 4)
        if not from_zero:
            corners[:, :2] -= 1
        return Annotated(
            path=path,
            corners=corners,
            classes=np.array([numbers[name] for name in annotation.names], np.int64),
            ignored=np.array(annotation.difficult, bool),
            size=(annotation.width, annotation.height),
        )

    splits = {split: [annotated(*pair) for pair in pairs] for split, pairs in found.items()}
    opened = open_boxes(root, splits, names, preprocessing, notes)
    return replace(opened, origins=("Boxes were read from Pascal VOC XML.",))


def _read(path: str | None) -> Annotation | str:
    """Return an annotation, or why there is none."""
    if path is None:
        return "no annotation"
    try:
        with Path(path).open("rb") as stream:
            return parse_annotation(stream.read(MOST_BYTES + 1))
    except OSError as error:
        return f"{Path(path).name}: {error.strerror or 'not readable'}"
    except ParseError as error:
        return f"{Path(path).name}: {error}"


def _image_sets(root: Path, pictures: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of the pictures of each split; all of them where there are no lists."""
    folder = root / "ImageSets" / "Main"
    lists = {split: folder / f"{split}.txt" for split in SPLITS}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if "train" not in lists and (folder / "trainval.txt").is_file():
        lists["train"] = folder / "trainval.txt"
    if not lists:
        return {UNSPLIT: sorted(pictures)}
    return {split: _names(path, pictures) for split, path in lists.items()}


def _names(path: Path, pictures: Mapping[str, str]) -> list[str]:
    try:
        lines = decode_text(path.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.", found=f"{error}.", hint="Give one name a line, in UTF-8."
        ) from error
    names = []
    for line in filter(None, map(str.strip, lines)):
        name = line if line in pictures else re.sub(r"\s+-?[01]$", "", line)
        stem, dot, ending = name.rpartition(".")
        names.append(stem if dot and f".{ending.lower()}" in SUFFIXES else name)
    return list(dict.fromkeys(names))


def _flat(root: Path) -> dict[str, Path]:
    """Return the folders in which pictures and XML files lie side by side, by split."""
    found = {
        split: path
        for path in sorted(root.iterdir())
        if path.is_dir() and (split := split_of_name(path.name)) and _has_xml(path)
    }
    return found or ({UNSPLIT: root} if _has_xml(root) else {})


def _has_xml(folder: Path) -> bool:
    return any(path.suffix.lower() == XML for path in folder.iterdir())


def is_voc(root: Path) -> bool:
    """Tell whether a folder has annotations in XML where Pascal VOC has them."""
    place = root / ANNOTATIONS
    return _has_xml(place) if place.is_dir() else bool(_flat(root))


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder and is_voc(argument.path),
    open=lambda argument: open_voc(argument.path, argument.preprocessing),
)

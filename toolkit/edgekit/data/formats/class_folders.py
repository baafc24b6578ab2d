"""Folders of files of one kind: `train/<class>/<file>`, or without classes, or without splits.

What is in them is listed here, for images and recordings alike; a `labels.txt` gives the order of
the classes, else they are sorted. A class folder is read with its subfolders, as Keras reads it;
one without files is a class too. What cannot be read is left out, and named in a note.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.data.digest import digest_files
from edgekit.data.formats.validation import VALIDATION, substitute_test
from edgekit.data.labels import read_labels
from edgekit.data.store import Store
from edgekit.errors import DataError
from edgekit.records import Array
from edgekit_runner import left_out_note

SPLITS = ("train", "test", *VALIDATION)
UNSPLIT = "all"
"""Name of the only listing of a folder without splits."""
DECLARATIONS = frozenset({"labels.txt", "preprocessing.toml"})
NO_CLASS = ""
"""Class of files that are in no class folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """Which files are taken, and how they are checked.

    Attributes:
        plural: What they are called, such as "pictures".
        suffixes: Endings of their names, in lower case.
        check: Digest of a file's content, and a reason not to take it, else an empty text.
        doubt: The reason of `check` that leaves it to `decides`.
        decides: The reason not to take a file that `check` is in doubt of; runs in one thread.
    """

    plural: str
    suffixes: frozenset[str]
    check: Callable[[str], tuple[bytes, str]]
    doubt: str | None = None
    decides: Callable[[str], str] = str


@dataclass(slots=True)
class Listing:
    """What is in the class folders of one split.

    Attributes:
        folder: The folder of the split.
        files: Files, class by class in the order in which Keras lists them.
        classes: Class of each file, by name.
        contents: Digest of each file's content.
        left_out: Path and reason of each file that cannot be read.
        others: Files of another kind, by their names.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """Digest relative names and contents of the files."""
        names = [Path(file).relative_to(self.folder).as_posix() for file in self.files]
        return digest_files(names, self.contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """What a folder holds.

    Attributes:
        listings: Files by split: train and test, or `UNSPLIT` alone.
        labels: The classes in order; None where there are no class folders.
        empty: Classes without a file in any split.
        notes: What was left out, and what stands in for what.
    """

    listings: Mapping[str, Listing]
    labels: tuple[str, ...] | None
    empty: tuple[str, ...]
    notes: tuple[str, ...]

    def targets(self, listing: Listing) -> Array | None:
        """Return the class number of each file, `[n]`; None where there are no classes."""
        if self.labels is None:
            return None
        numbers = {name: number for number, name in enumerate(self.labels)}
        return np.array([numbers[name] for name in listing.classes], np.int64)


def list_folder(root: Path, kind: FileKind) -> ClassFolders:
    """List the files of a folder.

    Raises:
        DataError: There are none, or a class folder is not in `labels.txt`.
    """
    places, notes = _places(root, kind)
    classes = {split: _folders(place) for split, place in places.items()}
    if UNSPLIT in places:  # other folders may lie there, too
        classes = {UNSPLIT: [name for name in classes[UNSPLIT] if _holds(root / name, kind)]}
    labelled = any(classes.values())
    if not labelled and not any(_holds(place, kind) for place in places.values()):
        names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
        inside = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise DataError(
            f"{root} holds no {kind.plural}, nor class folders of them.",
            found=f"It holds {inside or 'nothing'}.",
            hint="Put labels/ (YOLO), masks/ or annotations/ (COCO) beside images/."
            if (root / "images").is_dir()
            else f"Put {kind.plural} into train/<class>/ and test/<class>/ "
            "(or give .npz, IDX, .csv).",
        )
    if not labelled:
        classes = {split: [NO_CLASS] for split in places}
    listings = {split: _list_split(places[split], classes[split], kind) for split in places}
    for split, listing in listings.items():
        notes += _left_out_notes(listing, root, split, kind)
    if not labelled:
        return ClassFolders(listings=listings, labels=None, empty=(), notes=tuple(notes))
    found = sorted({name for names in classes.values() for name in names})
    held = {name for listing in listings.values() for name in listing.classes}
    empty = tuple(name for name in found if name not in held)
    declared = read_labels(root)
    labels = declared or tuple(found)
    strangers = [name for name in found if name not in labels and name not in empty]
    if strangers:
        raise DataError(
            f"{root}: the class folder {strangers[0]!r} is not in labels.txt.",
            hint="Name every class folder there, one a line, in the model's order.",
        )
    if empty:
        kept = "labels.txt decides" if declared else "each keeps its place, as in Keras"
        notes.append(f"Class folders without {kind.plural}: {', '.join(empty)} ({kept}).")
    return ClassFolders(listings=listings, labels=labels, empty=empty, notes=tuple(notes))


def split_stores(folder: ClassFolders, store: Callable[[Listing], Store]) -> dict[str, Store]:
    """Return the stores of a folder under the names that `RawDataset` has for them."""
    names = {UNSPLIT: "pool"}
    return {names.get(split, split): store(listing) for split, listing in folder.listings.items()}


def _places(root: Path, kind: FileKind) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of train and test, or the whole of one without splits, and notes."""
    there = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if not there:
        return {UNSPLIT: root}, []
    filled = [s for s, place in there.items() if s not in VALIDATION or _holds(place, kind)]
    tested, notes = substitute_test(filled, "{}/")
    named = {"train": there.get("train"), "test": there.get(tested)}
    return {split: place for split, place in named.items() if place is not None}, notes


def _holds(folder: Path, kind: FileKind) -> bool:
    """Tell whether there is a file of the kind in a folder or below it."""
    return any(
        Path(name).suffix.lower() in kind.suffixes and not name.startswith(".")
        for _, _, names in os.walk(folder)
        for name in names
    )


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))


def _list_split(folder: Path, names: Iterable[str], kind: FileKind) -> Listing:
    listing = Listing(folder=folder)
    names = list(names)
    with os.scandir(folder) as entries:
        broken = sorted(e.path for e in entries if e.is_symlink() and not Path(e.path).exists())
    if NO_CLASS not in names:  # else they are seen with the files
        listing.left_out += [(path, "broken link") for path in broken]
    listed: list[tuple[str, str]] = []
    for name in names:
        for place in _subfolders(str(folder / name), listing):
            listed += [(file, name) for file in _files(place, listing, kind)]
    # hashlib lets go of the interpreter lock, so two threads keep both cores and the disk busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        checked = pool.map(kind.check, [file for file, _ in listed])
        for (file, name), (content, doubt) in zip(listed, checked, strict=True):
            # In this thread only: how warnings are filtered belongs to the whole process.
            reason = kind.decides(file) if doubt and doubt == kind.doubt else doubt
            if reason:
                listing.left_out.append((file, reason))
            else:
                listing.files.append(file)
                listing.classes.append(name)
                listing.contents.append(content)
    return listing


def _subfolders(top: str, listing: Listing) -> list[str]:
    """Return a class folder and all folders below it, sorted; hidden ones are skipped.

    Links to folders are followed; a folder that is reached twice is read once.
    """
    seen: set[tuple[int, int]] = set()
    found = []
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                below = [e.path for e in entries if not e.name.startswith(".") and _is_folder(e)]
        except OSError as error:
            listing.left_out.append((folder, error.strerror or "not readable"))
            continue
        found.append(folder)
        pending += sorted(below, reverse=True)
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _files(folder: str, listing: Listing, kind: FileKind) -> list[str]:
    """Return the files of a kind in a folder, sorted; what else there is goes into the listing."""
    found = []
    with os.scandir(folder) as entries:
        named = sorted(entries, key=lambda entry: entry.name)
    for entry in named:
        if entry.name.startswith("."):
            continue
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            reason = "broken link" if entry.is_symlink() else error.strerror
            listing.left_out.append((entry.path, reason or "not readable"))
            continue
        if stat.S_ISDIR(mode):
            continue
        if Path(entry.name).suffix.lower() not in kind.suffixes:
            if entry.name not in DECLARATIONS:
                listing.others.append(entry.path)
        elif stat.S_ISREG(mode):
            found.append(entry.path)
        else:
            listing.left_out.append((entry.path, "no regular file"))
    return found


def _left_out_notes(listing: Listing, root: Path, split: str, kind: FileKind) -> list[str]:
    notes = []
    if listing.left_out:
        total = len(listing.files) + len(listing.left_out)
        named = [(os.path.relpath(path, listing.folder), why) for path, why in listing.left_out]
        said = left_out_note(named, total, split)
        if not listing.files:
            raise DataError(f"{root}: {said}", hint=f"Give {kind.plural} that can be read.")
        notes.append(said)
    if listing.others:
        first = os.path.relpath(listing.others[0], root)
        notes.append(
            f"Files that are no {kind.plural} were skipped: {len(listing.others)} ({first})."
        )
    return notes

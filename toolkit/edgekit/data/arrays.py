"""Named arrays: `.npz` files, and what a user's function returns.

The names are Keras's own: `x_train y_train x_test y_test`, or `x_train_<input>` for a model with
several inputs, and optionally `labels`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgekit.data.labels import number_labels
from edgekit.data.store import ArrayStore, RawDataset, array_store
from edgekit.errors import DataError
from edgekit.records import Array

NAMES = "x_train, y_train, x_test, y_test"


def open_npz(path: Path) -> RawDataset:
    """Open an `.npz` file.

    Raises:
        DataError: It cannot be read, or its arrays do not fit each other.
    """
    return open_arrays(read_npz(path), path.stem, str(path))


def read_npz(path: Path) -> dict[str, Array]:
    """Read all arrays of an `.npz` file.

    Raises:
        DataError: It is not one, it is damaged, or it holds pickled objects.
    """
    try:
        # Opened here, because numpy leaves a damaged file open.
        with path.open("rb") as stream:
            _require_zip(stream, path)
            with np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # a damaged archive makes zipfile and numpy raise what they like
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds an array of Python objects.",
                found="Reading it would run code from the file.",
                hint="Save arrays of numbers of equal shape (numpy.stack), and labels as texts.",
            ) from error
        raise DataError(
            f"{path} cannot be read.",
            found=f"{str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            hint="The file is damaged: write it anew.",
        ) from error


def _require_zip(stream: BinaryIO, path: Path) -> None:
    if stream.read(2) != b"PK":
        raise DataError(
            f"{path} is not an .npz file.",
            found="It does not begin like a zip archive.",
            hint="Write it with numpy.savez(path, x_train=..., y_train=..., ...).",
        )
    stream.seek(0)


def open_arrays(arrays: Mapping[str, Any], name: str, place: str) -> RawDataset:
    """Sort named arrays into splits, inputs and targets.

    Raises:
        DataError: Names or lengths do not fit, or an array holds objects.
    """
    checked = {key: _as_array(value, key, place) for key, value in arrays.items()}
    labels = _labels(checked.pop("labels", None), place)
    inputs: dict[str, dict[str, Array]] = {"train": {}, "test": {}}
    targets: dict[str, Array | None] = {"train": None, "test": None}
    ignored = []
    for key, array in checked.items():
        role, _, rest = key.partition("_")
        split, _, input_name = rest.partition("_")
        if role == "x" and split in inputs:
            inputs[split][input_name or "x"] = array
        elif role == "y" and split in inputs and not input_name:
            targets[split] = array
        else:
            ignored.append(key)
    if not any(inputs.values()):
        close = difflib.get_close_matches("x_train", ignored, n=1, cutoff=0.5)
        hint = f" Did you mean x_train by {close[0]!r}?" if close else ""
        raise DataError(
            f"{place} holds no samples.",
            found=f"Its arrays: {', '.join(arrays) or 'none'}.{hint}",
            hint=f"Name them {NAMES}.",
        )
    for split, named in inputs.items():
        if targets[split] is not None and not named:
            raise DataError(f"{place} holds y_{split} but no x_{split}.", hint="Add it.")
    (train, test), labels, note = number_labels([targets["train"], targets["test"]], labels, place)
    notes = [note] if note else []
    if ignored:
        notes.append(f"Arrays not used: {', '.join(ignored)}.")
    return RawDataset(
        name=name,
        train=_store(inputs["train"], train, "train", place),
        test=_store(inputs["test"], test, "test", place),
        labels=labels,
        notes=tuple(notes),
    )


def _as_array(value: Any, key: str, place: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{place}: {key} is ragged.", found=f"{error}.", hint="All samples need one shape."
        ) from error
    if array.dtype.kind not in ("biufUS" if key == "labels" or key.startswith("y_") else "biuf"):
        raise DataError(
            f"{place}: {key} holds {array.dtype}, not numbers.",
            hint="Give numbers; only labels may be texts.",
        )
    if array.ndim == 0:
        raise DataError(
            f"{place}: {key} is a single value.", hint="The first axis counts the samples."
        )
    return array


def _labels(array: Array | None, place: str) -> tuple[str, ...] | None:
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind == "f":
        raise DataError(
            f"{place}: labels has shape {array.shape} and type {array.dtype}.",
            hint="Give one text a class, in the order of the class numbers.",
        )
    return tuple(str(label) for label in (array.astype(str) if array.dtype.kind == "S" else array))


def _store(
    inputs: Mapping[str, Array], targets: Array | None, split: str, place: str
) -> ArrayStore | None:
    if not inputs:
        return None
    lengths = {
        f"x_{split}" + ("" if key == "x" else f"_{key}"): len(a) for key, a in inputs.items()
    }
    if targets is not None:
        lengths[f"y_{split}"] = len(targets)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key}: {n}" for key, n in lengths.items())
        raise DataError(
            f"{place}: the arrays of the {split} split differ in length.",
            found=f"Samples in {listed}.",
            hint="Each needs one entry a sample.",
        )
    return array_store(inputs, targets)

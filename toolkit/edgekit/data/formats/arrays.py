"""Named arrays, of files or as a user's function returns them, sorted into splits.

The names are Keras's own: `x_train y_train x_test y_test`, or `x_train_<input>` for a model with
several inputs, `y_train_<output>` for targets of several outputs, and optionally `labels`, or
`labels_<output>`. `x_val` and `y_val` are taken for the test split where
there is none. `sequence_train` and `sequence_test`, or `sequence` for both, declare that samples
follow each other (`_sequences`); `group_train`, `group_test` or `group` which of them belong
together (`_groups`); `ignore_label` which values of masks do not count.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgekit.data.formats.validation import VALIDATION, substitute_test
from edgekit.data.labels import number_labels
from edgekit.data.store import ArrayStore, RawDataset, array_store
from edgekit.data.stored import StoredArray
from edgekit.errors import DataError
from edgekit.records import Array, Split

NAMES = "x_train, y_train, x_test, y_test"
SEQUENCES = ("sequence", "sequence_train", "sequence_test")
GROUPS = ("group", "group_train", "group_test")
IGNORE = "ignore_label"
LABELS_OF = "labels_"
SPARED_BYTES = 256 << 20
"""A split of more that is not needed is not read at all, not even to look for leaks."""


@runtime_checkable
class UnreadArray(Protocol):
    """An array in a file, of which only the header was read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`[n, ...]`."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""

    def in_memory(self) -> Array:
        """Return it as numpy's own: read, or mapped where it is large."""

    def by_rows(self) -> Array | StoredArray:
        """Return it for reading rows: in memory where it is small, else in its file."""


def open_arrays(
    arrays: Mapping[str, Any], name: str, place: str, needed: Split | None = None
) -> RawDataset:
    """Sort named arrays into splits, inputs and targets.

    Args:
        arrays: Arrays, what becomes one, or arrays that are still in their files.
        name: Name of the data set.
        place: Where it comes from, in messages.
        needed: The only split that will be read, if that is known. A large other one is left out,
            and a note says so.

    Raises:
        DataError: Names or lengths do not fit, or an array holds objects.
    """
    checked = {key: _as_array(value, key, place) for key, value in arrays.items()}
    ordered = {key: checked.pop(key) for key in (*SEQUENCES, *GROUPS) if key in checked}
    ignored_label = checked.pop(IGNORE, None)
    declared = checked.pop("labels", None)
    labels = None if declared is None else _labels(_in_memory(declared), place)
    named_labels = {
        key.removeprefix(LABELS_OF): _labels(_in_memory(checked.pop(key)), place)
        for key in list(checked)
        if key.startswith(LABELS_OF)
    }
    inputs: dict[str, dict[str, Array | UnreadArray]] = {
        split: {} for split in ("train", "test", *VALIDATION)
    }
    targets: dict[str, dict[str, Array]] = {split: {} for split in inputs}
    ignored = []
    for key, array in checked.items():
        role, _, rest = key.partition("_")
        split, _, input_name = rest.partition("_")
        if role == "x" and split in inputs:
            inputs[split][input_name or "x"] = array
        elif role == "y" and split in inputs:
            targets[split][input_name] = _without(_in_memory(array), ignored_label, place)
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
        if targets[split] and not named:
            raise DataError(f"{place} holds y_{split} but no x_{split}.", hint="Add it.")
    tested, notes = substitute_test([split for split, named in inputs.items() if named], "x_{}")
    inputs = {"train": inputs["train"], "test": inputs[tested]}
    targets = {"train": targets["train"], "test": targets[tested]}
    # The targets without a name are the first, those of a model's only or first output.
    outputs = sorted(
        dict.fromkeys((*targets["test"], *targets["train"])), key=lambda name: name != ""
    )
    labels_of = {**named_labels, **({"": labels} if labels else {})}
    for output in outputs:
        parts, found, note = number_labels(
            [targets[split].get(output) for split in targets], labels_of.get(output), place
        )
        for part, split in zip(parts, targets, strict=True):
            targets[split] |= {} if part is None else {output: part}
        labels_of |= {output: found} if found else {}
        notes += [note] if note and note not in notes else []
    labels = labels_of.pop("", None)
    if ignored:
        notes.append(f"Arrays not used: {', '.join(ignored)}.{_meant(ignored, arrays)}")
    if needed is not None and not inputs[needed]:
        needed = None  # what there is instead is read
    stores: dict[str, ArrayStore | None] = {}
    for split, wanted in targets.items():
        size = sum(values.nbytes for values in inputs[split].values())
        if needed in (None, split) or size <= SPARED_BYTES:
            key = f"sequence_{split}" if f"sequence_{split}" in ordered else "sequence"
            sequences = _sequences(ordered.get(key), inputs[split], key, place)
            key = f"group_{split}" if f"group_{split}" in ordered else "group"
            groups = _groups(ordered.get(key), inputs[split], key, place)
            stores[split] = _store(inputs[split], wanted, (groups, sequences), split, place)
        else:
            notes.append(
                f"x_{split} ({size / 1e6:,.0f} MB) was not read: whether the {needed} samples are "
                "also in it was not checked."
            )
    return RawDataset(
        name=name,
        train=stores.get("train"),
        test=stores.get("test"),
        labels=labels,
        notes=tuple(notes),
        labels_by_output=labels_of,
    )


def _meant(ignored: Sequence[str], arrays: Mapping[str, Any]) -> str:
    """Return which name an array was probably to have, or nothing."""
    known = (*NAMES.split(", "), "labels", IGNORE, *SEQUENCES, *GROUPS)
    for name in ignored:
        close = difflib.get_close_matches(name, [k for k in known if k not in arrays], 1, 0.8)
        if close:
            return f" Did you mean {close[0]} by {name!r}?"
    return ""


def _as_array(value: Any, key: str, place: str) -> Array | UnreadArray:
    try:
        array = value if isinstance(value, UnreadArray) else np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{place}: {key} is ragged.", found=f"{error}.", hint="All samples need one shape."
        ) from error
    texts = key in ("labels", *SEQUENCES, *GROUPS) or key.startswith(("y_", LABELS_OF))
    if array.dtype.kind not in ("biufUS" if texts else "biuf"):
        raise DataError(
            f"{place}: {key} holds {array.dtype}, not numbers.",
            hint="Give numbers; only labels may be texts.",
        )
    if array.ndim == 0 and key not in (*SEQUENCES, IGNORE):
        raise DataError(
            f"{place}: {key} is a single value.", hint="The first axis counts the samples."
        )
    if 0 in array.shape[1:]:
        raise DataError(
            f"{place}: the entries of {key} are empty.",
            found=f"Its shape is {'x'.join(map(str, array.shape))}.",
            hint="Give at least one number a sample.",
        )
    return array


def _sequences(
    value: Array | UnreadArray | None,
    inputs: Mapping[str, Array | UnreadArray],
    key: str,
    place: str,
) -> Array | None:
    """Return what `Samples.sequences` is to be.

    Args:
        value: One boolean, true where all samples are one sequence, or an id for each sample; a
            sequence ends where the id changes. None or false where samples are independent.
        inputs: The inputs of the split, by name.
        key: Name of the array, in messages.
        place: Where it comes from, in messages.

    Raises:
        DataError: It is neither.
    """
    if value is None or not inputs:
        return None
    ids = _in_memory(value)
    n = next(iter(inputs.values())).shape[0]
    if ids.shape == () and ids.dtype.kind == "b":
        return np.zeros(n, np.int64) if ids else None
    if ids.shape != (n,) or ids.dtype.kind not in "iuUS":
        raise DataError(
            f"{place}: {key} declares no sequences.",
            found=f"It holds {ids.dtype} {list(ids.shape)}, for {n} samples.",
            hint="Give one boolean (are all samples one sequence?), or a whole number for each.",
        )
    # Numbered anew: an id may come back later, and calibration draws sequences in another order.
    return np.cumsum(np.concatenate([[False], ids[1:] != ids[:-1]])[:n], dtype=np.int64)


def _groups(
    value: Array | UnreadArray | None,
    inputs: Mapping[str, Array | UnreadArray],
    key: str,
    place: str,
) -> Array | None:
    """Return the number of the group that each sample is of (a clip, a machine), `[n]`.

    Raises:
        DataError: There is no whole number or text for each sample.
    """
    if value is None or not inputs:
        return None
    ids = _in_memory(value)
    n = next(iter(inputs.values())).shape[0]
    if ids.shape != (n,) or ids.dtype.kind not in "iuUS":
        raise DataError(
            f"{place}: {key} declares no groups.",
            found=f"It holds {ids.dtype} {list(ids.shape)}, for {n} samples.",
            hint="Give a whole number or a text for each sample.",
        )
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


def _without(targets: Array, ignored: Array | UnreadArray | None, place: str) -> Array:
    """Return masks with -1 in place of the values that do not count.

    Raises:
        DataError: These are no whole numbers.
    """
    if ignored is None:
        return targets
    values = _in_memory(ignored)
    if values.dtype.kind not in "iu" or values.ndim > 1:
        raise DataError(
            f"{place}: {IGNORE} is no class number.",
            found=f"It holds {values.dtype} {list(values.shape)}.",
            hint="Give a whole number, or a list of them.",
        )
    small = targets.dtype.itemsize == 1
    wide = (
        targets if targets.dtype.kind in "if" else targets.astype(np.int16 if small else np.int64)
    )
    return np.where(np.isin(targets, values), np.array(-1, wide.dtype), wide)


def _in_memory(array: Array | UnreadArray) -> Array:
    return array.in_memory() if isinstance(array, UnreadArray) else array


def _labels(array: Array, place: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind == "f":
        raise DataError(
            f"{place}: labels has shape {array.shape} and type {array.dtype}.",
            hint="Give one text a class, in the order of the class numbers.",
        )
    return tuple(str(label) for label in (array.astype(str) if array.dtype.kind == "S" else array))


def _store(
    inputs: Mapping[str, Array | UnreadArray],
    targets: Mapping[str, Array],
    which: tuple[Array | None, Array | None],
    split: str,
    place: str,
) -> ArrayStore | None:
    if not inputs:
        return None
    lengths = {
        f"x_{split}" + ("" if key == "x" else f"_{key}"): a.shape[0] for key, a in inputs.items()
    }
    for key, array in targets.items():
        lengths[f"y_{split}" + (f"_{key}" if key else "")] = len(array)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key}: {n}" for key, n in lengths.items())
        raise DataError(
            f"{place}: the arrays of the {split} split differ in length.",
            found=f"Samples in {listed}.",
            hint="Each needs one entry a sample.",
        )
    opened = {
        key: values.by_rows() if isinstance(values, UnreadArray) else values
        for key, values in inputs.items()
    }
    named = {key: array for key, array in targets.items() if key}
    main = targets.get("", next(iter(targets.values()), None))
    return array_store(opened, main, *which, named)

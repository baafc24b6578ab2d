"""Data given from Python: arrays in dicts and tuples, `tf.data`, Keras's `PyDataset`, generators.

They become named arrays in memory, once (`take`), so that a stream that can be read only once
serves all of a command. TensorFlow is not imported: what comes from it is known by what it can do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgekit.data.formats.arrays import open_arrays
from edgekit.data.formats.users_code import failure_of, hint_for
from edgekit.data.formats.validation import VALIDATION
from edgekit.data.store import RawDataset
from edgekit.errors import DataError, EdgekitError
from edgekit.records import Array, Dataset, LiveData, Split

FORMS = (
    "Give a dict with x_train, y_train, x_test, y_test, tuples of arrays, a tf.data.Dataset, a "
    "generator of batches, or an edgekit Dataset."
)
SPLITS = ("train", "test", *VALIDATION)
SHARE_OF_MEMORY = 1 / 3
"""Of what is free: joining the batches takes them twice."""


def take(value: Any, place: str = "data", name: str = "arrays") -> str | Dataset | LiveData:
    """Return data in a form that can be opened again and again.

    Args:
        value: A text or path as `--data` takes it, a `Dataset`, or any of `FORMS`.
        place: What it is called in messages.
        name: Name of the data set.

    Raises:
        DataError: It is nothing of these, it fails while it is read, or memory is too small.
    """
    if isinstance(value, str | Dataset | LiveData):
        return value
    if isinstance(value, Path):
        return str(value)
    found = _Taken(place=place)
    arrays = found.take(value)
    if arrays is None:
        raise DataError(f"{place}: data is not read from {_what(value)}.", hint=FORMS)
    return LiveData(
        name=name, arrays=arrays, unsplit=found.unsplit, notes=tuple(dict.fromkeys(found.notes))
    )


def open_live(live: LiveData, place: str = "data", needed: Split | None = None) -> RawDataset:
    """Open what `take` returned.

    Raises:
        DataError: Its arrays do not fit each other.
    """
    opened = open_arrays(live.arrays, live.name, place, None if live.unsplit else needed)
    opened = replace(opened, notes=(*live.notes, *opened.notes))
    return replace(opened, train=None, pool=opened.train) if live.unsplit else opened


@dataclass(slots=True, kw_only=True)
class _Taken:
    """What is learned while data is taken.

    Attributes:
        place: What the data is called in messages.
        unsplit: Whether its samples are in no split.
        notes: What is said of it.
        labels: Names of the classes, where the data knows them.
    """

    place: str
    unsplit: bool = False
    notes: list[str] = field(default_factory=list)
    labels: Sequence[str] | None = None

    def take(self, value: Any) -> dict[str, Any] | None:
        """Return the arrays of `value` named as an `.npz` file names them; None: there are none."""
        if isinstance(value, Mapping):
            arrays = self._of_mapping(value)
        elif _is_tuple(value, 2) and all(_is_part(part) for part in value):
            train, test = value
            arrays = {**self._part(train, "train"), **self._part(test, "test")}
        elif _is_pair(value) or _is_stream(value):
            self.unsplit = True
            arrays = self._part(value, "train")
        else:
            return None
        if self.labels is not None:
            arrays.setdefault("labels", np.array(self.labels, np.str_))
        return arrays

    def _of_mapping(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        named = {str(key): value for key, value in given.items()}
        if named.keys() & {"x", "y"} and named.keys() <= {"x", "y", "labels"}:
            self.unsplit = True
            return {f"{k}_train" if k in ("x", "y") else k: v for k, v in named.items()}
        arrays: dict[str, Any] = {}
        for key, value in named.items():
            if key in SPLITS and (_is_part(value) or hasattr(value, "shape")):
                arrays |= self._part(value, key)
            elif isinstance(value, Mapping):
                arrays |= {f"{key}_{inner}": item for inner, item in value.items()}
            else:
                arrays[key] = value
        return {key: self._numbers(value, key) for key, value in arrays.items()}

    def _part(self, value: Any, split: str) -> dict[str, Any]:
        """Return inputs and targets of one split."""
        stream = _is_stream(value)
        x, y = self._collected(value) if stream else value if _is_tuple(value, 2) else (value, None)
        parts = {**_named(x, f"x_{split}", self.place), **_named(y, f"y_{split}", self.place)}
        return {key: self._numbers(item, key) for key, item in parts.items()}

    def _numbers(self, value: Any, key: str) -> Any:
        try:
            return value if hasattr(value, "by_rows") else np.asarray(value)
        except ValueError as error:
            raise DataError(
                f"{self.place}: {key} is ragged.",
                found=f"{error}.",
                hint="All samples need one shape.",
            ) from error
        except Exception as error:  # an array of another library raises what it likes
            raise DataError(
                f"{self.place}: {key} cannot be read as an array.",
                found=failure_of(error),
                hint="Give numpy arrays.",
            ) from error

    def _collected(self, stream: Any) -> tuple[Any, Any]:
        """Read a stream of batches or samples to its end."""
        classes = getattr(stream, "class_names", None)
        if classes is not None:
            self.labels = [str(name) for name in classes]
        limit, total, n = memory_limit(), 0, 0
        batched: bool | None = _batched_tensors(stream)
        xs: list[dict[str, Array]] = []
        ys: list[dict[str, Array]] = []
        for x, y in self._items(stream):
            inputs, targets = (
                {key: self._numbers(item, key) for key, item in _named(part, kind, "").items()}
                for part, kind in ((x, "x"), (y, "y"))
            )
            if batched is None:
                batched = _looks_batched(inputs, targets)
            if not batched:
                inputs, targets = ({k: v[None] for k, v in d.items()} for d in (inputs, targets))
            xs.append(inputs)
            ys.append(targets)
            n += len(next(iter(inputs.values()))) if all(v.ndim for v in inputs.values()) else 0
            total += sum(array.nbytes for array in (*inputs.values(), *targets.values()))
            if total > limit:
                raise self._too_large(n, total)
        if not n:
            raise DataError(f"{self.place} yielded no samples.", hint="Check what it reads.")
        self.notes.append(
            f"The samples of {self.place} were read into memory once: {n:,}, {total / 1e6:,.1f} MB."
        )
        try:
            return self._joined(xs, "x"), self._joined(ys, "y")
        except MemoryError as error:
            raise self._too_large(n, total) from error

    def _items(self, stream: Any) -> Iterator[tuple[Any, Any]]:
        """Yield inputs and targets; what the user's code raises becomes an error that shows it."""
        items = iter(_iterator(stream, self.place))
        count = 0
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except EdgekitError:
                raise
            except MemoryError as error:
                raise self._too_large(count, 0) from error
            except Exception as error:
                raise DataError(
                    f"{self.place} failed after {count:,} item{'s' * (count != 1)}.",
                    found=failure_of(error),
                    hint=hint_for(error),
                ) from error
            count += 1
            if not isinstance(item, tuple | list):
                yield item, None
                continue
            if not 1 <= len(item) <= 3:
                raise DataError(
                    f"{self.place} yields tuples of {len(item)}.",
                    hint="Yield (x, y), or x; several inputs as a dict by their names.",
                )
            if len(item) == 3:
                self.notes.append(f"The sample weights of {self.place} are not used.")
            yield item[0], item[1] if len(item) > 1 else None

    def _joined(self, parts: list[dict[str, Array]], kind: str) -> Any:
        if not parts[0]:
            return None
        if any(part.keys() != parts[0].keys() for part in parts):
            raise DataError(
                f"{self.place}: not every batch has the same entries.",
                hint="Yield the same inputs and targets each time.",
            )
        try:
            joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        except ValueError as error:
            raise DataError(
                f"{self.place}: the batches do not fit each other.",
                found=f"{error}.",
                hint="All samples need one shape.",
            ) from error
        prefix = f"{kind}_"
        named = {key.removeprefix(prefix): array for key, array in joined.items()}
        return named[kind] if named.keys() == {kind} else named

    def _too_large(self, n: int, total: int) -> DataError:
        return DataError(
            f"{self.place} does not fit into memory, or does not end.",
            found=f"Read so far: {n:,} samples, {total / 1e6:,.0f} MB.",
            hint="Give fewer samples (tf.data: take(n)), or a folder of .npy files, which may be "
            "larger than memory.",
        )


def memory_limit() -> int:
    """Return how many bytes a stream may fill."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration, ValueError):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(free * SHARE_OF_MEMORY)


def _is_tuple(value: Any, length: int) -> bool:
    return isinstance(value, tuple | list) and len(value) == length


def _is_array(value: Any) -> bool:
    """Tell whether a value has samples along a first axis."""
    return hasattr(value, "shape") or (isinstance(value, list) and bool(value))


def _is_inputs(value: Any) -> bool:
    return isinstance(value, Mapping) or _is_array(value)


def _is_pair(value: Any) -> bool:
    """Tell whether a value is `(x, y)`; x, and y of a model with several outputs, may be dicts."""
    return _is_tuple(value, 2) and all(_is_inputs(part) for part in value)


def _is_part(value: Any) -> bool:
    """Tell whether a value is one whole split.

    Lists of numbers are arrays as well, so that a pair of lists within a pair is a split only if
    it is a tuple.
    """
    if _is_stream(value):
        return True
    named = isinstance(value, tuple) or (
        _is_tuple(value, 2) and all(hasattr(part, "shape") for part in value)
    )
    return named and _is_pair(value)


def _is_stream(value: Any) -> bool:
    """Tell whether a value yields batches or samples."""
    if isinstance(value, Mapping | str | bytes | tuple | list) or hasattr(value, "shape"):
        return False
    counted = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return counted or isinstance(value, Iterable)


def _iterator(stream: Any, place: str) -> Iterable[Any]:
    if _is_tensors(stream):
        if int(stream.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
            raise DataError(
                f"{place} is a tf.data.Dataset without an end.", hint="Give it with take(n)."
            )
        return cast("Iterable[Any]", stream.as_numpy_iterator())
    if hasattr(stream, "__getitem__") and hasattr(stream, "__len__"):
        # A PyDataset that is iterated over never ends.
        return (stream[i] for i in range(len(stream)))
    return cast("Iterable[Any]", stream)


def _is_tensors(stream: Any) -> bool:
    return hasattr(stream, "element_spec") and hasattr(stream, "as_numpy_iterator")


def _batched_tensors(stream: Any) -> bool | None:
    """Tell whether the elements of a `tf.data.Dataset` are batches; None for another stream.

    Their shapes tell in most cases; where they do not, whether `batch` was called.
    """
    if not _is_tensors(stream):
        return None
    spec = stream.element_spec
    x, y = spec[:2] if isinstance(spec, tuple) and len(spec) > 1 else (spec, None)
    shapes = [_shape(item) for part in (x, y) for item in _leaves(part)]
    if not all(shapes):
        return False  # single numbers, or an unknown rank
    firsts = {shape[0] for shape in shapes}
    if None in firsts:
        return True
    if len(firsts) > 1:
        return False
    while stream is not None:
        kind = type(stream).__name__.lower()
        if "batch" in kind:
            return "unbatch" not in kind
        stream = getattr(stream, "_input_dataset", None)
    return False


def _leaves(spec: Any) -> Iterator[Any]:
    inner = spec.values() if isinstance(spec, Mapping) else spec
    if isinstance(spec, Mapping | tuple | list):
        for item in inner:
            yield from _leaves(item)
    elif spec is not None:
        yield spec


def _shape(spec: Any) -> tuple[int | None, ...]:
    shape = getattr(spec, "shape", None)
    return () if shape is None or shape.rank is None else tuple(shape.as_list())


def _looks_batched(inputs: Mapping[str, Array], targets: Mapping[str, Array]) -> bool:
    """Tell whether an item is a batch, as Keras takes it, rather than one sample."""
    arrays = [*inputs.values(), *targets.values()]
    return all(array.ndim for array in arrays) and len({len(array) for array in arrays}) == 1


def _named(value: Any, key: str, place: str) -> dict[str, Any]:
    """Return one entry a tensor: `x_train`, or `x_train_<input>` for a dict."""
    if value is None:
        return {}
    if isinstance(value, tuple) and not all(np.isscalar(item) for item in value):
        raise DataError(
            f"{place or 'data'}: {key.partition('_')[0]} is a tuple of {len(value)}.",
            hint="Give several inputs or outputs as a dict, by the model's names of them.",
        )
    if not isinstance(value, Mapping):
        return {key: value}
    if len(value) == 1:
        return {key: next(iter(value.values()))}
    return {f"{key}_{name}": item for name, item in value.items()}


def _what(value: Any) -> str:
    kind = type(value)
    home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{'an' if (home or kind.__name__)[0] in 'aeiou' else 'a'} {home}{kind.__qualname__}"

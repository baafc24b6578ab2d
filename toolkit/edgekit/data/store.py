"""Where samples come from (stores), and the one way in which they are read (`Reader`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgekit.data.digest import CHUNK_BYTES, digest_arrays, digest_rows, digest_subset
from edgekit.data.preprocessing import apply_preprocessing, names_size
from edgekit.data.stored import StoredArray
from edgekit.errors import DataError
from edgekit.records import Array, Batch, Dataset, Samples, Split, TensorSpec
from edgekit_runner import SOUND_KINDS

Rows = NDArray[np.int64]


class Store(Protocol):
    """Raw samples as the user has them; rows are numbered from 0."""

    @property
    def sha256(self) -> str:
        """Digest of inputs and targets as stored."""

    @property
    def targets(self) -> Array | None:
        """Targets as stored, `[n, ...]`."""

    @property
    def groups(self) -> Array | None:
        """Samples of one group (one engine, say) must not be torn apart, `[n]`."""

    @property
    def sequences(self) -> Array | None:
        """As `Samples.sequences`, `[n]`."""

    def __len__(self) -> int: ...

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the raw inputs at `rows`, by input name."""

    def digests(self) -> list[bytes]:
        """Return one digest a sample, over its inputs."""

    def first_unusable(self) -> tuple[str, int] | None:
        """Return input and row of the first value that is NaN, infinite or beyond float32."""


@runtime_checkable
class SizedTargets(Protocol):
    """A store whose targets are pictures themselves, which are brought to a model's size."""

    def targets_at(self, rows: Rows, spec: Mapping[str, Any], size: tuple[int, int]) -> Array:
        """Return targets `[len(store), height, width]`, of which only those at `rows` are read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayStore:
    """Arrays in memory, mapped, or left in their file, `[n, ...]` each."""

    inputs: Mapping[str, Array | StoredArray]
    targets: Array | None
    sha256: str
    groups: Array | None = None
    sequences: Array | None = None
    by_output: Mapping[str, Array] = field(default_factory=dict)
    overlap: int = 0
    """Samples after each one, of its group, that hold some of its values: windows that overlap."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the raw inputs at `rows`, by input name."""
        return {name: array[rows] for name, array in self.inputs.items()}

    def digests(self) -> list[bytes]:
        """Return one digest a sample, over its inputs."""
        return digest_rows(self.inputs, np.arange(len(self)))

    def first_unusable(self) -> tuple[str, int] | None:
        """Return input and row of the first value that is NaN, infinite or beyond float32."""
        for name, array in self.inputs.items():
            row = first_unusable_row(array)
            if row is not None:
                return name, row
        return None


def array_store(
    inputs: Mapping[str, Array | StoredArray],
    targets: Array | None,
    groups: Array | None = None,
    sequences: Array | None = None,
    by_output: Mapping[str, Array] | None = None,
) -> ArrayStore:
    """Return a store over arrays of equal length, with their digest.

    Where there are targets of several outputs, by name, `targets` may be those of one of them.
    """
    named = by_output or {}
    stored: dict[str, Array | StoredArray] = {f"x_{name}": array for name, array in inputs.items()}
    if targets is not None and not any(targets is one for one in named.values()):
        stored["y"] = targets
    stored |= {f"y_{name}": array for name, array in named.items()}
    stored |= {} if sequences is None else {"sequence": sequences}
    return ArrayStore(
        inputs=inputs,
        targets=targets,
        sha256=digest_arrays(stored),
        groups=groups,
        sequences=sequences,
        by_output=named,
    )


def targets_by_output(store: Store) -> Mapping[str, Array]:
    """Return targets `[n, ...]` by the output that they are of; empty where nothing names one."""
    return store.by_output if isinstance(store, ArrayStore | CallableStore) else {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallableStore:
    """Samples of somebody else's making, seen through their `read`."""

    read: Callable[[Rows], Batch]
    n: int
    sha256: str
    targets: Array | None
    seen: list[bytes]
    unusable: tuple[str, int] | None
    groups: Array | None = None
    sequences: Array | None = None
    by_output: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.n

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the inputs at `rows`, by input name."""
        return dict(self.read(rows).inputs)

    def digests(self) -> list[bytes]:
        """Return one digest a sample, over its inputs."""
        return self.seen

    def first_unusable(self) -> tuple[str, int] | None:
        """Return input and row of the first value that is NaN, infinite or beyond float32."""
        return self.unusable


def _survey(samples: Samples) -> CallableStore:
    """Walk once through samples of somebody else's making and keep what binding asks for."""
    seen: list[bytes] = []
    targets: list[Array] = []
    others: dict[str, list[Array]] = {}
    unusable: tuple[str, int] | None = None
    for batch in samples.batches():
        arrays = {name: np.asarray(values) for name, values in batch.inputs.items()}
        for name, values in arrays.items():
            row = first_unusable_row(values)
            if row is not None and unusable is None:
                unusable = name, len(seen) + row
        seen.extend(digest_rows(arrays, np.arange(len(next(iter(arrays.values()))))))
        if batch.targets is not None:
            targets.append(np.asarray(batch.targets))
        for name, values in batch.others.items():
            others.setdefault(name, []).append(np.asarray(values))
    return CallableStore(
        read=samples.read,
        n=samples.n,
        sha256=samples.sha256,
        targets=np.concatenate(targets) if targets else None,
        seen=seen,
        unusable=unusable,
        by_output={name: np.concatenate(parts) for name, parts in others.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFit:
    """How one stored input becomes one of the model's.

    Attributes:
        stored: Its name in the store.
        name: The model's name for it.
        add_axis: Whether a trailing axis of length 1 is added; `drop_axis`: removed.
        dtype: What it is cast to.
    """

    stored: str
    name: str
    add_axis: bool
    dtype: str
    drop_axis: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reader:
    """`Samples.read`: fetch, preprocess, fit to the model.

    Open files are read by position only, so a fork is safe.

    Attributes:
        store: Where the samples are.
        index: The store's rows that are this split's samples.
        targets: Targets aligned with the store, `[len(store), ...]`, or None.
        preprocessing: Spec applied to every sample.
        fits: How inputs become the model's; empty before `bind`.
        target_shape: Shape of one regression target as the model predicts it, else None.
        kept: Features by store row, where they cost more to compute than to keep.
        others: Targets of further outputs, likewise, each with its `target_shape`.
    """

    store: Store
    index: Rows
    targets: Array | None
    preprocessing: Mapping[str, Any]
    fits: tuple[InputFit, ...] = ()
    target_shape: tuple[int, ...] | None = None
    kept: dict[int, Array] = field(default_factory=dict)
    others: Mapping[str, tuple[Array, tuple[int, ...] | None]] = field(default_factory=dict)

    def __call__(self, indices: Rows) -> Batch:
        """Return the samples at `indices`, `[n, ...]`."""
        rows = self.index[indices]
        inputs = self.prepared(rows)
        targets = None if self.targets is None else _shaped(self.targets[rows], self.target_shape)
        others = {name: _shaped(array[rows], shape) for name, (array, shape) in self.others.items()}
        if self.fits:
            inputs = {fit.name: _fitted(inputs[fit.stored], fit) for fit in self.fits}
        groups = None if self.store.groups is None else self.store.groups[rows]
        return Batch(inputs=inputs, targets=targets, groups=groups, others=others)

    def prepared(self, rows: Rows) -> dict[str, Array]:
        """Return the inputs at the store's `rows` after preprocessing, under their stored names."""
        spec = self.preprocessing
        if not names_size(spec):
            raise DataError(
                "Image size is not specified.",
                hint="""Give --preprocess '{kind="image", height=96, width=96, channels=3}'.""",
            )
        if spec["kind"] in SOUND_KINDS:
            return {"x": self._features(rows)}
        return {
            name: apply_preprocessing(values, spec)
            for name, values in self.store.fetch(rows).items()
        }

    def _features(self, rows: Rows) -> Array:
        # A training run asks for the same spectra in every epoch.
        new = np.array([row for row in rows if int(row) not in self.kept], np.int64)
        if len(new):
            (values,) = self.store.fetch(new).values()
            features = apply_preprocessing(values, self.preprocessing)
            self.kept.update(zip(new.tolist(), features, strict=True))
        return np.stack([self.kept[int(row)] for row in rows])


def _shaped(targets: Array, shape: tuple[int, ...] | None) -> Array:
    return targets if shape is None else targets.astype(np.float32).reshape(-1, *shape)


def _fitted(values: Array, fit: InputFit) -> Array:
    shaped = values[..., None] if fit.add_axis else values[..., 0] if fit.drop_axis else values
    return shaped.astype(fit.dtype, copy=False)


def reader_of(samples: Samples) -> Reader:
    """Return the samples' reader; samples of somebody else's making are walked through once.

    Keep the answer (`adopted` does) rather than ask twice.
    """
    if isinstance(samples.read, Reader):
        return samples.read
    store = _survey(samples)
    return Reader(
        store=store,
        index=np.arange(samples.n),
        targets=store.targets,
        preprocessing={"kind": "none"},
    )


def sized_targets(reader: Reader, output: TensorSpec) -> Reader:
    """Return the reader with targets of the output's size, where they are pictures themselves."""
    store, shape = reader.store, output.shape
    if not isinstance(store, SizedTargets) or len(shape) != 4:
        return reader
    spec = reader.preprocessing
    size = (shape[1], shape[2]) if min(shape[1:3]) > 0 else (spec["height"], spec["width"])
    return replace(reader, targets=store.targets_at(reader.index, spec, size))


def reads_stored(reader: Reader) -> bool:
    """Tell whether raw samples are at hand, rather than those of somebody else's `read`."""
    return not isinstance(reader.store, CallableStore)


def adopted(samples: Samples) -> Samples:
    """Return the samples with a `Reader`, whoever made them."""
    return replace(samples, read=reader_of(samples))


def with_preprocessing(dataset: Dataset, spec: Mapping[str, Any]) -> Dataset:
    """Return a data set whose raw samples are read through another spec."""

    def changed(samples: Samples | None) -> Samples | None:
        if samples is None:
            return None
        return replace(samples, read=replace(reader_of(samples), preprocessing=spec, kept={}))

    return replace(
        dataset,
        train=changed(dataset.train),
        calibrate=changed(dataset.calibrate),
        test=changed(dataset.test),
        preprocessing=spec,
    )


def targets_of(samples: Samples | None) -> Array | None:
    """Return the targets of bound samples, `[n, ...]`, without reading inputs; None without any."""
    if samples is None or not isinstance(samples.read, Reader):
        return None
    return None if samples.read.targets is None else samples.read.targets[samples.read.index]


def whole(split: Split, store: Store, preprocessing: Mapping[str, Any]) -> Samples:
    """Return all of a store as one split."""
    reader = Reader(
        store=store, index=np.arange(len(store)), targets=store.targets, preprocessing=preprocessing
    )
    return Samples(
        split=split, n=len(store), sha256=store.sha256, read=reader, sequences=store.sequences
    )


def subset(samples: Samples, chosen: Rows, split: Split) -> Samples:
    """Return the samples at `chosen`, in that order, as a split of their own."""
    reader = reader_of(samples)
    return replace(
        samples.at(chosen),
        split=split,
        sha256=digest_subset(samples.sha256, chosen),
        read=replace(reader, index=reader.index[chosen]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDataset:
    """What a format's reader found: raw splits, and what goes with them.

    Attributes:
        name: Name of the data set.
        train: The training split.
        test: The test split.
        pool: Samples that are in no split; there are no others then.
        drawn: Whether the reader drew the test split itself, in the share that was asked for.
        labels: Names of the classes.
        preprocessing: Spec applied to every sample.
        notes: What was done without being asked for.
        origins: As `Dataset.origins`.
        task: What the targets mean, where the source tells.
        labels_by_output: Names of the classes of outputs that have targets of their own.
    """

    name: str
    train: Store | None
    test: Store | None
    pool: Store | None = None
    drawn: bool = False
    labels: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
    notes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    task: str | None = None
    labels_by_output: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def first_unusable_row(array: Array | StoredArray) -> int | None:
    """Return the first row with a value that is NaN, infinite or beyond float32."""
    if array.dtype.kind != "f":
        return None
    limit = np.finfo(np.float32).max
    for start, chunk in _chunks(array):
        usable = np.abs(chunk) <= limit  # False for NaN as well
        if not usable.all():
            return start + int(np.argmin(usable.reshape(len(chunk), -1).all(axis=1)))
    return None


def _chunks(array: Array | StoredArray) -> Iterator[tuple[int, Array]]:
    rows = max(1, CHUNK_BYTES // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]

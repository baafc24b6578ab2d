"""Models and data as the user has them, and samples as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:  # importing numpy is not worth a name in annotations
    Array = Any

Split = Literal["train", "calibrate", "test"]
TaskChoice = str | Mapping[str, str] | None
"""What the targets mean: a task's name; for several outputs one for each, by the output's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a model, by its signature name.

    Attributes:
        name: The name in the signature (the Keras name), not the flatbuffer's tensor name.
        shape: Dimensions with the batch first; the batch is 1 in a lowered model.
        dtype: The numpy name: float32, int8, uint8, int16, int32, int64, bool.
        scale: Quantization step where the tensor is quantized, else None.
        zero_point: The code that stands for 0.0, where the tensor is quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputScaling:
    """What the first operators of a model do to its only input: `x * scale + offset`.

    Attributes:
        scale: One number, or one for each channel in the order of the input.
        offset: Likewise.
        limits: The least and the largest real value that the input can hold where it is quantized
            at once, else None.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as the user gave it.

    Attributes:
        name: Short name, from the file's or folder's stem.
        path: The file or folder.
        kind: How it is read.
        sha256: Digest of the file (of all files, in sorted order, for a folder).
        inputs: Inputs, batch 1, in the signature's order.
        outputs: Outputs, likewise.
        parameters: Number of weights, where the format tells.
        compiled: The metrics that it was compiled with, by their names here, where it tells.
    """

    name: str
    path: Path
    kind: Literal["keras", "h5", "saved_model", "tflite"]
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int | None = None
    compiled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some samples in a row.

    Attributes:
        inputs: Input name -> array `[n, ...]`. Before `data.bind` a single input is named "x".
        targets: `[n]` integer labels, `[n, ...]` regression targets, `[n]` 0/1 anomaly flags,
            flags `[n, k]` for any number of labels, class numbers `[n, h, w]` of pixels (below 0
            those that do not count), boxes `[n, m, 6]` as (x1, y1, x2, y2, class, ignored) in
            fractions of the input (class -1 where there is none), or None where the split has none.
        others: Output name -> targets of the outputs beside the scored one, where there are some.
        groups: `[n]` integers, the clip or machine that each sample is of; None where the data
            does not tell.
    """

    inputs: Mapping[str, Array]
    targets: Array | None = None
    groups: Array | None = None
    others: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One split, read piece by piece; never all in memory unless the user's file already is.

    Attributes:
        split: Which split this is. Calibration never sees the test split.
        n: Number of samples.
        sha256: Digest of the split's content (inputs and targets as stored).
        read: `read(indices) -> Batch` for an integer array of indices below `n`. Safe to call
            after a fork.
        sequences: `[n]`, the sequence that each sample belongs to, one after the other: a model
            with state carries it on within a sequence. None where the samples are independent,
            and state is reset before each.
    """

    split: Split
    n: int
    sha256: str
    read: Callable[[NDArray[np.int64]], Batch]
    sequences: Array | None = None

    def at(self, rows: NDArray[np.int64]) -> Samples:
        """Return the samples at `rows`, in that order; these samples where that is all of them."""
        import numpy as np

        if len(rows) == self.n and np.array_equal(rows, np.arange(self.n)):
            return self
        read = self.read
        return replace(
            self,
            n=len(rows),
            read=lambda chosen: read(rows[chosen]),
            sequences=None if self.sequences is None else self.sequences[rows],
        )

    def batches(self, size: int = 64) -> Iterator[Batch]:
        """Walk through all samples in order, `size` at a time."""
        import numpy as np

        for start in range(0, self.n, size):
            yield self.read(np.arange(start, min(start + size, self.n)))

    def starts(self) -> NDArray[np.bool_] | None:
        """Tell of each sample whether a sequence starts with it, `[n]`; None without sequences."""
        import numpy as np

        if self.sequences is None:
            return None
        changes = np.ones(self.n, np.bool_)
        changes[1:] = self.sequences[1:] != self.sequences[:-1]
        return changes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTask:
    """What the targets of one output mean.

    Attributes:
        task: As of `Dataset`; None where it is not known yet.
        labels: Likewise.
    """

    task: str | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The user's data.

    Attributes:
        name: Short name for tables and manifests.
        task: What the targets mean: a name of `evaluation.tasks`; None until it is known from the
            model (`data.bind`).
        train: Training samples; None where the source holds none.
        calibrate: Seeded subset of `train`; the only samples quantization ever sees.
        test: Samples that are scored; None where there are none.
        labels: Class names in order, or None.
        preprocessing: How raw input became the arrays here (see `edgekit_runner`), so that the
            runner can repeat it on the device. `{"kind": "none"}` where the arrays came as given.
        picture: For data that came as arrays: how a picture becomes such an array (a spec of kind
            "image"), where that is known; None where it is unknown or the model takes no pictures.
        preprocessing_reason: How `preprocessing` or `picture` was found, or why it is unknown, in
            a sentence; empty where nothing was to be found.
        head: How the outputs of a detector tell boxes, as `edgekit_runner.Head` takes it; None
            where they tell none, or where that is not known yet.
        notes: What was done silently elsewhere and is said here ("added a channel axis").
        origins: Where parts of it were read from, in sentences; nothing to be warned of.
        metric: The metric that the model was compiled with: what is judged where none is named.
        any_targets: Whether a metric of the user's own takes targets that fit no task.
        output: The output that `task` and `labels` are of, where it is not the model's first, or
            others have targets, too.
        others: What the targets of other outputs mean, by name, for data with targets of several.
            Before `data.bind` of any output, as far as the data or the user says.
    """

    name: str
    task: str | None
    train: Samples | None
    calibrate: Samples | None
    test: Samples | None
    labels: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
    picture: Mapping[str, Any] | None = None
    preprocessing_reason: str = ""
    head: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    metric: str | None = None
    any_targets: bool = False
    output: str | None = None
    others: Mapping[str, OutputTask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveData:
    """Arrays that were given from Python, in whatever form (`data.take`); picklable.

    Attributes:
        name: Name of the data set.
        arrays: Arrays, named as in an `.npz` file: `x_train`, `y_train`, ...
        unsplit: Whether the samples are in no split; they are called train then.
        notes: What was done on the way.
    """

    name: str
    arrays: Mapping[str, Any]
    unsplit: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """How the rows of a `.csv` become samples.

    Attributes:
        window: Consecutive rows of one sample, `[window, columns]`; None: each row is a sample.
        stride: Rows from one window to the next.
        group: Column whose values tell rows apart that never share a window (a machine, a person);
            rows of one group also stay in one split.
        ignore: Columns that are left out.
    """

    window: int | None = None
    stride: int = 1
    group: str | None = None
    ignore: tuple[str, ...] = ()


EACH_ROW: Final = TableOptions()
"""Each row of a table is a sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Data as the user named it.

    Attributes:
        data: What `data.open_data` takes, or a Dataset, which cannot be pickled.
        split: The share of the samples that is drawn for testing; None takes the data's own split.
        table: How the rows of a `.csv` become samples.
        column: The column to predict, for a `.csv`.
        task: What the targets mean; None where the data tells. By output name for data with
            targets of several outputs.
        preprocessing: How raw images become inputs; None where the data tells.
        classes: Names of the classes in the model's order; None where the data's order is it.
        head: How the outputs of a detector tell boxes; None where the model's file tells.
    """

    data: str | LiveData | Dataset
    split: float | None = None
    table: TableOptions = EACH_ROW
    column: str | None = None
    task: TaskChoice = None
    preprocessing: Mapping[str, Any] | None = None
    classes: Sequence[str] | None = None
    head: Mapping[str, Any] | None = None

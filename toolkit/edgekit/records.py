"""What flows through edgekit, in the order in which it flows. Read this first.

```
Source -> Samples -> Ranges -> Plan -> Artifact -> (Inspection, Score, Timing) -> Row -> Report
```

All records are frozen; a pass takes records and returns new ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgekit.choices import RangesMethod

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:  # importing numpy is not worth a name in annotations
    Array = Any

Split = Literal["train", "calibrate", "test"]
Verdict = Literal["kept", "unproven", "lost"]


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
    """

    name: str
    path: Path
    kind: Literal["keras", "h5", "saved_model", "tflite"]
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some samples in a row.

    Attributes:
        inputs: Input name -> array `[n, ...]`. Before `data.bind` a single input is named "x".
        targets: `[n]` integer labels, `[n, ...]` regression targets, `[n]` 0/1 anomaly flags,
            or None where the split has none.
    """

    inputs: Mapping[str, Array]
    targets: Array | None = None


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
        notes: What was done silently elsewhere and is said here ("added a channel axis").
    """

    name: str
    task: str | None
    train: Samples | None
    calibrate: Samples | None
    test: Samples | None
    labels: tuple[str, ...] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Data as the user named it.

    Attributes:
        data: What `data.open_data` takes, or a Dataset, which cannot be pickled.
        column: The column to predict, for a `.csv`.
        task: What the targets mean; None where the data tells.
        preprocessing: How raw images become inputs; None where the data tells.
    """

    data: str | Dataset
    column: str | None = None
    task: str | None = None
    preprocessing: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of the activations of one float graph, by flatbuffer tensor name.

    Attributes:
        method: minmax, percentile, mse, entropy, or trained.
        low: Tensor name -> lower end.
        high: Tensor name -> upper end.
        n: Number of calibration samples behind them; 0 for trained ones.
        weight_bits: Width that the weights were trained for.
    """

    method: str
    low: Mapping[str, float]
    high: Mapping[str, float]
    n: int
    weight_bits: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An override for the layers whose name matches `layers` (a regular expression)."""

    layers: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one variant is quantized.

    Attributes:
        variant: Name of the variant, and the stem of its file.
        mode: Default precision: a name of `modes.MODES`.
        ranges: How activation ranges are chosen.
        percentile: Share of values kept on each side, for `ranges="percentile"`, in percent.
        input_type: dtype of the file's inputs: float32, int8 or uint8 (int16 for int16x8).
        output_type: dtype of the file's outputs.
        rules: Per-layer overrides; the last match wins.
        sparse: Whether kernels are stored sparse where that makes the file smaller.
        passes: Names of the graph passes that precede quantization, in order
            (`quantization.passes`).
    """

    variant: str
    mode: str
    ranges: RangesMethod = "minmax"
    percentile: float = 99.99
    input_type: str = "float32"
    output_type: str = "float32"
    rules: tuple[Rule, ...] = ()
    sparse: bool = False
    passes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A `.tflite` file and its manifest.

    Attributes:
        path: The file.
        variant: Name of the variant.
        mode: Precision, or None for a file edgekit did not make.
        size_bytes: Size as stored.
        size_deflated_bytes: Size after zlib level 9: what a download or an update costs.
        sha256: Digest of the file.
        manifest: The manifest as written beside it (`<stem>.json`); empty if there is none.
    """

    path: Path
    variant: str
    mode: str | None
    size_bytes: int
    size_deflated_bytes: int
    sha256: str
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFit:
    """Whether an operator runs on a target's accelerator; a *prediction* unless said otherwise."""

    mapped: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of a graph.

    Attributes:
        index: Position in execution order.
        name: Operator name in the schema, e.g. CONV_2D.
        layer: Name of the layer it came from, as far as the tensor names tell.
        outputs: Names of the output tensors.
        dtype: numpy name of the first output's type.
        bytes: Bytes of the constants it owns (a shared constant counts at its first user).
        macs: Multiply-accumulates for one inference, where the operator has a formula.
        targets: Target name -> fit.
    """

    index: int
    name: str
    layer: str
    outputs: tuple[str, ...]
    dtype: str
    bytes: int
    macs: int | None
    targets: Mapping[str, TargetFit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is inside a `.tflite` file.

    Attributes:
        path: The file.
        size_bytes: Size as stored.
        inputs: Inputs by signature name.
        outputs: Outputs by signature name.
        ops: Operators in execution order.
        bytes: Where the bytes are: `weights`, `quantization`, `graph` (all else); they add up
            to `size_bytes`.
        weight_dtypes: Storage type -> bytes of constants of that type.
        macs: Multiply-accumulates for one inference.
        parameters: Number of constant elements that operators compute with.
    """

    path: Path
    size_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: tuple[Operator, ...]
    bytes: Mapping[str, int]
    weight_dtypes: Mapping[str, int]
    macs: int
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class of a classifier: `label`, number of samples, recall and precision in [0, 1]."""

    label: str
    n: int
    recall: float
    precision: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The loss against the float model on the same samples; positive is worse.

    Attributes:
        value: In the metric's own unit (0.005 for half a point of accuracy).
        ci95: Paired 95 % interval of `value`.
        verdict: `kept`: the whole interval is within the budget; `lost`: the whole interval is
            beyond it; `unproven`: the budget lies inside the interval, more samples would tell.
        allowed: The budget, in the metric's own unit; None in reports older than this field.
    """

    value: float
    ci95: tuple[float, float]
    verdict: Verdict
    allowed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A model's score on the test split.

    Attributes:
        metric: A name of `evaluation.metrics`.
        value: The score.
        n: Number of samples.
        ci95: 95 % interval of `value`.
        extras: Further figures by name: other metrics of the task, top5_accuracy, mae.
        per_class: One row a class, for classifiers.
    """

    metric: str
    value: float
    n: int
    ci95: tuple[float, float]
    extras: Mapping[str, float] = field(default_factory=dict)
    per_class: tuple[ClassScore, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Latencies of single invocations, raw, as the runner measured them.

    Attributes:
        values_ns: One entry an invocation, after warm-up.
        warmup_ns: The invocations before, not counted.
        threads: Interpreter threads.
        device: Where it ran, in words ("local: Intel Xeon, 2 cores").
        runtime: Name and version of the runtime.
        delegate: Delegate in use, or None.
        peak_rss_bytes: Peak resident memory of the measuring process.
        cold_start_ns: import, load, allocate, first_invoke.
        conditions: Governor, temperature, throttling as far as the device tells.
        stable: Whether the measurement settled; if not, `warning` says why.
        warning: A sentence, or None.
        details: What else was asked of the runner, in its own words: kernels, end_to_end,
            sustained, sweep.
    """

    values_ns: tuple[int, ...]
    warmup_ns: tuple[int, ...]
    threads: int
    device: str
    runtime: str
    delegate: str | None
    peak_rss_bytes: int
    cold_start_ns: Mapping[str, int] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    stable: bool = True
    warning: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def percentile_ms(self, share: float) -> float:
        """Latency below which `share` percent of the invocations lie, in milliseconds."""
        import numpy as np

        return float(np.percentile(self.values_ns, share)) / 1e6

    @property
    def p50_ms(self) -> float:
        """Median latency in milliseconds."""
        return self.percentile_ms(50)

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return statistics.fmean(self.values_ns) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a report: a file, what is in it, how well and how fast it does.

    Attributes:
        model: Name of the source model.
        artifact: The file.
        inspection: What is inside, or None.
        score: Score on the test split, or None.
        drop: Loss against the float model, or None.
        agreement: Share of samples with the float model's top-1 class, for classifiers.
        timing: Latency, or None.
        recommended: Whether this is the file to ship.
        device: Where a row without latency was scored, as `Timing.device` says it; None where
            that makes no difference.
    """

    model: str
    artifact: Artifact
    inspection: Inspection | None = None
    score: Score | None = None
    drop: Drop | None = None
    agreement: float | None = None
    timing: Timing | None = None
    recommended: bool = False
    device: str | None = None

    @property
    def place(self) -> str | None:
        """The device that all figures of this row are from, if it is known."""
        return self.timing.device if self.timing else self.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Rows and all that a reader who was not there needs to understand them.

    Attributes:
        title: The model's name.
        asked: What was asked for, in label -> value pairs (source, modes, max drop, ...).
        rows: The variants.
        reason: Why the recommended file was chosen, in a sentence or two.
        data: Splits, sizes, digests, task, in label -> value pairs.
        versions: Engine -> version.
        device: Description of the measuring device, in label -> value pairs.
        devices: The same for each device, by `Timing.device`, where there are several.
        warnings: What the reader must know before believing the figures.
        created: ISO 8601 time, UTC.
    """

    title: str
    asked: Mapping[str, str]
    rows: tuple[Row, ...]
    reason: str
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A stage's progress, on its way to the terminal.

    Attributes:
        stage: What is being done, in words ("lowering", "calibrating").
        done: Steps done.
        total: Steps in all, or None where nobody knows.
        detail: A few words beside the bar.
    """

    stage: str
    done: int = 0
    total: int | None = None
    detail: str = ""


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The listener that listens to nothing."""

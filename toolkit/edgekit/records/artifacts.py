"""What is made of a model: ranges, plans, files, and what is inside a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgekit.choices import RangesMethod
from edgekit.records.dataset import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of the activations of one float graph, by flatbuffer tensor name.

    Attributes:
        method: minmax, percentile, mse, entropy, or trained.
        low: Tensor name -> lower end.
        high: Tensor name -> upper end.
        n: Number of calibration samples behind them; 0 for trained ones.
        weight_bits: Width that the weights were trained for.
        centers: Output tensor of a layer -> the value of each channel that it reads, or of all of
            them, which its bias takes away: what rounded weights make of it is taken away.
    """

    method: str
    low: Mapping[str, float]
    high: Mapping[str, float]
    n: int
    weight_bits: int = 8
    centers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


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
        ranges: How activation ranges are chosen; `auto` chooses the form of the float graph too,
            also in modes that leave activations in float.
        percentile: Share of values kept on each side, for `ranges="percentile"`, in percent.
        input_type: dtype of the file's inputs: float32, int8 or uint8 (int16 for int16x8).
        output_type: dtype of the file's outputs.
        rules: Per-layer overrides; the last match wins.
        sparse: Whether kernels are stored sparse where that makes the file smaller.
        passes: Names of the graph passes that precede quantization, in order
            (`quantization.passes`).
        keep_names: Whether inner tensors of integer files keep their names, for tools that look for
            them; else they are called after their layers.
        free_ends: Which of `input` and `output` become float32 where codes of one scale would lose
            too much (`quantization.writer.ends`): those whose type was not asked for.
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
    keep_names: bool = False
    free_ends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPlan(Plan):
    """A variant that is to keep the accepted loss: its rules are searched for when it is made.

    The least set of operators gets a higher precision than `mode`. Manifests hold the plan that was
    found, which is an ordinary one.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A `.tflite` file and its manifest.

    Attributes:
        path: The file.
        variant: Name of the variant.
        mode: Precision, or None for a file edgekit did not make.
        size_bytes: Size of the plain file, as a runtime reads it.
        size_deflated_bytes: Size after zlib level 9: what a download or an update costs; 0 where
            that was not measured.
        sha256: Digest of the plain file.
        gzip_bytes: Size of the packed file, where it is shipped packed with gzip; else None.
        manifest: The manifest as written beside it (`<stem>.json`); empty if there is none.
    """

    path: Path
    variant: str
    mode: str | None
    size_bytes: int
    size_deflated_bytes: int
    sha256: str
    gzip_bytes: int | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flash_bytes(self) -> int:
        """Size as stored on a device."""
        return self.size_bytes if self.gzip_bytes is None else self.gzip_bytes

    @property
    def shipped(self) -> Path:
        """The file that goes to a device: the packed one where there is one."""
        packed = self.gzip_bytes is not None and self.path.suffix != ".gz"
        return self.path.with_name(f"{self.path.name}.gz") if packed else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFit:
    """Whether an operator runs on a target's accelerator; a *prediction* unless said otherwise.

    Attributes:
        mapped: Whether it does.
        reason: Why it does not.
        follows: Whether it would, but for another operator before it that does not.
        own_kernel: Whether the target's processor runs it all the same, by a kernel of the runtime.
    """

    mapped: bool
    reason: str | None = None
    follows: bool = False
    own_kernel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """What a model needs of a microcontroller's memory, and what there is.

    Attributes:
        arena_bytes: The arena to declare: what TFLite Micro uses on a 64-bit machine, which covers
            what it uses on a microcontroller; None if it cannot be planned.
        head_bytes: The part of it for activations and scratch buffers.
        arena_bytes_32: Estimate of what a 32-bit processor uses with the reference kernels.
        measured: Whether the arena is from TFLite Micro's interpreter; else it is estimated.
        loads: Whether the interpreter loads the model; None if it is not installed.
        message: What it says where it does not.
        model_bytes: Size of the file.
        code_bytes: Estimate of the interpreter and its kernels.
        ram_bytes: RAM of the target, None if none was named.
        flash_bytes: Flash of the target, None if none was named.
    """

    arena_bytes: int | None
    head_bytes: int | None
    arena_bytes_32: int | None
    measured: bool
    loads: bool | None
    message: str | None
    model_bytes: int
    code_bytes: int
    ram_bytes: int | None = None
    flash_bytes: int | None = None

    @property
    def needed_flash_bytes(self) -> int:
        """Flash of the model, the interpreter and its kernels; estimated."""
        return self.model_bytes + self.code_bytes

    @property
    def fits(self) -> bool | None:
        """Whether arena and flash are within what the target has; None if it is not known."""
        needs = [(self.arena_bytes, self.ram_bytes), (self.needed_flash_bytes, self.flash_bytes)]
        limited = [(need, there) for need, there in needs if there is not None]
        if any(need is not None and need > there for need, there in limited):
            return False
        return True if limited and all(need is not None for need, _ in limited) else None

    @property
    def shortage(self) -> str:
        """What keeps the model from running there, in words; "" if nothing is known to."""
        if self.loads is False:
            return f"TFLite Micro does not load it: {self.message}"
        needs = {
            "an arena": (self.arena_bytes, self.ram_bytes),
            "flash": (self.needed_flash_bytes, self.flash_bytes),
        }
        missing = [
            f"{what} of {need:,} B, of {there:,} B"
            for what, (need, there) in needs.items()
            if need is not None and there is not None and need > there
        ]
        return f"it needs {' and '.join(missing)}" if missing else ""


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
        version: Version of the operator, which a runtime must have.
        shape: Dimensions of the first output.
        inputs: Types of the inputs that are no constants, in their order.
        weights: Storage type of the largest constant it uses; None without one.
        scale: Quantization step of the first output; None where it is not quantized, or by channel.
        zero_point: The code that stands for 0.0 there.
        in_float: Whether it reads or writes an activation in floating point.
        alive_bytes: Bytes of all tensors that hold a value while it runs, constants left out.
    """

    index: int
    name: str
    layer: str
    outputs: tuple[str, ...]
    dtype: str
    bytes: int
    macs: int | None
    targets: Mapping[str, TargetFit] = field(default_factory=dict)
    version: int = 1
    shape: tuple[int, ...] = ()
    inputs: tuple[str, ...] = ()
    weights: str | None = None
    scale: float | None = None
    zero_point: int | None = None
    in_float: bool = False
    alive_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NpuEstimate:
    """What the compiler of an NPU says of a model: *simulated* figures, not measured ones.

    Attributes:
        compiler: The compiler and its version.
        configuration: What it assumed of the chip around the NPU: system configuration and memory
            mode.
        cycles: Clock cycles of one inference on the NPU; None if nothing runs on it.
        clock_hz: Clock of the NPU.
        time_ms: Time of one inference, without operators on the CPU.
        sram_bytes: SRAM that it uses.
        dram_bytes: Likewise, of DRAM.
        flash_bytes: Flash of the weights and commands, on and off the chip.
        message: Why it could not compile the model; None if it did.
    """

    compiler: str
    configuration: str = ""
    cycles: int | None = None
    clock_hz: float | None = None
    time_ms: float | None = None
    sram_bytes: int | None = None
    dram_bytes: int | None = None
    flash_bytes: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTpuProgram:
    """What Google's compiler put into a model for an Edge TPU; read, not predicted.

    Attributes:
        min_runtime: The oldest Edge TPU runtime (libedgetpu) that loads it.
        cached_bytes: Parameters that stay in the chip's memory.
        streamed_bytes: Parameters that are sent for every inference.
        cycles: Its estimate of the cycles of an inference; None where it gives none.
    """

    min_runtime: int
    cached_bytes: int
    streamed_bytes: int
    cycles: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTpuCompilation:
    """The result of running Google's compiler for the Edge TPU on a model.

    Attributes:
        compiler: The compiler and its version.
        program: What it made of the model; None where it gave no verdict, or mapped nothing.
        message: Why it gave no verdict, so that what runs there is predicted; None if it did.
    """

    compiler: str
    program: EdgeTpuProgram | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is inside a `.tflite` file.

    Attributes:
        path: The file.
        size_bytes: Size as stored.
        inputs: Inputs by signature name.
        outputs: Outputs by signature name.
        ops: Operators in execution order.
        bytes: Where the bytes are: `weights`, `quantization`, `metadata`, `graph` (all else);
            they add up to `size_bytes`.
        weight_dtypes: Storage type -> bytes of constants of that type.
        macs: Multiply-accumulates for one inference.
        parameters: Number of constant elements that operators compute with.
        signatures: Keys of the signatures.
        metadata: Name of an entry -> its bytes.
        runtimes: Runtime, as the runner calls it -> the oldest version that has every operator at
            its version; None where no release has. Of custom operators nothing is known.
        lacking: Runtime without such a release -> the operators that it lacks even of the file as
            the runner unpacks it; empty where that loads.
        memory: Target name -> memory, for microcontrollers.
        estimates: Target name -> what its compiler says, for NPUs.
        edge_tpu: What of it runs on an Edge TPU, where it was compiled for one.
        compiled: Target name -> the result of compiling it for an Edge TPU, where that was tried.
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
    signatures: tuple[str, ...] = ()
    metadata: Mapping[str, int] = field(default_factory=dict)
    runtimes: Mapping[str, str | None] = field(default_factory=dict)
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    memory: Mapping[str, MemoryFit] = field(default_factory=dict)
    estimates: Mapping[str, NpuEstimate] = field(default_factory=dict)
    edge_tpu: EdgeTpuProgram | None = None
    compiled: Mapping[str, EdgeTpuCompilation] = field(default_factory=dict)

    def decided_by(self, target: str) -> str | None:
        """Return the compiler that says what a target takes; None where that is predicted."""
        estimate, run = self.estimates.get(target), self.compiled.get(target)
        if run is not None and run.message is None:
            return run.compiler
        return None if estimate is None else estimate.compiler

    def judge(self, target: str) -> str | None:
        """Return what says what a target takes: a compiler, its interpreter, or None."""
        measured = self.how_known(target) == "measured"
        return self.decided_by(target) or ("TFLite Micro" if measured else None)

    @property
    def without_verdict(self) -> tuple[str, ...]:
        """Sentences: which compiler gave no verdict, and why."""
        return tuple(
            f"{run.compiler} gave no verdict, {run.message}. What runs on {target} is predicted."
            for target, run in self.compiled.items()
            if run.message is not None
        )

    def unmapped(self, target: str) -> tuple[Operator, ...]:
        """Return the operators that a target does not take; those it was not asked for left out."""
        asked = [(op, op.targets.get(target)) for op in self.ops]
        return tuple(op for op, fit in asked if fit is not None and not fit.mapped)

    def how_known(self, target: str) -> Literal["measured", "simulated", "compiled", "predicted"]:
        """Return how it is known what a target takes: its interpreter or compiler may be here."""
        if target in self.compiled and self.decided_by(target):
            return "compiled"
        if target in self.estimates:
            return "simulated"
        memory = self.memory.get(target)
        if memory is not None and memory.loads is not None:
            # A kernel that the interpreter has and the target lacks is predicted to be missing.
            return "predicted" if memory.loads and self.unmapped(target) else "measured"
        return "predicted"

    def how_fits(self, target: str) -> Literal["measured", "simulated", "compiled", "predicted"]:
        """Return how it is known that a target runs the model, in the memory that it has."""
        memory, known = self.memory.get(target), self.how_known(target)
        estimated = memory is not None and memory.fits is not None and not memory.measured
        return "predicted" if known == "measured" and estimated else known

    @property
    def peak(self) -> Operator | None:
        """The first operator at which most memory is alive; None without operators."""
        return max(self.ops, key=lambda op: op.alive_bytes, default=None)

    @property
    def in_float(self) -> tuple[Operator, ...]:
        """The operators that read or write an activation in floating point."""
        return tuple(op for op in self.ops if op.in_float)

"""Run a `.tflite` file over many samples, on every core, in children that may die.

One interpreter thread per child and one child per core: small models gain nothing from threads
inside an inference, and all of them gain from several inferences at once. Samples are independent,
unless their data declares sequences: what a model remembers is reset before each sample, or each
sequence, and a sequence runs in one child, in order.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError, ModelError
from edgekit.evaluation.codes import decoded, encoded
from edgekit.evaluation.fidelity import compared_rows
from edgekit.files import check_input
from edgekit.isolate import ChildDiedError, isolated, report, shared, spread
from edgekit.records import Array, Batch, Listener, Progress, Samples, TensorSpec, silent
from edgekit.tflite import check_interface
from edgekit.tflite.load import TRIAL_LIMIT_S
from edgekit.tflite.stored import loadable
from edgekit_runner import RESOURCES, TENSORS, state_of, stored_model

Collect = Callable[[Batch, Mapping[str, Array]], Mapping[str, Array]]
_Layout = dict[str, tuple[tuple[int, ...], str]]
"""Name -> shape and type of what there is of one sample."""
R = TypeVar("R")

# A piece is read, quantized, run and stored at a time; beyond these it gains nothing but memory.
PIECE_SAMPLES = 256
PIECE_BYTES = 8 << 20


def predict(
    path: Path, samples: Samples, *, processes: int | None = None, listener: Listener = silent
) -> Mapping[str, Array]:
    """Return the outputs of a `.tflite` file for all samples, in order.

    Float samples are quantized as the inputs ask (samples that already have a quantized input's
    type are its codes); quantized outputs come back as real values in float32.

    Args:
        path: The file. Its batch may be 1, larger, or free.
        samples: What to run it on.
        processes: Children at work; one per usable core where None.
        listener: Progress callback.

    Returns:
        Output name -> `[n, ...]`, in the graph's order, by the signature's names (by the tensors'
        where there is no signature).

    Raises:
        ModelError: The file cannot be read or run, or its runtime died.
        DataError: The samples do not fit the inputs.
    """
    kept, _ = sweep(
        path, samples, lambda _, outputs: outputs, processes=processes, listener=listener
    )
    return kept


def piece_size(one: Batch) -> int:
    """Return how many samples like this one are read and run at a time."""
    sample_bytes = sum(values.nbytes for values in one.inputs.values())
    return max(1, min(PIECE_SAMPLES, PIECE_BYTES // max(1, sample_bytes)))


def sweep(
    path: Path,
    samples: Samples,
    collect: Collect,
    *,
    processes: int | None = None,
    listener: Listener = silent,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run a file over all samples and keep what `collect(batch, outputs)` makes of each piece.

    `collect` runs in the children, so that only what it returns (name -> `[k, ...]` for a piece of
    `k` samples) is ever kept for all samples.

    Returns:
        What was collected of all samples; and all outputs of a few, `fidelity.compared_rows`.

    Raises:
        ModelError: As `predict`.
        DataError: As `predict`.
    """
    import ai_edge_litert.interpreter  # noqa: F401  imported before the fork, so once for all

    check_input(path, ModelError, hint="Check the path.")
    if samples.n == 0:
        raise DataError(f"The {samples.split} split is empty: nothing to run {path.name} on.")
    workers = max(1, min(processes or len(os.sched_getaffinity(0)), samples.n))
    first = samples.read(np.zeros(1, np.int64))
    starts = samples.starts()

    def probe() -> tuple[int, str, _Layout, _Layout]:
        model = load_model(path, first.inputs, state_of(stored_model(str(path))))
        outputs = run_model(model, first.inputs)
        return model.batch, model.state, _layout(collect(first, outputs)), _layout(outputs)

    batch, state, columns, layout = _guarded(path, lambda: isolated(probe, limit_s=TRIAL_LIMIT_S))
    if not state:
        starts = None  # order means nothing to it, so its samples are divided freely
    elif starts is not None and batch > 1:
        raise ModelError(
            f"{path} cannot follow a sequence: it takes {batch} samples in one run.",
            hint="Convert it with batch 1, or drop sequence_test from the data.",
        )
    kept = {name: shared((samples.n, *shape), dtype) for name, (shape, dtype) in columns.items()}
    rows = compared_rows(samples.n, sum(math.prod(shape) for shape, _ in layout.values()))
    raw = {name: shared((len(rows), *shape), dtype) for name, (shape, dtype) in layout.items()}
    limit = piece_size(first)
    claim = _claims(samples.n, workers=workers, limit=limit, multiple=batch, starts=starts)

    def work(_: int) -> None:
        model = load_model(path, first.inputs, state)
        for piece in claim():
            some = samples.read(piece)
            outputs = run_model(model, some.inputs, None if starts is None else starts[piece])
            for name, values in collect(some, outputs).items():
                kept[name][piece] = values
            # Both ascend.
            start, end = np.searchsorted(rows, (piece[0], piece[-1] + 1))
            for name, values in outputs.items():
                raw[name][start:end] = values[rows[start:end] - piece[0]]
            report(len(piece))

    done = 0

    def tick(steps: int) -> None:
        nonlocal done
        done += steps
        listener(Progress(stage="evaluating", done=done, total=samples.n, detail=path.stem))

    _guarded(path, lambda: spread(work, range(workers), tick=tick))
    return kept, raw


def _layout(arrays: Mapping[str, Array]) -> _Layout:
    return {name: (values.shape[1:], values.dtype.str) for name, values in arrays.items()}


@dataclass(slots=True, kw_only=True)
class LoadedModel:
    """An interpreter with its tensors' indices, in the graph's order; `batch` samples a run."""

    path: Path
    interpreter: Any
    state: str
    batch: int
    inputs: tuple[tuple[int, TensorSpec], ...]
    outputs: tuple[tuple[int, TensorSpec], ...]

    def reset_state(self) -> None:
        """Forget what earlier runs left in the model; see `edgekit_runner.state_of`."""
        if self.state == RESOURCES:
            self.interpreter = _interpreter(
                self.path, {index: spec.shape for index, spec in self.inputs}
            )
        elif self.state == TENSORS:
            self.interpreter.reset_all_variables()


def load_model(path: Path, example: Mapping[str, Array], state: str) -> LoadedModel:
    """Open a file in this child and give free dimensions the example's sizes.

    Args:
        path: The file.
        example: Samples.
        state: What the model remembers, as `edgekit_runner.state_of` returns it.
    """
    try:
        interpreter = _interpreter(path)
        inputs = _described(interpreter, "inputs")
        check_interface(str(path), inputs, interpreter.get_output_details())
        for index, spec, signature in inputs:
            if -1 in signature[1:]:
                free = input_of(example, spec, inputs, path).shape
                interpreter.resize_tensor_input(index, (spec.shape[0], *free[1:]), strict=True)
        interpreter.allocate_tensors()
        inputs = _described(interpreter, "inputs")
        outputs = _described(interpreter, "outputs")
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path} cannot be loaded.",
            found=_first_line(error),
            hint="Convert it again, or check that it is a TFLite file this runtime supports.",
        ) from error
    for _, spec, _ in (*inputs, *outputs):
        if np.dtype(spec.dtype).kind not in "biufc":
            raise ModelError(f"{path}: tensor {spec.name} holds {spec.dtype}, not numbers.")
    batches = {spec.shape[0] for _, spec, _ in inputs if spec.shape}
    batch = batches.pop() if len(batches) == 1 else 1
    if batch > 1 and any(spec.shape[:1] != (batch,) for _, spec, _ in outputs):
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for _, spec, _ in outputs)
        raise ModelError(
            f"{path}: a batch of {batch} goes in, but its outputs are {shapes}.",
            hint="Convert it with batch 1.",
        )
    return LoadedModel(
        path=path,
        interpreter=interpreter,
        state=state,
        batch=batch,
        inputs=tuple((index, spec) for index, spec, _ in inputs),
        outputs=tuple((index, spec) for index, spec, _ in outputs),
    )


def _interpreter(path: Path, shapes: Mapping[int, tuple[int, ...]] | None = None) -> Any:
    """Return an interpreter; where its inputs' shapes are given, it is allocated."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(**loadable(path), num_threads=1)
    if shapes is not None:
        for index, shape in shapes.items():
            interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()
    return interpreter


def _described(interpreter: Any, kind: str) -> list[tuple[int, TensorSpec, tuple[int, ...]]]:
    """Return index, spec and shape signature of the inputs or outputs, in the graph's order."""
    details = getattr(interpreter, f"get_{kind[:-1]}_details")()
    names = {detail["index"]: detail["name"] for detail in details}
    for key in interpreter.get_signature_list():
        signed = getattr(interpreter.get_signature_runner(key), f"get_{kind[:-1]}_details")()
        # A signature may belong to another subgraph: then its tensors are not these.
        if {(d["index"], d["name"]) for d in signed.values()} == set(names.items()):
            names = {detail["index"]: name for name, detail in signed.items()}
            break
    described = []
    for detail in details:
        scales = detail["quantization_parameters"]["scales"]
        zero_points = detail["quantization_parameters"]["zero_points"]
        spec = TensorSpec(
            name=names[detail["index"]],
            shape=tuple(int(size) for size in detail["shape"]),
            dtype=np.dtype(detail["dtype"]).name,
            scale=float(scales[0]) if len(scales) else None,
            zero_point=(int(zero_points[0]) if len(zero_points) else 0) if len(scales) else None,
        )
        signature = tuple(int(size) for size in detail["shape_signature"])
        described.append((detail["index"], spec, signature))
    return described


def run_model(
    model: LoadedModel, inputs: Mapping[str, Array], starts: NDArray[np.bool_] | None = None
) -> dict[str, Array]:
    """Return output name -> `[k, ...]` for `k` samples; the last run is padded to the batch.

    Args:
        model: The model.
        inputs: Input name -> `[k, ...]`.
        starts: `[k]`, whether the model's state is reset before a sample; before all where None.
    """
    feeds = []
    for index, spec in model.inputs:
        values = input_of(inputs, spec, model.inputs, model.path)
        if values.shape[1:] != spec.shape[1:]:
            raise DataError(
                f"{model.path.name}: input {spec.name} takes samples of shape "
                f"{list(spec.shape[1:])}.",
                found=f"The samples have shape {list(values.shape[1:])}.",
                hint="Give data of the model's shape, or check the preprocessing.",
            )
        feeds.append((index, encoded(values, spec, model.batch)))
    n = len(next(iter(inputs.values())))
    runs = math.ceil(n / model.batch)
    results = [
        (index, spec, np.empty((runs, *spec.shape), spec.dtype)) for index, spec in model.outputs
    ]
    batch = model.batch
    try:
        for run in range(runs):
            if starts is None or starts[run]:
                model.reset_state()
            interpreter = model.interpreter
            for index, codes in feeds:
                interpreter.set_tensor(index, codes[run * batch : (run + 1) * batch])
            interpreter.invoke()
            for index, spec, stored in results:
                values = interpreter.get_tensor(index)
                if values.shape != spec.shape:
                    raise ModelError(
                        f"{model.path}: output {spec.name} changes its shape from sample to "
                        f"sample: {list(spec.shape)}, then {list(values.shape)}.",
                        hint="Convert the model with a fixed output shape.",
                    )
                stored[run] = values
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{model.path} cannot be run.", found=_first_line(error)) from error
    return {
        spec.name: decoded(stored.reshape(-1, *_sample_shape(spec, batch))[:n], spec)
        for _, spec, stored in results
    }


def input_of(inputs: Mapping[str, Array], spec: TensorSpec, wanted: Any, path: Path) -> Array:
    """Return the array meant for an input: the one of its name, or the only one for the only."""
    if spec.name in inputs:
        return inputs[spec.name]
    if len(inputs) == len(wanted) == 1:
        return next(iter(inputs.values()))
    names = ", ".join(entry[1].name for entry in wanted)
    raise DataError(
        f"{path.name} takes the inputs {names}.",
        found=f"The data has {', '.join(inputs)}.",
        hint="Name the arrays as the model's inputs are named.",
    )


def _sample_shape(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    """Return an output's shape without its batch; all of it where it has none."""
    return spec.shape[1:] if spec.shape[:1] == (batch,) else spec.shape


def _claims(
    n: int, *, workers: int, limit: int, multiple: int, starts: NDArray[np.bool_] | None = None
) -> Callable[[], Iterator[NDArray[np.int64]]]:
    """Return an iterator for each child over pieces of `range(n)` no other child has taken.

    Pieces shrink towards the end (guided self-scheduling, Polychronopoulos & Kuck 1987), so that
    the children finish together even where another process takes half of one's core.

    Args:
        n: Number of samples.
        workers: Number of children.
        limit: Most samples of a piece.
        multiple: Samples of one run; pieces are multiples of it.
        starts: `[n]`, where sequences start: a child takes whole ones, and their pieces in order.
    """
    position = multiprocessing.get_context("fork").Value("q", 0)
    bounds = None if starts is None else np.append(np.flatnonzero(starts), n)
    step = max(limit, multiple)

    def claim() -> Iterator[NDArray[np.int64]]:
        while True:
            with position.get_lock():
                start = position.value
                # A child alone waits for no other: its pieces are for the progress only.
                least = n // (16 * workers if workers > 1 else 4)
                share = max((n - start) // (4 * workers), least)
                size = min(limit, share) // multiple * multiple
                end = min(n, start + max(size, multiple))
                if bounds is not None:
                    end = int(bounds[np.searchsorted(bounds, end)])
                position.value = end
            if start >= n:
                return
            for first in range(start, end, step):
                yield np.arange(first, min(end, first + step))

    return claim


def _guarded(path: Path, run: Callable[[], R]) -> R:
    """Turn a child's death into a `ModelError` that names the file and the signal."""
    try:
        return run()
    except ChildDiedError as death:
        raise ModelError(
            f"{path}: the runtime died of it ({death.reason}).",
            hint="The file is damaged, or asks what this runtime cannot do; convert it again.",
        ) from death


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

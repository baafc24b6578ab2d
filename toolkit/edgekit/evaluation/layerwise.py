"""Run two models on the same samples and compare what each pair of operators computes.

Every value is compared while it is in the runtime's memory; only sums are kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ModelError
from edgekit.evaluation.codes import encoded
from edgekit.evaluation.fidelity import MIN_VALUES, OWN_NOISE, finite_pair, sqnr_db
from edgekit.evaluation.predict import LoadedModel, input_of, load_model
from edgekit.files import temporary_folder
from edgekit.isolate import ChildDiedError, report, spread
from edgekit.records import Array, Batch, Listener, OperatorDifference, Progress, Samples, silent
from edgekit.tflite.graph import write
from edgekit.tflite.matching import Match, with_outputs
from edgekit_runner import state_of, stored_model

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, TensorT

Floats = NDArray[np.float64]
_PIECE = 16


class Tally:
    """Sums of the values of one tensor in two models; those of several samples are merged.

    Args:
        limits: Least and largest real value of the second model's integers, and their step; None in
            float.
    """

    def __init__(self, limits: tuple[float, float, float] | None = None) -> None:
        self.limits = limits
        self.signal = self.noise = self.product = self.energy = 0.0
        self.error = self.largest = 0.0
        self.count = self.beyond = 0
        self.ends: Floats | None = None  # [2, 2, channels]: of both models, least and largest

    def add(self, first: Array, second: Array) -> None:
        """Add the values of one or more samples, `[n, ..., channels]`."""
        shape = (-1, first.shape[-1] if first.ndim > 1 else 1)
        before, after = finite_pair(
            *(side.reshape(shape).astype(np.float64) for side in (first, second))
        )
        if not before.size:
            return
        self.signal += float(np.sum(np.square(before)))
        self.noise += float(np.sum(np.square(after - before)))
        self.energy += float(np.sum(np.square(after)))
        self.product += float(np.sum(before * after))
        self.error = max(self.error, float(np.abs(after - before).max()))
        self.largest = max(self.largest, float(np.abs(before).max()))
        self.count += before.size
        if self.limits is not None:
            low, high, step = self.limits
            # A probability of 1 is a step above the largest code, and is not lost.
            beyond = (before < low - step) | (before > high + step)
            self.beyond += int(np.count_nonzero(beyond))
        ends = np.stack([np.stack([side.min(0), side.max(0)]) for side in (before, after)])
        self._widen(ends)

    def merge(self, other: Tally) -> None:
        """Add what another child has summed."""
        for name in ("signal", "noise", "product", "energy", "count", "beyond"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.error, self.largest = max(self.error, other.error), max(self.largest, other.largest)
        if other.ends is not None:
            self._widen(other.ends)

    def difference(self, match: Match, types: tuple[str, str], n: int) -> OperatorDifference:
        """Return the figures of all samples."""
        norm = np.sqrt(self.signal) * np.sqrt(self.energy)
        same = 1.0 if self.noise == 0 else 0.0
        return OperatorDifference(
            operator=match.operator,
            layer=match.layer,
            tensor=match.tensor,
            types=types,
            sqnr_db=sqnr_db(self.signal, self.noise),
            cosine=float(np.clip(self.product / norm, -1, 1)) if norm else same,
            largest_error=self.error,
            largest_value=self.largest,
            saturated=None if self.limits is None else self.beyond / max(1, self.count),
            dead=self._dead() if n >= MIN_VALUES else 0,
            channels=0 if self.ends is None else self.ends.shape[-1],
            limits=None if self.limits is None else self.limits[:2],
            seen=None
            if self.ends is None
            else (float(self.ends[0, 0].min()), float(self.ends[0, 1].max())),
        )

    def _widen(self, ends: Floats) -> None:
        if self.ends is None:
            self.ends = ends
            return
        self.ends[:, 0] = np.minimum(self.ends[:, 0], ends[:, 0])
        self.ends[:, 1] = np.maximum(self.ends[:, 1], ends[:, 1])

    def _dead(self) -> int:
        """Return how many channels vary in the first model only."""
        if self.ends is None:
            return 0
        (low, high), (least, most) = self.ends
        varies = high - low > OWN_NOISE * np.maximum(np.abs(low), np.abs(high))
        return int(np.count_nonzero(varies & (most == least)))


def compare_layers(
    models: tuple[ModelT, ModelT],
    matches: Sequence[Match],
    samples: Samples,
    rows: NDArray[np.int64],
    *,
    listener: Listener = silent,
) -> list[OperatorDifference]:
    """Run two models on samples, and compare the tensors that belong together.

    Args:
        models: Both, with a batch of 1.
        matches: The tensors.
        samples: Real samples, which either model takes quantized as its inputs ask.
        rows: Which of them are run.
        listener: Progress callback.

    Raises:
        ModelError: One cannot be run.
        DataError: The samples do not fit.
    """
    import ai_edge_litert.interpreter  # noqa: F401  imported before the fork, so once for all

    sides = [
        write(with_outputs(model, (match.indices[side] for match in matches)))
        for side, model in enumerate(models)
    ]
    kinds = [
        tuple(_Kind.of(model.subgraphs[0].tensors[m.indices[s]]) for s, model in enumerate(models))
        for m in matches
    ]
    starts = samples.starts()
    workers = 1 if starts is not None else min(len(os.sched_getaffinity(0)), len(rows))
    done = 0

    def tick(steps: int) -> None:
        nonlocal done
        done += steps
        listener(Progress(stage="comparing operators", done=done, total=len(rows)))

    def share(worker: int) -> list[Tally]:
        tallies = [Tally(second.limits) for _, second in kinds]
        mine = rows[worker::workers]
        loaded = [
            _opened(folder / f"{worker}-{side}.tflite", content, samples)
            for side, content in enumerate(sides)
        ]
        for start in range(0, len(mine), _PIECE):
            piece = mine[start : start + _PIECE]
            batch = samples.read(piece)
            for row, index in enumerate(piece):
                fresh = starts is None or bool(starts[index])
                for model in loaded:
                    _invoke(model, batch, row, fresh=fresh)
                for tally, match, pair in zip(tallies, matches, kinds, strict=True):
                    values = [
                        kind.real(model.interpreter.get_tensor(place))
                        for kind, model, place in zip(pair, loaded, match.indices, strict=True)
                    ]
                    tally.add(*values)
            report(len(piece))
        return tallies

    try:
        # The parent's: a child that is killed removes nothing.
        with temporary_folder() as folder:
            first, *others = spread(share, range(workers), tick=tick)
    except ChildDiedError as death:
        raise ModelError(
            "The runtime died while the models were compared.",
            found=f"the process ended with {death.reason}",
            hint="See which file it is: edgekit bench FILE.",
        ) from death
    for other in others:
        for tally, more in zip(first, other, strict=True):
            tally.merge(more)
    return [
        tally.difference(match, (one.dtype, two.dtype), len(rows))
        for tally, match, (one, two) in zip(first, matches, kinds, strict=True)
    ]


def compare_outputs(
    first: Mapping[str, Array], second: Mapping[str, Array]
) -> list[OperatorDifference]:
    """Compare outputs `[n, ...]` that were computed already, by name, or by order where none fits.

    Raises:
        ModelError: They have other shapes.
    """
    found = []
    for position, (name, values) in enumerate(second.items()):
        other = first.get(name)
        if other is None and len(first) == len(second):
            other = list(first.values())[position]
        if other is None or other.shape != values.shape:
            shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in first.items())
            raise ModelError(
                f"Output {name} {list(values.shape)} has no counterpart.",
                found=f"The first has {shapes}.",
                hint="Give outputs of the same model on the same samples.",
            )
        tally = Tally()
        tally.add(other, values)
        match = Match(operator="", layer=name, tensor=name, indices=(0, 0))
        types = (other.dtype.name, values.dtype.name)
        found.append(tally.difference(match, types, len(values)))
    return found


@dataclass(frozen=True, slots=True)
class _Kind:
    """Type of a tensor, and the parameters of its integers."""

    dtype: str
    scale: float | None
    zero_point: int

    @classmethod
    def of(cls, tensor: TensorT) -> _Kind:
        from edgekit.tflite.graph import DTYPES

        dtype = np.dtype(DTYPES[tensor.type]).name
        told = tensor.quantization
        if told is None or told.scale is None or len(told.scale) != 1:
            return cls(dtype, None, 0)
        zero = 0 if told.zeroPoint is None else int(told.zeroPoint[0])
        return cls(dtype, float(told.scale[0]), zero)

    @property
    def limits(self) -> tuple[float, float, float] | None:
        """Return the least and the largest real value, and the step; None in float."""
        if self.scale is None:
            return None
        ends = np.iinfo(self.dtype)
        low, high = ((end - self.zero_point) * self.scale for end in (ends.min, ends.max))
        return low, high, self.scale

    def real(self, codes: Array) -> Array:
        """Return real values."""
        if self.scale is None:
            return codes
        return (codes.astype(np.float64) - self.zero_point) * self.scale


def _opened(path: Path, content: bytes, samples: Samples) -> LoadedModel:
    path.write_bytes(content)
    model = load_model(
        path, samples.read(np.zeros(1, np.int64)).inputs, state_of(stored_model(str(path)))
    )
    if model.batch != 1:
        raise ModelError(
            f"A model takes {model.batch} samples in one run.", hint="Convert it with batch 1."
        )
    return model


def _invoke(model: LoadedModel, batch: Batch, row: int, *, fresh: bool) -> None:
    if fresh:
        model.reset_state()
    interpreter: Any = model.interpreter
    try:
        for index, spec in model.inputs:
            values = input_of(batch.inputs, spec, model.inputs, model.path)[row : row + 1]
            interpreter.set_tensor(index, encoded(values, spec, 1))
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise ModelError("A model cannot be run.", found=str(error).splitlines()[0]) from error

"""What the inputs of the calibration samples are like, for `edgekit_runner --watch-drift`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluation.codes import decoded, encoded
from edgekit.records import Array, Batch, Listener, Progress, Samples, TensorSpec, silent
from edgekit_runner import TAIL, as_planes, input_statistics

_ROUNDING: Final = 5e-6
"""Largest change, in shares, of a number that is written with six digits."""
_PIECE: Final = 64
_KEPT_BYTES: Final = 64 << 20

Floats = NDArray[np.float64]


class CalibrationInputs:
    """Statistics of the calibration samples as inputs hold them, once for each kind of inputs.

    The runner computes the same of the codes that it feeds: `edgekit_runner.input_statistics`.

    Args:
        samples: The samples; None where there are none.
        listener: Progress callback.
    """

    def __init__(self, samples: Samples | None, listener: Listener = silent) -> None:
        self._samples = samples
        self._listener = listener
        self._read: list[Batch] | None = None
        self._known_ends: dict[str, tuple[Array, Array]] = {}
        self._known: dict[tuple[TensorSpec, ...], dict[str, Any]] = {}

    def described(self, inputs: Sequence[TensorSpec]) -> dict[str, Any] | None:
        """Return what a manifest keeps of them; None without samples.

        Args:
            inputs: The inputs of the file.

        Returns:
            `n`; `rank`; and of each input, by its name, `low`, `high`, `mean` and `std` of every
            channel, and `statistics`: name -> for each channel the `rank`-th least value of all
            samples, the median, and the `rank`-th largest.
        """
        specs, samples = tuple(inputs), self._samples
        if samples is None:
            return None
        if specs not in self._known:
            rank = max(1, round(TAIL * (samples.n + 1)))
            told = {spec.name: self._of_input(samples, spec, rank) for spec in specs}
            self._known[specs] = {"n": samples.n, "rank": rank, "inputs": told}
        return self._known[specs]

    def _of_input(self, samples: Samples, spec: TensorSpec, rank: int) -> dict[str, Any]:
        low, high = (_held(ends, spec) for ends in self._ends(samples, spec))
        found = [input_statistics(values, low, high) for values in self._rows(samples, spec)]
        columns = {name: np.stack([one[name] for one in found]) for name in found[0]}
        means = columns["mean"]
        within = columns.get("deviation", np.zeros_like(means))
        return {
            # Unrounded: values at the ends are counted by them.
            "low": low.tolist(),
            "high": high.tolist(),
            "mean": [_rounded(value) for value in means.mean(0)],
            "std": [_rounded(value) for value in np.sqrt(means.var(0) + np.mean(within**2, 0))],
            "statistics": {
                name: [_limits(column, rank) for column in values.T]
                for name, values in columns.items()
            },
        }

    def _ends(self, samples: Samples, spec: TensorSpec) -> tuple[Array, Array]:
        """Return the least and largest value of each channel as samples have it, in their type."""
        if spec.name not in self._known_ends:
            lows, highs = [], []
            for batch in self._batches(samples):
                values = batch.inputs[spec.name]
                for one in _shaped(values, spec):
                    flat = (planes := as_planes(one)).reshape(len(planes), -1)
                    lows.append(flat.min(1))
                    highs.append(flat.max(1))
            ends = np.min(lows, 0), np.max(highs, 0)
            self._known_ends[spec.name] = tuple(end.astype(values.dtype) for end in ends)
        return self._known_ends[spec.name]

    def _rows(self, samples: Samples, spec: TensorSpec) -> Iterator[Array]:
        """Yield the real values that an input holds of each sample, in the input's shape."""
        done = 0
        for batch in self._batches(samples):
            values = batch.inputs[spec.name]
            for row in range(len(values)):  # one by one, so that they stay in the cache
                yield _shaped(_held(values[row : row + 1], spec), spec)[0]
            done += len(values)
            self._listener(Progress(stage="describing inputs", done=done, total=samples.n))

    def _batches(self, samples: Samples) -> Iterator[Batch]:
        """Yield all samples; they are kept where they are small, for pictures take long to read."""
        if self._read is not None:
            yield from self._read
            return
        kept: list[Batch] = []
        for batch in samples.batches(_PIECE):
            one = sum(values[:1].nbytes for values in batch.inputs.values())
            if one * samples.n <= _KEPT_BYTES:
                kept.append(batch)
            yield batch
        self._read = kept or None


def _held(values: Array, spec: TensorSpec) -> Array:
    """Return the real values that an input holds of these; their order remains."""
    return decoded(encoded(values, spec, 1), spec)


def _shaped(values: Array, spec: TensorSpec) -> Array:
    """Return samples in the shape of an input, unless one of its sizes is free."""
    shape = spec.shape[1:]
    fits = math.prod(shape) == math.prod(values.shape[1:])
    return values.reshape(len(values), *shape) if fits else values


def _limits(values: Floats, rank: int) -> list[float]:
    ordered = np.sort(values)
    low, high = float(ordered[rank - 1]), float(ordered[-rank])
    # Away from the samples within: what is equal to a limit is not beyond it.
    return [
        _rounded(low - _ROUNDING * abs(low)),
        _rounded(float(np.median(ordered))),
        _rounded(high + _ROUNDING * abs(high)),
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.5e}")

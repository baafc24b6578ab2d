"""What the inputs of the calibration samples are like, for `edgekit_runner --watch-drift`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluation.codes import decoded, encoded
from edgekit.records import Array, Batch, Listener, Progress, Samples, TensorSpec, silent
from edgekit_runner import TAIL, as_channels, input_statistics

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
        moments: list[Floats] = []
        for values in self._rows(samples, spec):
            grid = as_channels(values)
            flat = grid.reshape(-1, grid.shape[-1])
            moments.append(np.stack([flat.min(0), flat.max(0), flat.mean(0), flat.var(0)]))
        lows, highs, means, variances = np.stack(moments, axis=1)
        low, high = lows.min(0), highs.max(0)
        found = [input_statistics(values, low, high) for values in self._rows(samples, spec)]
        return {
            # Unrounded: values at the ends are counted by them.
            "low": low.tolist(),
            "high": high.tolist(),
            "mean": [_rounded(value) for value in means.mean(0)],
            "std": [_rounded(value) for value in np.sqrt(means.var(0) + variances.mean(0))],
            "statistics": {
                name: [_limits(column, rank) for column in np.stack([one[name] for one in found]).T]
                for name in found[0]
            },
        }

    def _rows(self, samples: Samples, spec: TensorSpec) -> Iterator[Array]:
        """Yield the real values that an input holds of each sample, in the input's shape."""
        shape, done = spec.shape[1:], 0
        for batch in self._batches(samples):
            values = decoded(encoded(batch.inputs[spec.name], spec, 1), spec)
            fits = math.prod(shape) == math.prod(values.shape[1:])  # else a size is free
            yield from values.reshape(len(values), *shape) if fits else values
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

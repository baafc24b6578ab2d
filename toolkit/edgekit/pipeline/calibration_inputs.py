"""What the inputs of the calibration samples are like, for `edgekit_runner --watch-drift`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluation.codes import decoded, encoded
from edgekit.isolate import Background, report, spread
from edgekit.modes import MODES
from edgekit.quantization import out_of_line
from edgekit.records import (
    Array,
    Batch,
    Dataset,
    Listener,
    Plan,
    Progress,
    Samples,
    TensorSpec,
    silent,
)
from edgekit_runner import TAIL, as_planes, input_statistics

_ROUNDING: Final = 5e-6
"""Largest change, in shares, of a number that is written with six digits."""
_PIECE: Final = 64
_KEPT_BYTES: Final = 64 << 20

R = TypeVar("R")
Floats = NDArray[np.float64]


class CalibrationInputs:
    """The calibration samples, and their statistics, once for each kind of inputs that hold them.

    The runner computes the same of the codes that it feeds: `edgekit_runner.input_statistics`.

    Args:
        samples: The samples; None where there are none.
        listener: Progress callback.
        dropped: Numbers of the training samples that are not among them.

    Attributes:
        samples: As given.
        dropped: As given.
    """

    def __init__(
        self,
        samples: Samples | None,
        listener: Listener = silent,
        *,
        dropped: Sequence[int] = (),
    ) -> None:
        self.samples = samples
        self.dropped = dropped
        self._listener = listener
        self._read: list[Batch] | None = None
        self._known_ends: dict[str, tuple[Array, Array]] = {}
        self._known: dict[tuple[TensorSpec, ...], dict[str, Any]] = {}
        self._begun: dict[tuple[TensorSpec, ...], Callable[[], dict[str, Any] | None]] = {}

    @classmethod
    def of(
        cls, dataset: Dataset | None, plans: Sequence[Plan], listener: Listener = silent
    ) -> CalibrationInputs:
        """Return those of a dataset that calibrate variants.

        Where ranges are chosen, samples whose values are far beyond those of the others are left
        out.
        """
        samples = None if dataset is None else dataset.calibrate
        if samples is None or not any(MODES[plan.mode].chooses for plan in plans):
            return cls(samples, listener)
        outside = out_of_line(samples)
        index = getattr(samples.read, "index", np.arange(samples.n))
        return cls(
            samples.at(np.setdiff1d(np.arange(samples.n), outside)),
            listener,
            dropped=sorted(int(index[row]) for row in outside),
        )

    def described(self, inputs: Sequence[TensorSpec]) -> dict[str, Any] | None:
        """Return what a manifest keeps of them; None without samples.

        Args:
            inputs: The inputs of the file.

        Returns:
            `n`; `rank`; and of each input, by its name, `low`, `high`, `mean` and `std` of every
            channel, and `statistics`: name -> for each channel the `rank`-th least value of all
            samples, the median, and the `rank`-th largest.
        """
        return self._described(tuple(inputs), alone=False)

    def start(
        self, inputs: Sequence[TensorSpec], background: Background
    ) -> Callable[[], dict[str, Any] | None]:
        """Begin what `described` does; the returned function waits for it."""
        specs = tuple(inputs)
        if self.samples is None or self._kept(self.samples) or specs in self._known:
            return partial(self.described, specs)
        if specs not in self._begun:
            found = background.start(partial(self._described, specs, alone=True))
            self._begun[specs] = cache(found)
        return self._begun[specs]

    def _described(self, specs: tuple[TensorSpec, ...], *, alone: bool) -> dict[str, Any] | None:
        """As `described`; alone without further processes."""
        samples = self.samples
        if samples is None:
            return None
        if specs not in self._known:
            rank = max(1, round(TAIL * (samples.n + 1)))
            told = {spec.name: self._of_input(samples, spec, rank, alone=alone) for spec in specs}
            self._known[specs] = {"n": samples.n, "rank": rank, "inputs": told}
        return self._known[specs]

    def _of_input(
        self, samples: Samples, spec: TensorSpec, rank: int, *, alone: bool
    ) -> dict[str, Any]:
        low, high = (_held(ends, spec) for ends in self._ends(samples, spec, alone=alone))
        found = self._of_each(
            samples,
            spec,
            # In the input's shape, for which channels count.
            lambda one: input_statistics(_shaped(_held(one[None], spec), spec)[0], low, high),
            alone=alone,
        )
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

    def _ends(self, samples: Samples, spec: TensorSpec, *, alone: bool) -> tuple[Array, Array]:
        """Return the least and largest value of each channel as samples have it, in their type."""
        if spec.name not in self._known_ends:
            ends = self._of_each(
                samples, spec, lambda one: _ends_of(_shaped(one[None], spec)[0]), alone=alone
            )
            lows, highs = zip(*ends, strict=True)
            self._known_ends[spec.name] = np.min(lows, 0), np.max(highs, 0)
        return self._known_ends[spec.name]

    def _of_each(
        self, samples: Samples, spec: TensorSpec, told: Callable[[Array], R], *, alone: bool
    ) -> list[R]:
        """Return `told(values)` for what each sample holds for an input, in order.

        Of large data each core reads and describes a part.
        """
        if kept := self._kept(samples):
            return [told(one) for batch in kept for one in batch.inputs[spec.name]]
        done = 0

        def tick(steps: int) -> None:
            nonlocal done
            done += steps
            self._listener(Progress(stage="describing inputs", done=done, total=samples.n))

        def share(rows: NDArray[np.int64]) -> list[R]:
            os.nice(5)  # TensorFlow, which lowers the model meanwhile, goes first
            found = []
            for start in range(0, len(rows), _PIECE):
                piece = rows[start : start + _PIECE]
                # One by one, so that they stay in the cache.
                found += [told(one) for one in samples.read(piece).inputs[spec.name]]
                if not alone:
                    report(len(piece))
            return found

        if alone:
            return share(np.arange(samples.n))
        cores = min(len(os.sched_getaffinity(0)), samples.n)
        parts = spread(share, np.array_split(np.arange(samples.n), cores), tick=tick)
        return [found for part in parts for found in part]

    def _kept(self, samples: Samples) -> list[Batch]:
        """Return all samples of small data, read once, for pictures take long; of others none."""
        if self._read is None:
            one = samples.read(np.zeros(1, np.int64)).inputs.values()
            small = sum(values.nbytes for values in one) * samples.n <= _KEPT_BYTES
            self._read = list(samples.batches(_PIECE)) if small else []
        return self._read


def _ends_of(one: Array) -> tuple[Array, Array]:
    """Return the least and largest value of each channel, in the type of the values."""
    flat = (planes := as_planes(one)).reshape(len(planes), -1)
    return flat.min(1).astype(one.dtype), flat.max(1).astype(one.dtype)


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

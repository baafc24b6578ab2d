"""What calibration keeps of the values of each tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ConversionError
from edgekit.numerics import Histogram
from edgekit.numerics.ranges import BINS

# Values of a tensor that a sample adds to its histogram; larger tensors are subsampled.
_HISTOGRAM_VALUES: Final = 16384


class Extremes:
    """Return the smallest and largest value of each observed tensor, `[tensors]` each.

    Args:
        names: Names of the tensors.
        limits: Position of a tensor -> what none of its values is below or above.
    """

    def __init__(
        self, names: Sequence[str], limits: Mapping[int, tuple[float, float]] | None = None
    ) -> None:
        self.low = np.full(len(names), np.inf, np.float32)
        self.high = np.full(len(names), -np.inf, np.float32)
        ends = [(limits or {}).get(place, (-np.inf, np.inf)) for place in range(len(names))]
        self.limits = np.array(ends, np.float32).reshape(-1, 2)

    def add(self, position: int, values: NDArray[np.float32]) -> None:
        """Add what the tensor at `position` of the names holds for a sample."""
        least, most = self.limits[position]
        # numpy's minimum and maximum propagate NaN, which a comparison would lose. An end that is
        # reached needs no further look: most activations are those of a ReLU, and large.
        if self.low[position] > least:
            self.low[position] = np.minimum(self.low[position], values.min())
        if self.high[position] < most:
            self.high[position] = np.maximum(self.high[position], values.max())

    def merge(self, other: Extremes) -> None:
        """Add what another process saw."""
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)

    def ends(self, names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
        """Return ranges by tensor name; a name that occurs twice gets the union of the ranges."""
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        for position, name in enumerate(names):
            if not (np.isfinite(self.low[position]) and np.isfinite(self.high[position])):
                raise ConversionError(
                    f"The float model computes NaN or infinity in {name.split(';')[0]}.",
                    found=f"values from {self.low[position]} to {self.high[position]}",
                    hint="Check the samples and the model's weights.",
                )
            low[name] = min(float(self.low[position]), low.get(name, np.inf))
            high[name] = max(float(self.high[position]), high.get(name, -np.inf))
        return low, high


class Tallies:
    """Return a histogram of each observed tensor, between known limits."""

    def __init__(
        self, names: Sequence[str], low: Mapping[str, float], high: Mapping[str, float]
    ) -> None:
        self.names = names
        self.low, self.high = low, high
        self.counts = np.zeros((len(self.names), BINS), np.int64)
        self.seen = [0] * len(self.names)

    def add(self, position: int, values: NDArray[np.float32]) -> None:
        """Add what the tensor at `position` of the names holds for a sample."""
        name = self.names[position]
        width = self.high[name] - self.low[name]
        flat = values.reshape(-1)
        # The start varies by sample, so that a stride that divides the number of channels still
        # covers all of them.
        stride = -(-flat.size // _HISTOGRAM_VALUES)
        flat = flat[self.seen[position] % stride :: stride]
        self.seen[position] += 1
        bins = ((flat - self.low[name]) * (BINS / width if width else 0.0)).astype(np.int32)
        np.minimum(bins, BINS - 1, out=bins)
        self.counts[position] += np.bincount(bins, minlength=BINS)

    def merge(self, other: Tallies) -> None:
        """Add what another process saw."""
        self.counts += other.counts

    def histograms(self) -> dict[str, Histogram]:
        """Return the histogram of each tensor, by name."""
        return {
            name: Histogram(low=self.low[name], high=self.high[name], counts=counts)
            for name, counts in zip(self.names, self.counts, strict=True)
        }


class Channels:
    """Return the smallest and largest value of every channel, the last axis, of chosen tensors."""

    def __init__(self, names: Sequence[str], chosen: frozenset[str]) -> None:
        self.names, self.chosen = names, chosen
        self.ends: dict[str, NDArray[np.float32]] = {}

    def add(self, position: int, values: NDArray[np.float32]) -> None:
        """Add what the tensor at `position` of the names holds for a sample."""
        name = self.names[position]
        if name in self.chosen:
            channels = values.reshape(-1, values.shape[-1])
            self._widen(name, np.stack([channels.min(axis=0), channels.max(axis=0)]))

    def merge(self, other: Channels) -> None:
        """Add what another process saw."""
        for name, seen in other.ends.items():
            self._widen(name, seen)

    def _widen(self, name: str, seen: NDArray[np.float32]) -> None:
        known = self.ends.get(name, seen)
        low, high = np.minimum(known[0], seen[0]), np.maximum(known[1], seen[1])
        self.ends[name] = np.stack([low, high])

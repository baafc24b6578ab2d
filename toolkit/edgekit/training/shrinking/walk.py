"""State of tracing the channels of a model, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from edgekit.records import Array

Role = Literal["kernel", "filters", "scale", "bias", "divisor", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One variable, and the channels along its axes.

    Attributes:
        layer: Path of its layer.
        variable: The Keras variable.
        role: `filters` is a kernel whose axis `made` defines new channels, `kernel` one that only
            reads or scales channels, `scale` and `bias` the factor and the summand of each channel,
            `divisor` a value that a masked channel must keep (a variance).
        axes: Axis -> `[size]` channels along it; axes without channels are left out.
        made: The axis that defines new channels, for `filters`.
        macs: Multiply-accumulates of each element, per sample.
    """

    layer: str
    variable: Any
    role: Role
    axes: Mapping[int, Array]
    made: int | None = None
    macs: int = 0


@dataclass(slots=True)
class Walk:
    """State of the trace; the rules of `layers` update it.

    Attributes:
        parents: Union-find forest: channel -> an equivalent channel, or itself.
        frozen: Channel -> why it must not be removed.
        weights: Identity of a variable -> its record.
        calls: Identity of a layer with weights -> channels in and out at its first call.
        outputs: As in `ChannelGraph`.
        widths: As in `ChannelGraph`.
        entries: As in `ChannelGraph`, at the first call.
        layers: As in `ChannelGraph`.
    """

    parents: list[int] = field(default_factory=list)
    frozen: dict[int, str] = field(default_factory=dict)
    weights: dict[int, Weight] = field(default_factory=dict)
    calls: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    widths: dict[int, dict[str, Array]] = field(default_factory=dict)
    entries: dict[int, tuple[Array, ...]] = field(default_factory=dict)
    layers: dict[int, str] = field(default_factory=dict)

    def make(self, count: int) -> Array:
        """Return `[count]` new channels."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, channel: int) -> int:
        """Return the representative of a channel's equivalence class."""
        while self.parents[channel] != channel:
            self.parents[channel] = channel = self.parents[self.parents[channel]]
        return channel

    def tie(self, left: Array, right: Array) -> None:
        """Merge `left[i]` with `right[i]`, for every i."""
        for one, other in np.unique(np.stack([left, right], axis=1), axis=0).tolist():
            first, second = sorted((self.root(one), self.root(other)))
            self.parents[second] = first

    def freeze(self, channels: Array, reason: str) -> None:
        """Mark channels as not removable."""
        for channel in np.unique(channels).tolist():
            self.frozen.setdefault(channel, reason)

    def add(self, weight: Weight) -> None:
        """Record a variable; a second call of its layer only adds multiply-accumulates."""
        known = self.weights.get(id(weight.variable))
        macs = weight.macs + (known.macs if known else 0)
        self.weights[id(weight.variable)] = replace(known or weight, macs=macs)

    def resolved(self, channels: Array) -> Array:
        """Return the representative of each channel's equivalence class."""
        return np.array([self.root(channel) for channel in channels.tolist()], np.int64)

"""Which channels of a functional Keras model must be cut together.

Every position on the last axis of every tensor carries the number of a channel. A layer with
weights makes new numbers, a pooling hands them on, a flattening repeats them, an addition declares
the numbers of its operands to be one (union-find). What remains are classes of positions that live
or die together. Fang et al., "DepGraph: towards any structural pruning", arXiv 2301.12900, solve
the same task with a graph of layers; numbers on positions need no case for offsets and blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import Array
from edgekit.training.kernels import means

Role = Literal["kernel", "filters", "scale", "bias", "divisor", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One variable and what its axes count.

    Attributes:
        layer: Path of its layer.
        variable: The Keras variable.
        role: `filters` is a kernel whose last-named axis makes new channels, `kernel` one that
            only reads or scales channels, `scale` and `bias` the factor and the summand of each
            channel, `divisor` what a masked channel must keep (a variance).
        axes: Axis -> `[size]` channels along it; axes that count no channels are left out.
        made: The axis that makes channels, for `filters`.
        macs: Multiply-accumulates of each element, per sample.
    """

    layer: str
    variable: Any
    role: Role
    axes: Mapping[int, Array]
    made: int | None = None
    macs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Channels made by the same layers; they compete with each other, and one always stays.

    Attributes:
        layers: Paths of the layers whose filters make them.
        channels: `[n]` numbers of those that may be cut.
        fixed: How many more there are that may not.
    """

    layers: tuple[str, ...]
    channels: Array
    fixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGraph:
    """A model seen as channels.

    Attributes:
        weights: Every variable of the model.
        outputs: Path of each layer with weights that is followed -> `[c]` channels it puts out.
        widths: Identity of a layer -> the key of its configuration that holds its width, and the
            channels to be counted for it.
        entries: Identity of a nested model -> the channels that enter each of its inputs.
        layers: Identity of a layer -> its path.
        families: What may be cut.
        kept_whole: Path of each layer that makes channels none of which may be cut -> why.
    """

    weights: tuple[Weight, ...]
    outputs: Mapping[str, Array]
    widths: Mapping[int, tuple[str, Array]]
    entries: Mapping[int, tuple[Array, ...]]
    layers: Mapping[int, str]
    families: tuple[Family, ...]
    kept_whole: Mapping[str, str]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample, of convolutions and dense layers."""
        return sum(weight.macs * math.prod(weight.variable.shape) for weight in self.weights)

    @property
    def parameters(self) -> int:
        """Number of weights, those that are not trained included."""
        return sum(math.prod(weight.variable.shape) for weight in self.weights)


@dataclass(slots=True)
class Walk:
    """What is known while the graph is walked; the rules of `layers` write here.

    Attributes:
        parents: Union-find: channel -> a channel it is one with, or itself.
        frozen: Channel -> why it may not be cut.
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
    widths: dict[int, tuple[str, Array]] = field(default_factory=dict)
    entries: dict[int, tuple[Array, ...]] = field(default_factory=dict)
    layers: dict[int, str] = field(default_factory=dict)

    def make(self, count: int) -> Array:
        """`[count]` new channels."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, channel: int) -> int:
        """The channel that stands for the class of this one."""
        while self.parents[channel] != channel:
            self.parents[channel] = channel = self.parents[self.parents[channel]]
        return channel

    def tie(self, left: Array, right: Array) -> None:
        """`left[i]` and `right[i]` are one from now on."""
        for one, other in np.unique(np.stack([left, right], axis=1), axis=0).tolist():
            first, second = sorted((self.root(one), self.root(other)))
            self.parents[second] = first

    def freeze(self, channels: Array, reason: str) -> None:
        """Never cut these."""
        for channel in np.unique(channels).tolist():
            self.frozen.setdefault(channel, reason)

    def add(self, weight: Weight) -> None:
        """Note a variable; at a layer's second call only its multiply-accumulates grow."""
        known = self.weights.get(id(weight.variable))
        macs = weight.macs + (known.macs if known else 0)
        self.weights[id(weight.variable)] = replace(known or weight, macs=macs)

    def resolved(self, channels: Array) -> Array:
        """Each channel's class."""
        return np.array([self.root(channel) for channel in channels.tolist()], np.int64)


def trace(model: Any, *, exclude: Sequence[str] = ()) -> ChannelGraph:
    """Follow the channels through a functional or sequential Keras model.

    Args:
        model: A built `keras.Model`, each shape fixed but for the batch.
        exclude: Names, or regular expressions for whole names, of layers to keep whole; a nested
            model's layers are `model/layer`.

    Raises:
        ModelError: A subclassed model, or one without fixed shapes.
    """
    import keras

    from edgekit.training.shrinking.layers import follow

    functional = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if not functional or not model.built:
        raise ModelError(
            f"The channels of {model.name!r} cannot be followed.",
            found=f"It is a {type(model).__name__}"
            + (" that is not built." if functional else ", a subclassed model without a graph."),
            hint="Give a functional or sequential Keras model with a fixed input shape"
            + ("." if functional else ", or prune or cluster this one: neither needs a graph."),
        )
    walk = Walk()
    incoming = []
    for tensor in model.inputs:
        channels = walk.make(tensor.shape[-1] if len(tensor.shape) > 1 else 1)
        walk.freeze(channels, "is tied to an input of the model")
        incoming.append(channels)
    for channels in follow(walk, model, incoming, prefix=""):
        # the plainest reason of all, whatever else was found on the way
        walk.frozen |= dict.fromkeys(channels.tolist(), "feeds an output of the model")
    for path, channels in walk.outputs.items():
        if any(means(name, path) for name in exclude):
            walk.freeze(channels, "was excluded by name")
    return _resolve(walk)


def _resolve(walk: Walk) -> ChannelGraph:
    frozen: dict[int, str] = {}
    for channel, reason in walk.frozen.items():
        frozen.setdefault(walk.root(channel), reason)
    weights = tuple(
        replace(weight, axes={axis: walk.resolved(row) for axis, row in weight.axes.items()})
        for weight in walk.weights.values()
    )
    makers: dict[int, dict[str, None]] = {}
    for weight in weights:
        if weight.made is not None:
            for channel in weight.axes[weight.made].tolist():
                makers.setdefault(channel, {})[weight.layer] = None
    members: dict[tuple[str, ...], list[int]] = {}
    for channel, layers in makers.items():
        members.setdefault(tuple(layers), []).append(channel)
    families, whole = [], {}
    for together, channels in members.items():
        free = [channel for channel in channels if channel not in frozen]
        if len(channels) > 1 and free:
            fixed = len(channels) - len(free)
            families.append(Family(layers=together, channels=np.array(free), fixed=fixed))
        else:
            reason = frozen.get(channels[0], "has a single channel")
            whole.update(dict.fromkeys(together, reason))
    partly = {layer for family in families for layer in family.layers}
    return ChannelGraph(
        weights=weights,
        outputs={path: walk.resolved(row) for path, row in walk.outputs.items()},
        widths={key: (name, walk.resolved(row)) for key, (name, row) in walk.widths.items()},
        entries={key: tuple(map(walk.resolved, rows)) for key, rows in walk.entries.items()},
        layers=walk.layers,
        families=tuple(families),
        kept_whole={path: reason for path, reason in whole.items() if path not in partly},
    )

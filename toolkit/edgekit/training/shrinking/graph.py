"""Find which channels of a functional Keras model must be removed together.

Every position on the last axis of every tensor carries a channel number. A layer with weights
creates new numbers, a pooling passes them on, a flattening repeats them, an addition merges the
numbers of its operands (union-find). The resulting classes are channels that can only be removed
together. Fang et al., "DepGraph: towards any structural pruning", arXiv 2301.12900, solve the same
task with a graph of layers; numbers on positions need no special case for offsets and blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import Array
from edgekit.training.kernels import means
from edgekit.training.shrinking.layers import follow
from edgekit.training.shrinking.walk import Walk, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Channels computed by the same layers; ranked against each other, and at least one remains.

    Attributes:
        layers: Paths of the layers whose filters compute them.
        channels: `[n]` numbers of those that may be removed.
        fixed: Number of further channels that must not be removed.
    """

    layers: tuple[str, ...]
    channels: Array
    fixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGraph:
    """The channels of a model, and the weights that compute and read them.

    Attributes:
        weights: Every variable of the model.
        outputs: Path of each traced layer with weights -> `[c]` output channels.
        widths: Identity of a layer -> each key of its configuration that holds a number of
            channels -> those channels.
        entries: Identity of a nested model -> the channels that enter each of its inputs.
        layers: Identity of a layer -> its path.
        families: Groups of channels that may be removed.
        kept_whole: Path of each layer none of whose output channels may be removed -> why.
    """

    weights: tuple[Weight, ...]
    outputs: Mapping[str, Array]
    widths: Mapping[int, Mapping[str, Array]]
    entries: Mapping[int, tuple[Array, ...]]
    layers: Mapping[int, str]
    families: tuple[Family, ...]
    kept_whole: Mapping[str, str]

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates per sample, of convolutions and dense layers."""
        return sum(weight.macs * math.prod(weight.variable.shape) for weight in self.weights)

    @property
    def parameters(self) -> int:
        """Return the number of weights, those that are not trained included."""
        return sum(math.prod(weight.variable.shape) for weight in self.weights)


def trace(model: Any, *, exclude: Sequence[str] = ()) -> ChannelGraph:
    """Trace the channels through a functional or sequential Keras model.

    Args:
        model: A built `keras.Model` with fixed shapes, apart from the batch.
        exclude: Names, or regular expressions for whole names, of layers to keep whole; a nested
            model's layers are `model/layer`.

    Raises:
        ModelError: A subclassed model, or one without fixed shapes.
    """
    import keras

    functional = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if not functional or not model.built:
        raise ModelError(
            f"The channels of {model.name!r} cannot be traced.",
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
        # reported in preference to any other reason
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
        widths={
            key: {name: walk.resolved(row) for name, row in rows.items()}
            for key, rows in walk.widths.items()
        },
        entries={key: tuple(map(walk.resolved, rows)) for key, rows in walk.entries.items()},
        layers=walk.layers,
        families=tuple(families),
        kept_whole={path: reason for path, reason in whole.items() if path not in partly},
    )

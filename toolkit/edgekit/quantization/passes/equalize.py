"""Equalize the ranges of channels across consecutive layers.

A factor per channel moves from one layer's weights to the next one's, through operators that are
positively homogeneous, so that one wide channel no longer takes the codes of the others: Nagel et
al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721), equations 9 to 11. There the ranges of a layer's own weights are equalized with
those of the next; TFLite has a scale for every output channel, so that these matter little, and
activations have one for all. Where they were observed, their ranges are equalized with the next
layer's weights instead, as in Xiao et al. 2023, "SmoothQuant" (arXiv 2211.10438), equation 4.

Layers with a fused ReLU6 are left alone, for it clips every channel at 6; so are channels that
something else reads, such as an addition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.fold_normalization import scale_reached
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.quantization.passes.layers import (
    NO_ACTIVATION,
    RELU,
    ChannelGraph,
    Floats,
    Layer,
)
from edgekit.quantization.passes.reach import Reached, reach_of_factors
from edgekit.quantization.rules import ruled_otherwise
from edgekit.tflite.graph import clone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan

# Beyond these, float32 sums would lose digits.
_LARGEST: Final = 1e4


def equalize(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Rescale channels between layers; outputs do not change.

    Args:
        model: A float graph; it is not changed.
        observed: The ends of every channel, where these were observed; else the magnitudes of the
            weights count.
        settings: Operators that a rule of the plan names are not changed.
    """
    changed = clone(model)
    graph = ChannelGraph(changed, ruled_otherwise(settings, model))
    rescaled = False
    for layer, reached in _groups(graph):
        factors = _factors(graph, layer, reached, observed)
        if np.allclose(factors, 1.0, atol=1e-3):
            continue
        layer.scale_outputs(np.float32(1) / factors)
        scale_reached(graph, reached, factors)
        rescaled = True
    return drop_unused(changed, observed, settings) if rescaled else model


def equalizable(model: ModelT, settings: Plan) -> tuple[str, ...]:
    """Return the names of the tensors whose channels `equalize` can rescale.

    Args:
        model: A float graph.
        settings: Its rules name what is not changed.
    """
    graph = ChannelGraph(clone(model), ruled_otherwise(settings, model))
    return tuple(graph.graph.tensors[_read(reached)].name for _, reached in _groups(graph))


EQUALIZE: Final = GraphPass(
    name="equalize",
    meaning="Equalize the ranges of channels across consecutive layers.",
    apply=equalize,
    moves_activations=True,
)


def _groups(graph: ChannelGraph) -> list[tuple[Layer, Reached]]:
    """Return the layers whose output channels can be rescaled, and what has to make up for it."""
    found = []
    for layer in graph.layers():
        if layer.activation not in (NO_ACTIVATION, RELU) or not layer.rewritable:
            continue
        reached = reach_of_factors(graph, layer.output, positive=True, shifts=True)
        if reached is not None and graph.channels(layer.output) == layer.outputs:
            found.append((layer, reached))
    return found


def _factors(graph: ChannelGraph, layer: Layer, reached: Reached, observed: Observed) -> Floats:
    """Return what each channel is divided by, `[channels]`: 1 where it, or its reader, is zero."""
    channels = layer.outputs
    seen = observed.channels.get(graph.graph.tensors[_read(reached)].name)
    written = layer.largest_by_output()
    if seen is not None:
        written = np.abs(seen).reshape(-1, channels).max(axis=0)
    read = np.max([end.largest_by_input(channels) for end in reached.ends], axis=0)
    # The weights of depthwise layers have a scale for each channel: they take any factor.
    free = seen is not None and all(end.axis == 3 for end in reached.ends)
    share = 1.0 if free else 0.5
    used = (written > 0) & (read > 0)
    factors = np.ones(channels)
    if used.any():
        exact = written[used].astype(np.float64) ** share / read[used] ** (1 - share)
        exact /= np.exp(np.log(exact).mean())
        factors[used] = np.clip(exact, 1 / _LARGEST, _LARGEST)
    return factors.astype(np.float32)


def _read(reached: Reached) -> int:
    """Return the tensor of a group that the first of its layers reads."""
    return int(reached.ends[0].op.inputs[0])

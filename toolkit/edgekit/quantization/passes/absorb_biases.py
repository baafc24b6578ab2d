"""Move offsets of channels from a layer's bias into the biases of the layers that read it.

Where a channel is never below c after its ReLU, on no sample, `relu(x) = relu(x - c) + c`: c is
taken from its bias, and what the readers make of it, `W c`, is added to theirs, so that the channel
needs no codes from 0 to c: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction" (arXiv 1906.04721), section 4.1.3, equations 13 to 15. There c is three
standard deviations below the mean of a normalization; here it is the smallest value of all samples,
so that outputs do not change on any of them. Channels without an activation are centred about 0,
which changes no output whatever the input.

It matters where the widest channel of a tensor has such an offset, for a tensor has one range for
all channels: tensors whose range would not be narrower by a tenth are left as they are. So are
those that a padded convolution reads, whose zeros at the border are no channel's offset, those that
something else reads, such as an addition, and layers with ReLU6, for it clips every channel at 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.errors import ConversionError
from edgekit.quantization.observe import observe_channels
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.quantization.passes.layers import NO_ACTIVATION, RELU, ChannelGraph, Floats, Layer
from edgekit.quantization.passes.reach import Reached, reach_of_shift
from edgekit.quantization.rules import ruled_otherwise
from edgekit.tflite.graph import clone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan

# A tensor's range must become narrower by a tenth, which is a decibel.
_NARROWER: Final = 0.9


def absorb_biases(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Return a graph whose channels begin at 0; outputs do not change on the samples.

    Args:
        model: A float graph; it is not changed.
        observed: The samples.
        settings: Operators that a rule of the plan names are not changed.

    Raises:
        ConversionError: There are no samples.
    """
    if observed.samples is None:
        raise ConversionError(
            "Biases cannot be absorbed: the ranges of this model were trained.",
            hint=f"Drop {ABSORB_BIASES.name} from the passes.",
        )
    graph = ChannelGraph(clone(model), ruled_otherwise(settings, model))
    groups = {graph.graph.tensors[layer.output].name: (layer, to) for layer, to in _groups(graph)}
    if not groups:
        return model
    ends = observe_channels(model, observed.samples, groups.keys()).channels
    absorbed = False
    for name, (layer, reached) in groups.items():
        shift = _shift(layer, *ends[name])
        if shift is None:
            continue
        layer.add(-shift)
        for end in reached.ends:
            end.add(end.response(shift))
        absorbed = True
    return graph.model if absorbed else model


ABSORB_BIASES: Final = GraphPass(
    name="absorb_biases",
    meaning="Move offsets of channels into the biases of the layers that read them.",
    apply=absorb_biases,
    observes=True,
    moves_activations=True,
)


def _groups(graph: ChannelGraph) -> list[tuple[Layer, Reached]]:
    """Return the layers whose output channels can be shifted, and what has to make up for it."""
    found = []
    for layer in graph.layers():
        if layer.activation not in (NO_ACTIVATION, RELU) or not layer.rewritable:
            continue
        reached = reach_of_shift(graph, layer.output) if layer.can_add() else None
        if reached is not None and graph.channels(layer.output) == layer.outputs:
            found.append((layer, reached))
    return found


def _shift(layer: Layer, low: Floats, high: Floats) -> Floats | None:
    """Return what is taken from each channel, `[channels]`; None where that gains too little."""
    shift = low if layer.activation == RELU else ((low + high) / 2).astype(np.float32)
    narrowed = _width(low - shift, high - shift)
    return shift if narrowed < _NARROWER * _width(low, high) else None


def _width(low: Floats, high: Floats) -> float:
    """Return the width of the range that holds all channels, and 0."""
    return float(max(high.max(), 0) - min(low.min(), 0))

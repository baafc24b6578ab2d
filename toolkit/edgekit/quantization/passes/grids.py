"""The codes that the weights of a float graph will get, and what weights they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.modes import DYNAMIC, INT4, INT8, MODES
from edgekit.numerics import dequantize
from edgekit.quantization.passes.layers import ChannelGraph, Floats
from edgekit.quantization.rules import modes_of
from edgekit.quantization.writer.constants import weight_codes, weight_scales
from edgekit.quantization.writer.write import takes_int4
from edgekit.records import Array, Plan
from edgekit.tflite.nodes import nodes
from edgekit.tflite.weights import dynamic_storages, int4_storages

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class Grid:
    """The codes that a layer's weights get.

    Attributes:
        bits: Their width.
        axis: The axis of the channels; None where there is a single scale.
    """

    bits: int
    axis: int | None

    def scales(self, weights: Array) -> Floats:
        """Return the scales that weights get, `[channels]` or `[1]`."""
        return weight_scales(weights, self.axis, self.bits)

    def stored(self, weights: Array) -> Floats:
        """Return what is left of weights after they were rounded."""
        scales = self.scales(weights)
        codes = weight_codes(weights, scales, self.axis, self.bits)
        return dequantize(codes.values, scales, self.axis)


def grids(model: ModelT, plan: Plan) -> Mapping[str, Grid]:
    """Return the grids of the layers whose weights a plan rounds to integers, by output tensor.

    Args:
        model: A float graph.
        plan: Its mode and rules.
    """
    modes = modes_of(plan, model)
    found: dict[str, Grid] = {}
    for mode, storages in ((DYNAMIC.name, dynamic_storages), (INT4.name, int4_storages)):
        chosen = {name for name, asked in modes.items() if asked == mode}
        if not chosen or (mode != plan.mode and MODES[plan.mode].calibrated):
            continue
        for weight, storage in storages(model, chosen):
            for user in weight.users:
                name = weight.graph.tensors[user.outputs[0]].name
                if name in chosen:
                    found[name] = Grid(storage.bits, storage.axis)
    if MODES[plan.mode].calibrated:
        int8 = plan.mode == INT8.name
        narrow = {name for name, asked in modes.items() if int8 and asked == INT4.name}
        four = {node.outputs[0].name for node in nodes(model) if takes_int4(node, narrow)}
        graph = ChannelGraph(model)
        for layer in graph.layers():
            name = graph.graph.tensors[layer.output].name
            if MODES[modes[name]].calibrated or name in narrow:
                found[name] = Grid(4 if name in four else 8, layer.axis)
    return found

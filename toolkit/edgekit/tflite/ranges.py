"""Expose activations for calibration, and store their ranges for the quantizer."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgekit.records import Ranges
from edgekit.tflite.graph import FLOAT32, clone, is_constant
from edgekit.tflite.lstm import LEAST_CELL, STATE_INPUTS, fused_lstms

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, QuantizationParametersT

# Width of the range of a constant activation: a range of width 0 has no scale.
_NARROWEST = 1e-6
# Of a fused LSTM: one for each gate, and one for the outputs before a projection.
_INTERMEDIATES = 5


def activations(model: ModelT) -> list[int]:
    """Return the indices of computed float tensors of the first graph, inputs first."""
    graph = model.subgraphs[0]
    produced = [i for op in graph.operators for i in op.outputs if i >= 0]
    return list(
        dict.fromkeys(
            int(i)
            for i in (*graph.inputs, *produced)
            if graph.tensors[i].type == FLOAT32
            and not graph.tensors[i].isVariable
            and not is_constant(model, graph.tensors[i])
        )
    )


def with_all_outputs(model: ModelT, also: Collection[int] = ()) -> ModelT:
    """Make every computed float activation an output, after the existing outputs.

    The runtime then keeps each of them until the end of the inference, also with delegates.

    Args:
        model: A model; it is not changed.
        also: Further tensors of the first graph.
    """
    model = clone(model)
    graph = model.subgraphs[0]
    known = {*graph.inputs.tolist(), *graph.outputs.tolist()}
    added = [i for i in dict.fromkeys([*activations(model), *sorted(also)]) if i not in known]
    graph.outputs = np.concatenate([graph.outputs, np.asarray(added, np.int32)])
    model.signatureDefs = []
    return model


def with_ranges(model: ModelT, ranges: Ranges, *, symmetric: bool) -> ModelT:
    """Store ranges in the quantization parameters, where TensorFlow's quantizer reads them.

    A fused LSTM whose cell state has a range gets those of its states, too, and the five
    intermediate tensors without which its integer kernel does not load; the last of them has the
    range of the outputs.

    Args:
        model: A float model; it is not changed.
        ranges: Ranges by tensor name; other tensors get no range.
        symmetric: Widen each range to equal ends, as the int16 kernels need (zero point 0).
    """
    from ai_edge_litert import schema_py_generated as schema

    model = clone(model)
    graph = model.subgraphs[0]
    for index in activations(model):
        tensor = graph.tensors[index]
        if tensor.name not in ranges.low:
            continue
        tensor.quantization = _stored(ranges, tensor.name, symmetric=symmetric)
    for op in fused_lstms(model):
        output, cell = (graph.tensors[op.inputs[place]] for place in STATE_INPUTS)
        outputs = graph.tensors[op.outputs[0]].name
        if not {cell.name, outputs} <= set(ranges.low):
            continue
        cell.quantization = _stored(ranges, cell.name, symmetric=symmetric, least=LEAST_CELL)
        output.quantization = _stored(ranges, outputs, symmetric=symmetric)
        first = len(graph.tensors)
        graph.tensors += [
            schema.TensorT(
                shape=np.zeros(1, np.int32),
                type=FLOAT32,
                buffer=0,
                name=f"intermediate{index}",
                quantization=_stored(ranges, outputs, symmetric=symmetric)
                if index == first + _INTERMEDIATES - 1
                else None,
                hasRank=True,
            )
            for index in range(first, first + _INTERMEDIATES)
        ]
        op.intermediates = np.arange(first, first + _INTERMEDIATES, dtype=np.int32)
    return model


def _stored(
    ranges: Ranges, name: str, *, symmetric: bool, least: float = 0.0
) -> QuantizationParametersT:
    from ai_edge_litert import schema_py_generated as schema

    low, high = ranges.low[name], ranges.high[name]
    if low == high == 0.0:
        high = _NARROWEST
    if symmetric or least:
        high = max(abs(low), abs(high), least)
        low = -high
    return schema.QuantizationParametersT(
        min=np.array([low], np.float32), max=np.array([high], np.float32)
    )

"""Expose activations for calibration, and store their ranges for the quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.records import Ranges
from edgekit.tflite.graph import FLOAT32, clone, is_constant

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Width of the range of a constant activation: a range of width 0 has no scale.
_NARROWEST = 1e-6


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


def with_all_outputs(model: ModelT) -> ModelT:
    """Make every computed float activation an output, after the existing outputs.

    The runtime then keeps each of them until the end of the inference, also with delegates.
    """
    model = clone(model)
    graph = model.subgraphs[0]
    known = {*graph.inputs.tolist(), *graph.outputs.tolist()}
    added = [i for i in activations(model) if i not in known]
    graph.outputs = np.concatenate([graph.outputs, np.asarray(added, np.int32)])
    model.signatureDefs = []
    return model


def with_ranges(model: ModelT, ranges: Ranges, *, symmetric: bool) -> ModelT:
    """Store ranges in the quantization parameters, where TensorFlow's quantizer reads them.

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
        low, high = ranges.low[tensor.name], ranges.high[tensor.name]
        if low == high == 0.0:
            high = _NARROWEST
        if symmetric:
            high = max(abs(low), abs(high))
            low = -high
        tensor.quantization = schema.QuantizationParametersT(
            min=np.array([low], np.float32), max=np.array([high], np.float32)
        )
    return model

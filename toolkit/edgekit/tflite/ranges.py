"""Expose the activations of a float graph for calibration."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.tflite.graph import FLOAT32, clone, is_constant, operator_name

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Fused activation in the schema -> the operator that does the same.
_FUSED: Final = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}
_CLAMPS: Final = {
    "RELU": (0.0, float("inf")),
    "RELU6": (0.0, 6.0),
    "RELU_0_TO_1": (0.0, 1.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


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


def limits(model: ModelT) -> dict[int, tuple[float, float]]:
    """Return tensor index -> the ends that a ReLU keeps its values within, in the first graph.

    Outputs of the graph are left out: what they hold is always looked at.
    """
    graph = model.subgraphs[0]
    found = {}
    for op in graph.operators:
        fused = _FUSED.get(getattr(op.builtinOptions, "fusedActivationFunction", 0))
        ends = _CLAMPS.get(fused or operator_name(model, op))
        if ends is not None:
            found.update({int(i): ends for i in op.outputs if i not in graph.outputs})
    return found

"""Expose the activations of a float graph for calibration."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgekit.tflite.graph import FLOAT32, clone, is_constant

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


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

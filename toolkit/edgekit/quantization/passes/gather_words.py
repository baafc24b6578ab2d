"""Look words up by GATHER, which has kernels of every precision.

litert-torch writes an `nn.Embedding` as EMBEDDING_LOOKUP. That computes the same as a GATHER of the
table's rows, but has no kernel with int16, and kernels with an int8 table only in newer runtimes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.tflite.graph import FLOAT32, clone, is_constant, operator_code, operator_name

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


def gather_words(model: ModelT) -> ModelT:
    """Replace each EMBEDDING_LOOKUP of a stored float table by a GATHER.

    Args:
        model: A float graph; it is not changed.

    Returns:
        A copy that computes the same outputs; `model` itself where there is no such operator.
    """
    from ai_edge_litert import schema_py_generated as schema

    found = [
        (number, place)
        for number, graph in enumerate(model.subgraphs)
        for place, op in enumerate(graph.operators)
        if operator_name(model, op) == "EMBEDDING_LOOKUP"
        and graph.tensors[op.inputs[1]].type == FLOAT32
        and is_constant(model, graph.tensors[op.inputs[1]])
    ]
    if not found:
        return model
    changed = clone(model)
    for number, place in found:
        op = changed.subgraphs[number].operators[place]
        op.opcodeIndex = operator_code(changed, "GATHER", 1)
        op.inputs = np.array(op.inputs[::-1], np.int32)
        op.builtinOptionsType = schema.BuiltinOptions.GatherOptions
        op.builtinOptions = schema.GatherOptionsT(axis=0)
    return changed

"""Give each output of a graph a tensor of its own, which signatures and runtimes tell it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.tflite.graph import add_constant, clone, operator_code

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT


def with_own_outputs(model: ModelT, names: Sequence[str]) -> ModelT:
    """Return a model in which no two outputs share a tensor, and none is an input.

    A model may return one tensor twice, or hand an input on. Converters then list the same tensor
    again, so that one of the names in a signature is lost. The copy is made by RESHAPE to the
    tensor's own shape, which every runtime has for every type.

    Args:
        model: A model; it is not changed.
        names: Names of its outputs, in their order; copies are called so.

    Returns:
        The model itself where nothing is shared.
    """
    graph = model.subgraphs[0]
    taken = set(graph.inputs.tolist())
    shared = []
    for position, index in enumerate(graph.outputs.tolist()):
        if index in taken:
            shared.append(position)
        taken.add(index)
    if not shared:
        return model
    model = clone(model)
    graph = model.subgraphs[0]
    outputs = graph.outputs.copy()
    for position in shared:
        outputs[position] = _copied(model, graph, int(outputs[position]), names[position])
    graph.outputs = outputs
    return model


def _copied(model: ModelT, graph: SubGraphT, index: int, wanted: str) -> int:
    """Append an operator that copies a tensor; return the index of the copy."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[index]
    known = {each.name for each in graph.tensors}
    name, count = wanted, 0
    while name in known:
        count += 1
        name = f"{wanted}_{count}"
    # Lowered graphs are for one sample, of known sizes; of others RESHAPE derives one.
    sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    shape = np.array(sizes, np.int32)
    graph.tensors.append(
        schema.TensorT(
            name=name,
            type=tensor.type,
            shape=tensor.shape,
            shapeSignature=tensor.shapeSignature,
            hasRank=tensor.hasRank,
            quantization=tensor.quantization,
        )
    )
    copy = len(graph.tensors) - 1
    graph.operators.append(
        schema.OperatorT(
            opcodeIndex=operator_code(model, "RESHAPE", 1),
            inputs=np.array([index, add_constant(model, graph, shape, f"{name}/shape")], np.int32),
            outputs=np.array([copy], np.int32),
            builtinOptionsType=schema.BuiltinOptions.ReshapeOptions,
            builtinOptions=schema.ReshapeOptionsT(newShape=shape),
        )
    )
    return copy

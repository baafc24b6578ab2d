"""Compute operators of constants once, before the file is written.

Files of other converters hold them: float16 weights behind DEQUANTIZE, transposed or reshaped
weights, shapes put together from a static SHAPE. Weights behind an operator could not be quantized.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.isolate import ChildDiedError, isolated
from edgekit.quantization.passes.drop_unused import drop_unused, has_effects
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.records import Array
from edgekit.tflite.graph import DTYPES, clone, is_constant, operator_name, write
from edgekit.tflite.loops import alone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan

# Results with more elements than these or than the operands remain computed: files shall not grow.
_SMALL: Final = 256
_RANDOM: Final = frozenset({"MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM"})


def fold_constants(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Replace what is computed of constants, and of shapes that are known, by constants.

    Operators with effects or of chance, those that compute an output of the graph, and results
    larger than the operands are kept.

    Args:
        model: A float graph; it is not changed.
        observed: Handed on.
        settings: Handed on.
    """
    changed = model
    for number in range(len(model.subgraphs)):
        found = _foldable(model, model.subgraphs[number])
        values = _computed(model, number, found) if found else None
        if values is not None:
            changed = _with_constants(changed, number, values)
            graph = changed.subgraphs[number]
            graph.operators = [op for place, op in enumerate(graph.operators) if place not in found]
    return model if changed is model else drop_unused(changed, observed, settings)


FOLD_CONSTANTS: Final = GraphPass(
    name="fold_constants",
    meaning="Compute operators of constants once.",
    apply=fold_constants,
)


def _foldable(model: ModelT, graph: SubGraphT) -> dict[int, list[int]]:
    """Return the positions of operators to fold, with their outputs."""
    ends = {*graph.inputs.tolist(), *graph.outputs.tolist()}
    known = {
        index
        for index, tensor in enumerate(graph.tensors)
        if is_constant(model, tensor) and not tensor.isVariable
    }
    found: dict[int, list[int]] = {}
    for place, op in enumerate(graph.operators):
        inputs = [int(i) for i in op.inputs if i >= 0]
        outputs = [int(i) for i in op.outputs if i >= 0]
        name = operator_name(model, op)
        static = name == "SHAPE" and _static(graph.tensors[inputs[0]])
        if not inputs or not outputs or not (static or known.issuperset(inputs)):
            continue
        if name in _RANDOM or ends.intersection(outputs) or has_effects(model, graph, op):
            continue
        made, given = (
            sum(_elements(graph.tensors[i]) for i in indices) for indices in (outputs, inputs)
        )
        if made <= max(given, _SMALL):
            found[place] = outputs
            known.update(outputs)
    return found


def _computed(
    model: ModelT, number: int, found: Mapping[int, list[int]]
) -> dict[int, Array] | None:
    """Return the values of what operators to fold compute, by tensor index; None if they fail."""
    graph = model.subgraphs[number]
    values: dict[int, Array] = {}
    for place in found:
        op = graph.operators[place]
        if operator_name(model, op) == "SHAPE":
            shape, kind = (graph.tensors[i] for i in (op.inputs[0], op.outputs[0]))
            values[int(op.outputs[0])] = np.asarray(shape.shape, DTYPES[kind.type])
    part = _with_constants(alone(model, number), 0, values)
    inner = part.subgraphs[0]
    made = [index for outputs in found.values() for index in outputs if index not in values]
    inner.operators = [
        inner.operators[place] for place, outputs in found.items() if not values.keys() & outputs
    ]
    inner.inputs, inner.outputs = np.zeros(0, np.int32), np.array(made, np.int32)
    if not made:
        return values
    try:
        arrays = isolated(lambda: _run(write(part)))
    except (ChildDiedError, RuntimeError, ValueError):
        return None  # what is wrong shows where the whole graph is run
    return values | dict(zip(made, arrays, strict=True))


def _with_constants(model: ModelT, number: int, values: Mapping[int, Array]) -> ModelT:
    """Return a copy of a model, some tensors of one of whose graphs hold values."""
    from ai_edge_litert import schema_py_generated as schema

    changed = clone(model)
    for index, array in values.items():
        tensor = changed.subgraphs[number].tensors[index]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        changed.buffers.append(schema.BufferT(data=data))
        tensor.buffer = len(changed.buffers) - 1
        tensor.shape, tensor.shapeSignature = np.array(array.shape, np.int32), None
    return changed


def _run(content: bytes) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def _static(tensor: TensorT) -> bool:
    open_sizes = tensor.shapeSignature
    return bool(tensor.hasRank or len(tensor.shape)) and (
        open_sizes is None or min(open_sizes, default=0) >= 0
    )


def _elements(tensor: TensorT) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))

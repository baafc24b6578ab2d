"""Write a model in the form that TFLite Micro loads, where the same computation has one.

- Dense layers and transposed convolutions take int8 weights where they were int4; convolutions keep
  them, which TFLite Micro unpacks before every use.
- TILE becomes CONCATENATION of the tensor with itself.
- SELECT becomes SELECT_V2.
- An int8 or int16 RELU6 that rescales becomes QUANTIZE, which does, and a RELU6 that does not; the
  latter only where codes reach beyond 0 and 6.

Outputs remain bit-identical, by TFLite's own kernels. XNNPACK rounds a QUANTIZE otherwise: one code
in a hundred becomes its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.numerics import unpack_int4
from edgekit.records import Array
from edgekit.tflite.graph import (
    FLOAT32,
    INT4,
    INT8,
    INT16,
    INT32,
    clone,
    constant,
    is_constant,
    operator_code,
    operator_name,
    quantized,
)

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

# Operators without kernels for int4 -> version of the operator with int8 weights.
_UNPACKED: Final = {"FULLY_CONNECTED": 6, "TRANSPOSE_CONV": 2}
_JOIN_VERSIONS: Final = {FLOAT32: 1, INT32: 1, INT8: 2, INT16: 3}
_ENDS: Final = {INT8: (-128, 127), INT16: (-32768, 32767)}
_QUANTIZE_VERSIONS: Final = {INT8: 1, INT16: 2}
_MOST_JOINED: Final = 10
# A file can ask for more copies than any device could hold.
_MOST_COPIES: Final = 4096
_VALUES: Final = 3  # a condition and two values


def micro_form(model: ModelT) -> ModelT:
    """Return a model as TFLite Micro loads it; what has no such form remains.

    Args:
        model: The model; it is not changed.

    Raises:
        ModelError: The weights of an operator are damaged.
    """
    changed = clone(model)
    for graph in changed.subgraphs:
        operators: list[OperatorT] = []
        for op in graph.operators:
            name = operator_name(changed, op)
            if name in _UNPACKED:
                _unpack(changed, graph, op, name)
            if name == "SELECT":
                _select(changed, graph, op)
            other = _FORMS.get(name, _none)
            operators += other(changed, graph, op) or [op]
        graph.operators = operators
    return changed


def _none(model: ModelT, graph: SubGraphT, op: OperatorT) -> None:
    """Return nothing: an operator has no other form."""
    del model, graph, op


def _unpack(model: ModelT, graph: SubGraphT, op: OperatorT, name: str) -> None:
    """Store the int4 weights of an operator as int8: the same codes and scales."""
    from ai_edge_litert import schema_py_generated as schema

    if len(op.inputs) < 2 or op.inputs[1] < 0:
        return
    weights = graph.tensors[op.inputs[1]]
    if weights.type != INT4 or not is_constant(model, weights):
        return
    count = int(np.prod(weights.shape, dtype=np.int64))
    packed = np.asarray(model.buffers[weights.buffer].data, np.uint8)
    if len(packed) != (count + 1) // 2 or weights.sparsity is not None:
        raise ModelError(
            f"Tensor {weights.name} does not hold what its shape {tuple(weights.shape)} says.",
            found=f"{len(packed)} bytes instead of {(count + 1) // 2}",
            hint="The file is damaged: copy or convert it again.",
        )
    model.buffers.append(schema.BufferT(data=unpack_int4(packed, count).view(np.uint8)))
    weights.buffer = len(model.buffers) - 1
    weights.type = INT8
    op.opcodeIndex = operator_code(model, name, _UNPACKED[name])


def _select(model: ModelT, graph: SubGraphT, op: OperatorT) -> None:
    """Let SELECT_V2 do it, which does the same where all shapes are equal."""
    from ai_edge_litert import schema_py_generated as schema

    used = [graph.tensors[index] for index in op.inputs if index >= 0]
    if len(used) != _VALUES or any(t.shape.tolist() != used[0].shape.tolist() for t in used):
        return
    op.opcodeIndex = operator_code(model, "SELECT_V2", 1)
    op.builtinOptionsType = schema.BuiltinOptions.SelectV2Options
    op.builtinOptions = schema.SelectV2OptionsT()


def _rescaled(model: ModelT, graph: SubGraphT, op: OperatorT) -> list[OperatorT] | None:
    """Return what makes what a rescaling RELU6 makes; None where it does not rescale.

    TFLite rescales, saturates and clamps the codes to those of 0 and 6. QUANTIZE does the first
    two; codes that end at 0 and 6, or before 6, are not clamped any further.
    """
    from ai_edge_litert import schema_py_generated as schema

    if [len(op.inputs), len(op.outputs)] != [1, 1] or min(*op.inputs, *op.outputs) < 0:
        return None
    source, result = (graph.tensors[index] for index in (op.inputs[0], op.outputs[0]))
    given, made = _affine(source), _affine(result)
    if source.type != result.type or result.type not in _ENDS or given is None or made is None:
        return None
    if np.isclose(given[0], made[0], rtol=1e-6, atol=0) and given[1] == made[1]:
        return None
    (scale, zero), (low, high) = made, _ENDS[result.type]
    opcode = operator_code(model, "QUANTIZE", _QUANTIZE_VERSIONS[result.type])
    quantize = schema.OperatorT(opcodeIndex=opcode, inputs=op.inputs, outputs=op.outputs)
    if zero == low and zero + np.rint(6 / scale) >= high:
        return [quantize]
    between: Any = clone(result)
    between.name = f"{between.name}_rescaled"
    graph.tensors.append(between)
    quantize.outputs = np.array([len(graph.tensors) - 1], np.int32)
    op.inputs = quantize.outputs
    return [quantize, op]


def _affine(tensor: TensorT) -> tuple[float, int] | None:
    """Return scale and zero point of a tensor; None where it has not one of each."""
    parameters = tensor.quantization
    if not quantized(tensor) or parameters.zeroPoint is None:
        return None
    if len(parameters.scale) != 1 or len(parameters.zeroPoint) != 1:
        return None
    scale = float(parameters.scale[0])
    usable = np.isfinite(scale) and scale >= np.finfo(np.float32).tiny
    return (scale, int(parameters.zeroPoint[0])) if usable else None


def _joined(model: ModelT, graph: SubGraphT, op: OperatorT) -> list[OperatorT] | None:
    """Return the concatenations that make what a TILE makes; None where none do."""
    if len(op.inputs) != 2 or min(op.inputs) < 0 or len(op.outputs) != 1:
        return None
    source, repeats = (graph.tensors[index] for index in op.inputs)
    if repeats.type != INT32 or not is_constant(model, repeats):
        return None
    if source.type not in _JOIN_VERSIONS:
        return None
    steps = _steps(constant(model, repeats).reshape(-1), len(source.shape))
    if not steps:
        return None
    made: list[OperatorT] = []
    index = int(op.inputs[0])
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        result = int(op.outputs[0]) if last else _longer(graph, index, step)
        made.append(_join(model, index, result, step, source.type))
        index = result
    return made


def _steps(repeats: Array, dimensions: int) -> list[tuple[int, int]]:
    """Return axes and how many copies are joined along each; an empty list if it cannot be done.

    >>> _steps(np.array([1, 2, 30]), 3)
    [(1, 2), (2, 10), (2, 3)]
    >>> _steps(np.array([13]), 1)
    []
    """
    if len(repeats) != dimensions or repeats.min(initial=1) < 1:
        return []
    if np.prod(repeats.astype(np.float64)) > _MOST_COPIES:
        return []
    steps = []
    for axis, wanted in enumerate(repeats.tolist()):
        left = wanted
        while left > 1:
            count = next((n for n in range(_MOST_JOINED, 1, -1) if left % n == 0), None)
            if count is None:
                return []
            steps.append((axis, count))
            left //= count
    return steps


def _longer(graph: SubGraphT, index: int, step: tuple[int, int]) -> int:
    """Add a tensor like another, but for one longer axis, and return its index."""
    axis, count = step
    tensor: Any = clone(graph.tensors[index])
    tensor.name = f"{tensor.name}_x{count}"
    shape = tensor.shape.copy()
    shape[axis] *= count
    tensor.shape, tensor.shapeSignature, tensor.buffer = shape, None, 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _join(model: ModelT, source: int, result: int, step: tuple[int, int], kind: int) -> OperatorT:
    from ai_edge_litert import schema_py_generated as schema

    axis, count = step
    return schema.OperatorT(
        opcodeIndex=operator_code(model, "CONCATENATION", _JOIN_VERSIONS[kind]),
        inputs=np.full(count, source, np.int32),
        outputs=np.array([result], np.int32),
        builtinOptionsType=schema.BuiltinOptions.ConcatenationOptions,
        builtinOptions=schema.ConcatenationOptionsT(axis=axis),
    )


_FORMS: Final[Mapping[str, Callable[[ModelT, SubGraphT, OperatorT], list[OperatorT] | None]]] = {
    "RELU6": _rescaled,
    "TILE": _joined,
}

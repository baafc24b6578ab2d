"""What a TFLite file's first operators do to its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import Array, InputScaling
from edgekit.tflite.graph import constant, is_constant, operator_name, quantized
from edgekit.tflite.signature import tensor_spec

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, TensorT

_KEPT: Final = frozenset({"CAST", "DEQUANTIZE", "QUANTIZE", "RESHAPE"})
_RESIZED: Final = frozenset({"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"})


def input_scaling(model: ModelT) -> InputScaling | None:
    """Follow the only input of a file's first graph as far as it is only scaled.

    Converters often fold a scaling into the weights of the layer behind it: nothing is to be read
    then. Integer arithmetic is not followed: a quantized input tells by the range of its codes.

    Returns:
        None where there are several inputs.
    """
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1:
        return None
    index = int(graph.inputs[0])
    limits = _limits(graph.tensors[index])
    scale, offset = np.ones(1), np.zeros(1)
    scaled = False
    seen: set[int] = set()
    while index not in seen:
        seen.add(index)
        takers = [op for op in graph.operators if index in op.inputs.tolist()]
        if len(takers) != 1 or len(takers[0].outputs) != 1:
            break
        (op,) = takers
        name = operator_name(model, op)
        following = int(op.outputs[0])
        if name == "QUANTIZE" and not scaled:
            limits = limits or _limits(graph.tensors[following])
        if name not in _KEPT and not (name in _RESIZED and int(op.inputs[0]) == index):
            step = None if limits else _step(model, graph.tensors, op, index, name)
            sizes = {v.size for v in (scale, offset, *(step or ()))} - {1}
            if step is None or len(sizes) > 1:
                break
            factor, term = step
            scale, offset = scale * factor, offset * factor + term
            scaled = True
        index = following
    return InputScaling(
        scale=tuple(scale.tolist()),
        offset=tuple(offset.tolist()),
        limits=limits,
    )


def _step(
    model: ModelT, tensors: list[TensorT], op: OperatorT, index: int, name: str
) -> tuple[Array, Array] | None:
    """Factor and term of an operator with a constant; None where it is something else."""
    indices = op.inputs.tolist()
    options = op.builtinOptions
    # A fused activation is no affine map.
    if len(indices) != 2 or vars(options or object).get("fusedActivationFunction"):
        return None
    first = indices[0] == index
    other = tensors[indices[1 if first else 0]]
    if not is_constant(model, other):
        return None
    try:
        value: Any = constant(model, other).astype(np.float64).reshape(-1)
    except ModelError:
        return None
    one, zero = np.ones(1), np.zeros(1)
    if value.size not in (1, 3):
        return None
    if name == "MUL":
        return value, zero
    if name == "ADD":
        return one, value
    if name == "SUB":
        return (one, -value) if first else (-one, value)
    return (1 / value, zero) if name == "DIV" and first and value.all() else None


def _limits(tensor: TensorT) -> tuple[float, float] | None:
    """The least and the largest real value of an 8-bit or 16-bit tensor with one scale."""
    spec = tensor_spec(None, tensor)
    if spec.scale is None or not quantized(tensor) or np.dtype(spec.dtype).itemsize > 1:
        return None
    codes = np.iinfo(spec.dtype)
    zero = spec.zero_point or 0
    return (codes.min - zero) * spec.scale, (codes.max - zero) * spec.scale

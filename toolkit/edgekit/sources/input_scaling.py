"""What a model's first operators do to its input, read from its traced graph.

Whatever wrote them (`Rescaling` and `Normalization` layers, `x / 255.0`, `preprocess_input`, a
nested model, the signature of a SavedModel), they are the same few operators in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgekit.records import Array, InputScaling

_KEPT: Final = frozenset(
    {"Cast", "EnsureShape", "Identity", "PreventGradient", "StopGradient"}
    | {"ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"}
)
"""Operators that change no value by more than a resize does."""
_CALLS: Final = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_SHAPES: Final = frozenset({"Shape", "ShapeN", "Rank", "Size"})
_RESHAPED: Final = frozenset({"ExpandDims", "Reshape", "Squeeze"})
_MOST_STEPS: Final = 64
"""Operators followed at most; preprocessing has far fewer."""

_ONE: Final = np.ones(1)
_ZERO: Final = np.zeros(1)

_FOLDED: Final[Mapping[str, Callable[..., Array]]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Cast": np.asarray,
    "Identity": np.asarray,
    "Maximum": np.maximum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "RealDiv": np.true_divide,
    "Reciprocal": np.reciprocal,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """A function's graph as it is called from another one.

    Attributes:
        graph: Its graph.
        arguments: The tensors behind its inputs, by name: eager ones, or those of `caller`.
        call: The operator that calls it; None for the outermost.
        caller: The scope of that operator.
    """

    graph: Any
    arguments: Mapping[str, Any]
    call: Any = None
    caller: _Scope | None = None


def read_input_scaling(function: Any) -> InputScaling:
    """Follow the only input of a concrete function as far as it is only scaled.

    Layers that do something in training only (augmentation, dropout) have left nothing in the
    graph; resizing and cropping are passed over.

    Args:
        function: TensorFlow's concrete function, its input first.
    """
    graph = function.graph
    captured = list(function.captured_inputs)
    inner = graph.inputs[len(graph.inputs) - len(captured) :]
    scope = _Scope(graph=graph, arguments={t.name: e for t, e in zip(inner, captured, strict=True)})
    tensor = graph.inputs[0]
    scale, offset = np.ones(1), np.zeros(1)
    flipped = False
    for _ in range(_MOST_STEPS):
        place = _next(tensor, scope)
        if place is None:
            break
        op, position, scope = place
        step = _step(op, position, scope)
        if step is None:
            break
        factor, term, turned = step
        sizes = {np.size(v) for v in (scale, offset, factor, term)} - {1}
        if len(sizes) > 1:
            break
        if turned:
            scale, offset, flipped = scale[::-1], offset[::-1], not flipped
        scale, offset = scale * factor, offset * factor + term
        tensor = op.outputs[0]
    if flipped:  # channel by channel as they come in
        scale, offset = scale[::-1], offset[::-1]
    return InputScaling(
        scale=tuple(scale.tolist()),
        offset=tuple(offset.tolist()),
    )


def _next(tensor: Any, scope: _Scope) -> tuple[Any, int, _Scope] | None:
    """The only operator that takes a tensor, at which place, inside whichever function it is in."""
    while True:
        takers = [op for op in tensor.consumers() if op.type not in _SHAPES]
        returned = [i for i, out in enumerate(scope.graph.outputs) if out.name == tensor.name]
        if not takers and len(returned) == 1 and scope.call is not None:
            assert scope.caller is not None
            tensor, scope = scope.call.outputs[returned[0]], scope.caller
            continue
        takers = _stacked(takers) or takers
        if len(takers) != 1 or (returned and scope.call is not None):
            return None
        (op,) = takers
        if op.type == "Pack":
            return op, 0, scope
        positions = [i for i, value in enumerate(op.inputs) if value.name == tensor.name]
        if len(positions) != 1:
            return None
        if op.type not in _CALLS:
            return op, positions[0], scope
        body = scope.graph._get_function(op.get_attr("f").name)  # noqa: SLF001  TensorFlow has no public way from a call to its function
        graph = getattr(body, "graph", None)
        if graph is None or len(graph.inputs) != len(op.inputs):
            return None
        named = {t.name: value for t, value in zip(graph.inputs, op.inputs, strict=True)}
        scope = _Scope(graph=graph, arguments=named, call=op, caller=scope)
        tensor = graph.inputs[positions[0]]


def _stacked(takers: Sequence[Any]) -> list[Any] | None:
    """The operator that stacks the channels again that `takers` split a picture into.

    So Keras turns RGB into BGR for symbolic tensors.
    """
    if len(takers) != 3 or any(op.type != "StridedSlice" for op in takers):
        return None
    after = [op for taker in takers for op in taker.outputs[0].consumers()]
    stacks = {op.name: op for op in after}
    fits = len(after) == len(stacks) * 3 and all(op.type == "Pack" for op in after)
    return list(stacks.values()) if fits else None


def _is_reversed(op: Any, scope: _Scope) -> bool | None:
    """Whether the order of the channels is reversed; None where something else is done to them.

    Cropping is no change; neither is mirroring a picture.
    """
    if op.type == "Pack":
        starts = [_constant(value.op.inputs[1], scope) for value in op.inputs]
        order = [int(start[-1]) for start in starts if start is not None]
        fits = op.get_attr("axis") in (-1, 3) and order in ([0, 1, 2], [2, 1, 0])
        return order == [2, 1, 0] if fits else None
    if op.type == "ReverseV2":
        axes = _constant(op.inputs[1], scope)
        return None if axes is None else bool({3, -1} & set(np.ravel(axes).tolist()))
    strides = _constant(op.inputs[3], scope)
    same_rank = op.outputs[0].shape.rank == op.inputs[0].shape.rank == 4
    if strides is None or not same_rank or (np.abs(strides) != 1).any():
        return None
    return bool(strides[-1] == -1)


def _step(op: Any, position: int, scope: _Scope) -> tuple[Array, Array, bool] | None:
    """Factor, term and whether channels are reversed; None where an operator is something else."""
    if op.type in _KEPT and position == 0:
        return _ONE, _ZERO, False
    if op.type in ("Pack", "ReverseV2", "StridedSlice") and position == 0:
        turned = _is_reversed(op, scope)
        return None if turned is None else (_ONE, _ZERO, turned)
    if len(op.inputs) != 2:
        return None
    other = _constant(op.inputs[1 - position], scope)
    if other is None or other.size not in (1, 3):
        return None
    value = other.astype(np.float64).reshape(-1)
    if op.type == "Mul":
        return value, _ZERO, False
    if op.type in ("Add", "AddV2", "BiasAdd"):
        return _ONE, value, False
    if op.type == "Sub":
        return (_ONE, -value, False) if position == 0 else (-_ONE, value, False)
    if op.type in ("RealDiv", "Div", "DivNoNan") and position == 0 and value.all():
        return 1 / value, _ZERO, False
    return None


def _constant(tensor: Any, scope: _Scope, depth: int = 0) -> Array | None:
    """The value of a tensor that does not depend on the model's input."""
    import tensorflow as tf

    op = tensor.op
    if depth > _MOST_STEPS:
        return None
    if op.type == "Const":
        value: Array | None = tf.get_static_value(tensor)
        return value
    if op.type == "Placeholder" and tensor.name in scope.arguments:
        behind = scope.arguments[tensor.name]
        if hasattr(behind, "numpy"):
            return None if behind.dtype == tf.resource else np.asarray(behind.numpy())
        return _constant(behind, scope.caller, depth + 1) if scope.caller else None
    if op.type == "ReadVariableOp":
        handle = _handle(op.inputs[0], scope)
        if handle is None:
            return None
        read = tf.raw_ops.ReadVariableOp(resource=handle, dtype=op.get_attr("dtype"))
        return np.asarray(read.numpy())
    if op.type in _RESHAPED:  # only numbers, and one number a channel, count in the end
        return _constant(op.inputs[0], scope, depth + 1)
    if op.type in _FOLDED:
        values = _constants(op.inputs, scope, depth + 1)
        with np.errstate(all="ignore"):
            return None if values is None else _FOLDED[op.type](*values)
    return None


def _constants(tensors: Sequence[Any], scope: _Scope, depth: int) -> list[Array] | None:
    found = [_constant(tensor, scope, depth) for tensor in tensors]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def _handle(tensor: Any, scope: _Scope | None) -> Any:
    """The variable behind a tensor that is handed from function to function."""
    while scope is not None and tensor.op.type in ("Placeholder", "Identity"):
        if tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
            continue
        behind = scope.arguments.get(tensor.name)
        if behind is None or hasattr(behind, "numpy"):
            return behind
        tensor, scope = behind, scope.caller
    return None

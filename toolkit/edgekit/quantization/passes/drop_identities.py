"""Remove operators that return what they are given, and join those that only rearrange it.

Converters leave conversions to the type that a tensor has, reshapes to its shape, and pairs of
transpositions that undo each other (files from PyTorch and ONNX). Outputs remain bit-identical.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import add_constant, clone
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan

# Operators that return the same values in the same order where the shape is the same.
_RESHAPING: Final = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE"})
_CUTTING: Final = frozenset({"BROADCAST_TO", "PAD", "PADV2", "SLICE", "TILE"})
# Operator -> the constant with which it changes nothing.
_NEUTRAL: Final = {"ADD": 0.0, "DIV": 1.0, "MUL": 1.0, "SUB": 0.0}


def drop_identities(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Remove operators that return their input, unless an output of the graph depends on the name.

    Args:
        model: A float graph; it is not changed.
        observed: Handed on.
        settings: Handed on.
    """
    changed = clone(model)
    every = [op for graph in changed.subgraphs for op in graph.operators]
    kept: list[list[OperatorT]] = [[] for _ in changed.subgraphs]
    makers: dict[tuple[int, int], Node] = {}
    # (graph, tensor) -> the tensor that holds the same values.
    same: dict[tuple[int, int], Tensor] = {}
    shorter = False
    for node, op in zip(nodes(model), every, strict=True):
        outer = changed.subgraphs[node.graph]
        now = replace(
            node, inputs=tuple(t and same.get((node.graph, t.index), t) for t in node.inputs)
        )
        first = now.input(0)
        maker = makers.get((node.graph, first.index)) if first is not None else None
        order = _joined_order(maker, now)
        if maker is not None and (order or (maker.name in _RESHAPING and now.name == "RESHAPE")):
            shorter = True
            now.inputs = (maker.inputs[0], *now.inputs[1:])
        if _is_identity(now, order) and now.outputs[0].index not in outer.outputs:
            source = now.inputs[0]
            assert source is not None
            same[node.graph, now.outputs[0].index] = source
            shorter = True
            continue
        op.inputs = np.array([-1 if t is None else t.index for t in now.inputs], np.int32)
        if order:
            op.inputs[1] = _added(changed, node.graph, order)
        kept[node.graph].append(op)
        makers.update({(node.graph, tensor.index): now for tensor in node.outputs if not order})
    if not shorter:
        return model
    for graph, operators in zip(changed.subgraphs, kept, strict=True):
        graph.operators = operators
    return drop_unused(changed, observed, settings)


DROP_IDENTITIES: Final = GraphPass(
    name="drop_identities",
    meaning="Drop operators that return their input, and join reshapes and transpositions.",
    apply=drop_identities,
)


def _is_identity(node: Node, order: Sequence[int] | None) -> bool:
    """Whether an operator returns its first input.

    Args:
        node: The operator.
        order: That of its axes, where it is a TRANSPOSE that was joined with another.
    """
    given = node.input(0)
    if given is None or given.constant or len(node.outputs) != 1:
        return False
    made = node.outputs[0]
    if (given.shape, given.dtype) != (made.shape, made.dtype) or _is_special(given, made):
        return False
    if given.dynamic and node.name not in _RESHAPING and node.name not in _NEUTRAL:
        return False
    if node.name in _RESHAPING or node.name in _CUTTING or node.name == "CAST":
        return True
    if node.name == "CONCATENATION":
        return len(node.inputs) == 1 and not node.option("fusedActivationFunction", 0)
    if node.name == "TRANSPOSE":
        moved = order or _order(node)
        return moved is not None and list(moved) == sorted(moved)
    return node.name in _NEUTRAL and _is_neutral(node)


def _is_neutral(node: Node) -> bool:
    """Whether an operator's second input is a constant that changes nothing."""
    other = node.input(1)
    if other is None or other.data is None or other.dtype != "float32":
        return False
    if node.option("fusedActivationFunction", 0) or other.data.size != 4 * other.elements:
        return False
    return bool((np.asarray(other.data).view(np.float32) == _NEUTRAL[node.name]).all())


def _is_special(given: Tensor, made: Tensor) -> bool:
    # Where only the number of samples is free in both, the other dimensions say it all.
    free = given.free_batch and made.free_batch
    return any((t.dynamic and not free) or t.variable or t.quantized for t in (given, made))


def _order(node: Node) -> tuple[int, ...] | None:
    """Return the order of axes of a TRANSPOSE; None for others, and where it is computed."""
    axes = node.input(1) if node.name == "TRANSPOSE" else None
    return axes.integers() if axes is not None else None


def _joined_order(first: Node | None, second: Node) -> tuple[int, ...] | None:
    """Return the order of axes after two TRANSPOSE in a row; None for anything else."""
    before, after = _order(first) if first is not None else None, _order(second)
    if not before or not after or sorted(before) != sorted(after):
        return None
    return tuple(before[axis] for axis in after)


def _added(model: ModelT, number: int, order: Sequence[int]) -> int:
    """Add a constant with an order of axes, and return its index."""
    graph = model.subgraphs[number]
    return add_constant(model, graph, np.array(order, np.int32), f"order{len(graph.tensors)}")

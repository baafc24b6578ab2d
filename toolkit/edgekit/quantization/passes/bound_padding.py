"""Let a maximum over windows be padded without minus infinity, which has no code.

PyTorch pads a MaxPool2d itself, on both sides alike; converters write a PADV2 of minus infinity (or
of the lowest float) before a MAX_POOL_2D. The maximum is the same, bit by bit,

- with the kernel's own padding, where SAME padding has the same windows;
- with zeros, where nothing is below zero, as behind a ReLU;
- with the values at the edge mirrored, since every window has in it what is mirrored into it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.fold_padding import amounts_of, is_same_padding
from edgekit.records import Plan
from edgekit.targets.node import Node
from edgekit.tflite.graph import clone, operator_code
from edgekit.tflite.nodes import nodes, readers_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

_SAME: Final = 0
_VALID: Final = 1
_SYMMETRIC: Final = 1
# Nothing that a model computes is below it: a hundredth of the lowest float.
_LOWEST: Final = np.finfo(np.float32).min / 100
_POSITIVE: Final = frozenset(
    {"ABS", "EXP", "LOGISTIC", "RELU", "RELU6", "RELU_0_TO_1", "SOFTMAX", "SQRT", "SQUARE"}
)
# Codes of fused activations in the schema: RELU and RELU6.
_FUSED: Final = frozenset({1, 3})
# Operators that move or compare values: none of them is below zero where none was.
_KEEPING: Final = frozenset({"MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "TRANSPOSE"})


def bound_padding(model: ModelT) -> ModelT:
    """Replace each PADV2 of minus infinity that only maxima over windows read.

    Args:
        model: A float graph; it is not changed.

    Returns:
        A copy that computes the same outputs; `model` itself where there is no such operator.
    """
    every = nodes(model)
    readers = readers_of(every)
    makers = {(node.graph, tensor.index): node for node in every for tensor in node.outputs}
    found: list[tuple[Node, list[Node]]] = []
    for node in every:
        if node.name != "PADV2" or not _adds_lowest(node):
            continue
        outside = node.outputs[0].index
        pools = readers.get((node.graph, outside), [])
        is_output = outside in model.subgraphs[node.graph].outputs.tolist()
        if pools and not is_output and all(_has_mirrored(pool, node) for pool in pools):
            found.append((node, pools))
    if not found:
        return model
    changed = clone(model)
    ops = [op for graph in changed.subgraphs for op in graph.operators]
    folded: list[OperatorT] = []
    for node, pools in found:
        given, amounts = node.inputs[0], amounts_of(node)
        assert given is not None
        assert amounts is not None
        if all(is_same_padding(pool, _window(pool), given.shape, amounts) for pool in pools):
            folded.append(ops[node.index])
            for pool in pools:
                op = ops[pool.index]
                op.inputs = np.array([given.index], np.int32)
                op.builtinOptions = copy.copy(op.builtinOptions)
                op.builtinOptions.padding = _SAME
        else:
            _pad_otherwise(changed, ops[node.index], zeros=_is_positive(node, makers))
    for graph in changed.subgraphs:
        graph.operators = [op for op in graph.operators if not any(op is gone for gone in folded)]
    return drop_unused(changed, NOTHING, Plan(variant="", mode="float32"))


def _adds_lowest(node: Node) -> bool:
    """Whether a PADV2 adds rows and columns of minus infinity, or of about the lowest float."""
    filling = node.input(2)
    if amounts_of(node) is None or filling is None or filling.data is None:
        return False
    if filling.dtype != "float32" or filling.data.size != 4:
        return False
    return bool(np.asarray(filling.data).view(np.float32)[0] <= _LOWEST)


def _has_mirrored(pool: Node, padding: Node) -> bool:
    """Whether an operator is a maximum over windows that hold what mirroring adds to them."""
    given, amounts = padding.inputs[0], amounts_of(padding)
    if pool.name != "MAX_POOL_2D" or pool.option("padding", _SAME) != _VALID:
        return False
    if given is None or amounts is None:
        return False
    return all(
        2 * max(pair) <= taps and max(pair) <= size
        for pair, taps, size in zip(amounts, _window(pool), given.shape[1:3], strict=True)
    )


def _window(pool: Node) -> tuple[int, int]:
    return int(pool.option("filterHeight", 1)), int(pool.option("filterWidth", 1))


def _is_positive(padding: Node, makers: Mapping[tuple[int, int], Node]) -> bool:
    """Whether nothing that is padded is below zero, whatever the model is given."""
    node = padding
    while (tensor := node.input(0)) is not None:
        maker = makers.get((padding.graph, tensor.index))
        if maker is None:
            return False
        if maker.name in _POSITIVE or maker.option("fusedActivationFunction", 0) in _FUSED:
            return True
        if maker.name not in _KEEPING:
            return False
        node = maker
    return False


def _pad_otherwise(model: ModelT, op: OperatorT, *, zeros: bool) -> None:
    """Let a PADV2 add zeros, or what is at the edge; its output keeps its name."""
    from ai_edge_litert import schema_py_generated as schema

    op.inputs = np.array(op.inputs[:2], np.int32)
    op.opcodeIndex = operator_code(model, "PAD" if zeros else "MIRROR_PAD", 1)
    kinds = schema.BuiltinOptions
    op.builtinOptionsType = kinds.PadOptions if zeros else kinds.MirrorPadOptions
    mirrored = schema.MirrorPadOptionsT(mode=_SYMMETRIC)
    op.builtinOptions = schema.PadOptionsT() if zeros else mirrored

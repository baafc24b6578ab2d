"""Compute a mask as a product of a small difference, not as a difference of large products.

`mask * 1e9 - 1e9` is 0 or -1e9. Its product alone would take the place of a mask that hides nothing
of what reaches 1e9; `(mask - 1) * 1e9` is the same, and a mask like others (`masks`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.writer.hidden import SUMS, Hiding, computed
from edgekit.quantization.writer.precisions import real_inputs
from edgekit.records import Array, Ranges
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import add_constant, clone, finite, operator_code
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

_LEAST_FACTOR: Final = 1e3
"""Smaller factors scale scores, not masks."""


def with_factors_last(model: ModelT, ranges: Ranges, bits: int) -> tuple[ModelT, Ranges]:
    """Return a graph in which masks are moved first, and multiplied then, with its ranges.

    Args:
        model: A float model; it is not changed.
        ranges: Ranges of its activations.
        bits: Width of the activations.

    Returns:
        `model` and `ranges` themselves where there is no such mask.
    """
    operators = [node for node in nodes(model) if node.graph == 0]
    hiding = Hiding(operators, model.subgraphs[0].outputs.tolist(), bits)
    changed = model
    for node in operators:
        product = _product(node, hiding, ranges)
        if product is None:
            continue
        scale = _constant(product)[1]
        factor = _single(model, scale)
        if factor is None or abs(factor) < _LEAST_FACTOR:
            continue
        if changed is model:
            changed = clone(model)
        ranges = _swap(changed, product, node, factor, ranges)
    return changed, ranges


def _product(node: Node, hiding: Hiding, ranges: Ranges) -> Node | None:
    """Return the product that a sum moves by a constant, where only masks are made of it."""
    parts, given = computed(node), real_inputs(node)
    if node.name not in SUMS or len(parts) != 1 or len(given) != 2 or not _plain(node):
        return None
    product = hiding.makers.get(parts[0].index)
    output = node.outputs[0]
    if product is None or product.name != "MUL" or not _plain(product):
        return None
    only = len(computed(product)) == 1 and len(hiding.readers[parts[0].index]) == 1
    known = parts[0].name in ranges.low and output.name in ranges.low
    masks = hiding.only_masks(output) and hiding.only_masks(parts[0])
    return product if only and known and masks else None


def _swap(model: ModelT, product: Node, node: Node, factor: float, ranges: Ranges) -> Ranges:
    """Let a product of `factor` become the sum, and the sum the product, in place."""
    graph = model.subgraphs[0]
    first, second = graph.operators[product.index], graph.operators[node.index]
    number, term = _constant(node)
    subtracted = node.name == "SUB" and number == 1
    # SUB(b, a * m) is -a * (m - b / a).
    negative = node.name == "SUB" and number == 0
    moved = finite(model, graph.tensors[term.index]).astype(np.float64) / factor
    moved = (-moved if subtracted or negative else moved).astype(np.float32)
    factor = -factor if negative else factor
    mask, name = computed(product)[0], node.outputs[0].name
    _become(model, first, "ADD", mask.index, moved)
    _become(model, second, "MUL", product.outputs[0].index, np.float32(factor))
    ends = sorted((ranges.low[name] / factor, ranges.high[name] / factor))
    inner = product.outputs[0].name
    return replace(ranges, low={**ranges.low, inner: ends[0]}, high={**ranges.high, inner: ends[1]})


def _become(
    model: ModelT, op: OperatorT, name: str, given: int, values: Array | np.float32
) -> None:
    """Turn an operator into a sum or a product of a tensor and a constant."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    op.opcodeIndex = operator_code(model, name, 1)
    constant = add_constant(model, graph, np.asarray(values), f"mask_term{len(graph.tensors)}")
    op.inputs = np.array([given, constant], np.int32)
    op.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name.capitalize()}Options")
    op.builtinOptions = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}[name]()


def _constant(node: Node) -> tuple[int, Tensor]:
    return next((number, tensor) for number, tensor in real_inputs(node) if tensor.constant)


def _single(model: ModelT, tensor: Tensor) -> float | None:
    """Return the value of a constant that is one number."""
    values = finite(model, model.subgraphs[0].tensors[tensor.index])
    return float(values.reshape(-1)[0]) if values.size == 1 else None


def _plain(node: Node) -> bool:
    return bool(node.option("fusedActivationFunction", 0) == 0)

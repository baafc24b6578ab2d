"""Let convolutions pad themselves, where an explicit PAD of zeros is what SAME padding would be.

Keras's `ZeroPadding2D` before a convolution with stride 2, as in MobileNet, is a PAD of its own: a
copy of the whole activation, which the convolution's kernel does without. Outputs remain
bit-identical.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.targets.node import Node
from edgekit.tflite.graph import clone
from edgekit.tflite.nodes import nodes, readers_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan

_SAME: Final = 0
_VALID: Final = 1
_CONVOLUTIONS: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})


def fold_padding(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Remove each PAD that only convolutions without padding read, if SAME padding is the same.

    Args:
        model: A float graph; it is not changed.
        observed: Handed on.
        settings: Handed on.
    """
    operators = nodes(model)
    readers = readers_of(operators)
    found: dict[int, int] = {}
    for node in operators:
        amounts = amounts_of(node) if _adds_zeros(node) else None
        if amounts is None:
            continue
        inside, outside = node.inputs[0], node.outputs[0]
        assert inside is not None
        users = readers.get((node.graph, outside.index), [])
        is_output = outside.index in model.subgraphs[node.graph].outputs.tolist()
        if not is_output and users and all(_pads_so(user, inside.shape, amounts) for user in users):
            found.update({user.index: inside.index for user in users})
    if not found:
        return model
    changed = clone(model)
    every = [op for graph in changed.subgraphs for op in graph.operators]
    for place, inside_index in found.items():
        op = every[place]
        op.inputs = np.array([inside_index, *op.inputs[1:]], np.int32)
        op.builtinOptions = copy.copy(op.builtinOptions)
        op.builtinOptions.padding = _SAME
    return drop_unused(changed, observed, settings)


FOLD_PADDING: Final = GraphPass(
    name="fold_padding",
    meaning="Let convolutions pad themselves where a PAD of zeros is what SAME padding would be.",
    apply=fold_padding,
)


def amounts_of(node: Node) -> list[tuple[int, int]] | None:
    """Return what a PAD adds before and after rows and columns; None if it adds anything else."""
    given, amounts = node.input(0), node.input(1)
    if node.name not in {"PAD", "PADV2"} or given is None or amounts is None:
        return None
    if given.dynamic and not given.free_batch:
        return None
    values = amounts.integers()
    if values is None or len(values) != 8 or len(given.shape) != 4:
        return None
    pairs = list(zip(values[::2], values[1::2], strict=True))
    return pairs[1:3] if pairs[0] == pairs[3] == (0, 0) else None


def _adds_zeros(node: Node) -> bool:
    filling = node.input(2)
    if node.name != "PADV2":
        return True
    return filling is not None and filling.data is not None and not filling.data.any()


def _pads_so(node: Node, shape: Sequence[int], amounts: Sequence[tuple[int, int]]) -> bool:
    """Whether a convolution with SAME padding would read what a PAD of zeros gives it."""
    kernel = node.input(1)
    if node.name not in _CONVOLUTIONS or kernel is None or len(kernel.shape) != 4:
        return False
    return is_same_padding(node, kernel.shape[1:3], shape, amounts)


def is_same_padding(
    node: Node, window: Sequence[int], shape: Sequence[int], amounts: Sequence[tuple[int, int]]
) -> bool:
    """Whether SAME padding of an operator's unpadded input is what a PAD adds.

    Args:
        node: An operator that reads the padded activation.
        window: Rows and columns of its kernel or window.
        shape: The unpadded one, `[batch, rows, columns, channels]`.
        amounts: What is added before and after rows, and columns.
    """
    if node.option("padding", _SAME) != _VALID:
        return False
    sides = zip(shape[1:3], window, "HW", amounts, strict=True)
    for size, taps, side, (before, after) in sides:
        stride = int(node.option(f"stride{side}", 1))
        reach = (taps - 1) * int(node.option(f"dilation{side}Factor", 1)) + 1
        if stride < 1:
            return False
        count = -(-size // stride)
        missing = max((count - 1) * stride + reach - size, 0)
        if before != missing // 2 or (size + before + after - reach) // stride + 1 != count:
            return False
    return True

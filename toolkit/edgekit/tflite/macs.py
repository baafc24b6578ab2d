"""Count multiply-accumulates from shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from edgekit.targets.node import Node

# Beyond any sequence; the limit in a damaged file may be any number.
_MOST_RUNS: Final = 1 << 20


def macs(node: Node) -> int | None:
    """Return the multiply-accumulates of an operator per inference; None without a formula.

    Bias, activation and padding are not counted, as in the MobileNet papers' "Mult-Adds"
    (arXiv 1704.04861, section 3.1), except that windows over the padding count in full.
    """
    formula = _FORMULAS.get(node.name)
    try:
        return formula(node) if formula else None
    except (IndexError, _MissingError):  # an operator of a damaged file, without its inputs
        return None


def repetitions(operators: Sequence[Node]) -> dict[int, int]:
    """Return how often each graph of a file runs in one inference, where that can be read.

    A loop whose condition compares its counter with a constant runs its body that often, as the
    loops of recurrent layers do; graphs of other loops, and of branches, count once.

    Args:
        operators: All operators of a model (`nodes`).

    Returns:
        Index of a graph -> its number of runs, at least 1.
    """
    limits: dict[int, list[int]] = {}
    for node in operators:
        bound = node.input(1) if node.name == "LESS" else None
        values = bound.integers() if bound is not None else None
        if values is not None and len(values) == 1:
            limits.setdefault(node.graph, []).append(values[0])
    found: dict[int, int] = {}
    # A loop inside another stands in a later graph.
    for node in operators:
        if node.name == "WHILE":
            condition, body = (node.option(f"{part}SubgraphIndex", -1) for part in ("cond", "body"))
            runs = max(1, min(limits.get(condition, [1])))
            found[body] = min(runs * found.get(node.graph, 1), _MOST_RUNS)
    return found


class _MissingError(Exception):
    """The operator lacks an input that its formula needs."""


def _shape(node: Node, position: int) -> tuple[int, ...]:
    tensor = node.input(position)
    if tensor is None:
        raise _MissingError
    return tensor.shape


def _convolution(node: Node) -> int:
    """Convolution: filter `[out, height, width, in]`, with `in` per group."""
    return node.outputs[0].elements * math.prod(_shape(node, 1)[1:])


def _depthwise(node: Node) -> int:
    """Depthwise convolution: filter `[1, height, width, out]`."""
    return node.outputs[0].elements * math.prod(_shape(node, 1)[1:3])


def _convolution_3d(node: Node) -> int:
    """3-D convolution: filter `[depth, height, width, in, out]`."""
    return node.outputs[0].elements * math.prod(_shape(node, 1)[:4])


def _transposed(node: Node) -> int:
    """Transposed convolution: filter `[out, height, width, in]`, applied to every input."""
    return math.prod(_shape(node, 2)) * math.prod(_shape(node, 1)[:3])


def _dense(node: Node) -> int:
    """Fully connected: weights `[out, in]`."""
    return node.outputs[0].elements * _shape(node, 1)[-1]


def _matrix_product(node: Node) -> int:
    """Matrix product: left `[..., rows, inner]`, or `[..., inner, rows]` with `adjX`."""
    return node.outputs[0].elements * _shape(node, 0)[-2 if node.option("adjX", False) else -1]


def _recurrent(node: Node) -> int:
    """Recurrent: every weight matrix is used once per step; states are variable tensors."""
    steps = math.prod(_shape(node, 0)[:-1])
    return steps * sum(
        tensor.elements
        for tensor in node.inputs[1:]
        if tensor is not None and len(tensor.shape) == 2 and not tensor.variable
    )


_FORMULAS: Final[dict[str, Callable[[Node], int]]] = {
    "BATCH_MATMUL": _matrix_product,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent,
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent,
    "CONV_2D": _convolution,
    "CONV_3D": _convolution_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "SVDF": _recurrent,
    "TRANSPOSE_CONV": _transposed,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent,
}

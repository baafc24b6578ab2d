"""Find activations whose range is too narrow to tell anything.

A branch that no sample reached is 0 in all of them, as is a mask that hides nothing of them. Codes
of so narrow a range would hold it at 0 for ever. It has no range, then; what is 0 for any input (a
product with zeros, the first step of a recurrence) keeps its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Final

from edgekit.quantization.writer.constants import NARROWEST
from edgekit.quantization.writer.operators import OPERATORS
from edgekit.quantization.writer.precisions import real_inputs, real_outputs
from edgekit.targets.node import Node, Tensor

# Zero where one of the factors is, and where all inputs are.
_PRODUCTS: Final = frozenset({"BATCH_MATMUL", "MUL"})
_ZERO_OF_ZEROS: Final = frozenset(
    {
        *("ABS", "ADD", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "MEAN", "NEG", "PRELU"),
        *("RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "SQRT", "SQUARE"),
        *("SQUARED_DIFFERENCE", "SUB", "SUM", "TANH"),
    }
)


def unreached(
    operators: Sequence[Node], ranges: Mapping[int, tuple[float, float]]
) -> dict[int, str]:
    """Return the tensors whose range is too narrow to tell anything, and what to say of them.

    Args:
        operators: All operators of the graph, in execution order.
        ranges: Tensor index -> smallest and largest value.
    """
    narrow = {
        index: (low, high)
        for index, (low, high) in ranges.items()
        if max(high, 0.0) - min(low, 0.0) <= NARROWEST
    }
    if not narrow:
        return {}
    zeros = _always_zero(operators)
    names = {t.index: t for node in operators for t in (*node.inputs, *node.outputs) if t}
    found = {}
    for index, (low, high) in narrow.items():
        tensor = names.get(index)
        if tensor is None or tensor.variable or index in zeros:
            continue
        name = tensor.name.split(";")[0]
        if low == high == 0:
            found[index] = f"no sample reached {name}: it was always 0"
        else:
            found[index] = f"{name} was never beyond {max(abs(low), abs(high)):.1g}"
    return found


def _always_zero(operators: Sequence[Node]) -> set[int]:
    """Return the indices of the tensors that are 0 whatever the input."""
    zeros: set[int] = set()
    for node in operators:
        given = [tensor for _, tensor in real_inputs(node)]
        zeros.update(t.index for t in given if t.index not in zeros and _zero_constant(t))
        if given and _is_zero(node, given, zeros):
            zeros.update(tensor.index for tensor in real_outputs(node))
    return zeros


def _is_zero(node: Node, given: Sequence[Tensor], zeros: Container[int]) -> bool:
    row = OPERATORS.get(node.name)
    if node.name in _PRODUCTS:
        return any(tensor.index in zeros for tensor in given)
    if row is not None and row.weight is not None and row.axis is not None:
        factors = [node.input(row.activation), node.input(row.weight)]
        bias = None if row.bias is None else node.input(row.bias)
        return (bias is None or bias.index in zeros) and any(
            tensor is not None and tensor.index in zeros for tensor in factors
        )
    moves = row is not None and row.scale == "same"
    return (moves or node.name in _ZERO_OF_ZEROS) and all(t.index in zeros for t in given)


def _zero_constant(tensor: Tensor) -> bool:
    data = tensor.data
    # Few weights begin with zeros: most need no second look.
    return data is not None and not data[:64].any() and not data.any()

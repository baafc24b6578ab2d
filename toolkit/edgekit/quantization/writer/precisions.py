"""Decide which operators compute in integers, and why the others remain float."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from types import MappingProxyType

from edgekit.quantization.writer.operators import OPERATORS
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.loops import STAND_IN
from edgekit.tflite.lstm import BIAS_INPUTS, WEIGHT_INPUTS, is_plain

FLOAT = "float32"


def real_inputs(node: Node) -> list[tuple[int, Tensor]]:
    """Return the inputs of an operator that hold real numbers, with their numbers."""
    return [(i, t) for i, t in enumerate(node.inputs) if t is not None and t.dtype == FLOAT]


def real_outputs(node: Node) -> list[Tensor]:
    """Return the outputs of an operator that hold real numbers."""
    return [tensor for tensor in node.outputs if tensor.dtype == FLOAT]


def refusal(node: Node, bits: int | None) -> str | None:
    """Say why an operator remains float; None if its kind can compute in integers.

    Args:
        node: An operator with real inputs or outputs.
        bits: Width of the activations that is asked for; None for float.
    """
    row = OPERATORS.get(node.name)
    if bits is None:
        return "it is to remain float"
    if row is None:
        return f"{node.name} has no integer kernel"
    if bits not in row.bits:
        return f"{node.name} has no kernel with {bits}-bit activations"
    if row.recurrent:
        return _of_lstm(node)
    for number in row.parts:
        tensor = node.input(number)
        if tensor is not None and not tensor.constant:
            return "its weights are computed, not stored"
    if any(tensor.variable for tensor in (*node.inputs, *node.outputs) if tensor):
        return "it keeps a state"
    return None


def _of_lstm(node: Node) -> str | None:
    if not is_plain(tuple(-1 if tensor is None else tensor.index for tensor in node.inputs)):
        return "it has peepholes, a projection or no input gate"
    weights = (node.inputs[i] for i in (*WEIGHT_INPUTS, *BIAS_INPUTS))
    if not all(tensor is not None and tensor.constant for tensor in weights):
        return "its weights are computed, not stored"
    return None


def without_range(
    node: Node, ranged: Container[int], untold: Mapping[int, str] = MappingProxyType({})
) -> str | None:
    """Say which activation of an operator has no known range; None if all have one.

    Args:
        node: An operator of a known kind.
        ranged: Indices of the tensors whose range is known.
        untold: Tensor index -> why it has none.
    """
    parts = OPERATORS[node.name].parts
    computed = [t for i, t in real_inputs(node) if i not in parts and not t.constant]
    for tensor in (*computed, *real_outputs(node)):
        if tensor.index not in ranged:
            unknown = f"no range is known of {tensor.name.split(';')[0]}"
            return untold.get(tensor.index, unknown)
    return None


def between_floats(
    operators: Sequence[Node],
    integers: Container[int],
    given: Collection[int],
    needed: Collection[int],
) -> set[int]:
    """Return the indices of operators that only copy values from float to float.

    In integers they would need a QUANTIZE before and a DEQUANTIZE after them. What stands for a
    loop carries integers.

    Args:
        operators: All operators of the graph, in execution order.
        integers: Indices of those that can compute in integers.
        given: Indices of the graph's inputs that are float.
        needed: Indices of the graph's outputs that are integers.
    """
    copies = {n.index for n in operators if n.index in integers and _copies(n)}
    floats, codes = set(given), set(needed)
    for node in operators:
        inputs = {t.index for _, t in real_inputs(node) if not t.constant}
        apart = node.index not in integers and not node.name.startswith(STAND_IN)
        if apart or (node.index in copies and inputs <= floats):
            floats.update(tensor.index for tensor in node.outputs)
    between = set()
    for node in reversed(operators):
        if node.index not in integers and not node.name.startswith(STAND_IN):
            continue
        outputs = {tensor.index for tensor in real_outputs(node)}
        if node.index in copies and outputs <= floats and not outputs & codes:
            between.add(node.index)
        else:
            codes.update(tensor.index for _, tensor in real_inputs(node))
    return between


def _copies(node: Node) -> bool:
    return OPERATORS[node.name].scale == "same"

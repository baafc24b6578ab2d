"""Find the operators at the ends of a graph that would lose too much by codes of one scale.

Inside a graph, values must be codes. Before the first and after the last operator with weights they
need not: where inputs and outputs of a file are float, so can be what only scales, copies or joins
them. It remains float where an integer scale would leave values fewer than `LEAST_BITS`:

- raw features of different magnitudes in one scale, before a normalization brings them together;
- values far from zero, before what moves them there, or small ones before a logarithm;
- boxes and scores that a concatenation joins to one output;
- columns that are given magnitudes of their own just before the output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from edgekit.quantization.writer.operators import OPERATORS
from edgekit.quantization.writer.precisions import real_inputs, real_outputs
from edgekit.quantization.writer.scales import parameters_of
from edgekit.records import Array
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.loops import STAND_IN

LEAST_BITS: Final = 6
"""Fewer bits are too few: int8 that leaves 64 levels has lost two bits of eight."""

Bounds = Mapping[int, tuple[float, float]]
_AFFINE: Final = frozenset({"ADD", "DIV", "MUL", "SUB"})
_JOINING: Final = frozenset({"CONCATENATION", "PACK"})
# Functions that are steep at the lower end of what they are given.
_STEEP: Final[Mapping[str, Callable[[float], float]]] = {
    "LOG": np.log,
    "RSQRT": lambda x: x**-0.5,
    "SQRT": np.sqrt,
}


def lost_at_front(
    operators: Sequence[Node], widths: Mapping[int, int], ranges: Bounds, given: Iterable[int]
) -> dict[int, str]:
    """Return the operators before which values should not be quantized, and why.

    The step of the codes of what is given is followed through operators that scale or copy it, and
    compared with the step that their outputs could have.

    Args:
        operators: All operators of the graph, in execution order.
        widths: Operator index -> width of its activations; absent for float.
        ranges: Tensor index -> smallest and largest value.
        given: Indices of inputs of the graph that may be float.
    """
    sources = set(given)
    steps: dict[int, Array] = {}
    # Tensor index -> the operators between it and what is float.
    before: dict[int, list[Node]] = {}
    found: dict[int, str] = {}
    for node in operators:
        bits = widths.get(node.index)
        if bits is None:
            if not node.name.startswith(STAND_IN):
                sources.update(tensor.index for tensor in real_outputs(node))
            continue
        inputs = [tensor for _, tensor in real_inputs(node) if not tensor.constant]
        outputs = real_outputs(node)
        reached = all(t.index in sources or t.index in before for t in inputs)
        if not (inputs and outputs and reached) or not _known((*inputs, *outputs), ranges):
            continue
        own = [_step(ranges[tensor.index], bits) for tensor in (*inputs, *outputs)]
        reaching = [
            np.maximum(steps.get(t.index, 0.0), step) for t, step in zip(inputs, own, strict=False)
        ]
        passed = _passed(node, reaching, ranges[inputs[0].index][0])
        if passed is None:
            continue
        through = list(dict.fromkeys(n for t in inputs for n in before.get(t.index, ())))
        for tensor, step in zip(outputs, own[len(inputs) :], strict=True):
            steps[tensor.index] = np.maximum(passed, step)
            before[tensor.index] = [*through, node]
            levels = (1 << bits) * step / float(steps[tensor.index].max())
            if levels < 1 << LEAST_BITS:
                name = tensor.name.split(";")[0]
                why = f"given codes, {name} would have {_count(levels, bits)}"
                found.update({n.index: why for n in before[tensor.index] if n.index not in found})
    return found


def lost_at_back(
    operators: Sequence[Node], widths: Mapping[int, int], ranges: Bounds, codes: Collection[int]
) -> dict[int, str]:
    """Return the operators after which values should not be quantized, and why.

    Args:
        operators: All operators of the graph, in execution order.
        widths: Operator index -> width of its activations; absent for float.
        ranges: Tensor index -> smallest and largest value.
        codes: Indices of outputs of the graph that must be codes.
    """
    last = _last(operators, widths, codes)
    makers = {tensor.index: node for node in operators for tensor in node.outputs}
    found: dict[int, str] = {}
    for node in operators:
        inputs = [tensor for _, tensor in real_inputs(node) if not tensor.constant]
        if node.index not in last or not _known((*inputs, *real_outputs(node)), ranges):
            continue
        if any(t.index in makers and makers[t.index].index in found for t in inputs):
            found[node.index] = "what it is given is float"
            continue
        bits = widths[node.index]
        step = _step(ranges[real_outputs(node)[0].index], bits)
        spans = {
            tensor: _span(tensor, makers.get(tensor.index), ranges, bits)
            for tensor in (inputs if node.name in _JOINING else inputs[:1])
        }
        if not spans:
            continue
        narrow = min(spans, key=lambda tensor: spans[tensor])
        levels = spans[narrow] / step
        of = narrow.name.split(";")[0]
        if node.name in _AFFINE:
            levels *= _least_factor(node)
            of = "its narrowest column"
        elif node.name not in _JOINING:
            continue
        if levels < 1 << LEAST_BITS:
            found[node.index] = f"in one scale, {of} would have {_count(levels, bits)}"
    return found


def _last(operators: Sequence[Node], widths: Mapping[int, int], codes: Collection[int]) -> set[int]:
    """Return the operators whose results, scaled, copied and joined at most, end in floats."""
    needed = set(codes)
    last: set[int] = set()
    for node in reversed(operators):
        if node.index not in widths and not node.name.startswith(STAND_IN):
            continue
        outputs = {tensor.index for tensor in real_outputs(node)}
        moves = node.index in widths and scales_or_copies(node)
        if moves and outputs and not outputs & needed:
            last.add(node.index)
        else:
            needed.update(tensor.index for _, tensor in real_inputs(node))
    return last


def scales_or_copies(node: Node) -> bool:
    """Whether an operator does no more than to copy one input, or to scale it by a constant."""
    return node.name in OPERATORS and (_copies(node) or _affine(node))


def _copies(node: Node) -> bool:
    return OPERATORS[node.name].scale == "same"


def _affine(node: Node) -> bool:
    """Whether an operator scales or moves one input by a constant."""
    if node.name not in _AFFINE:
        return False
    inputs = [tensor for _, tensor in real_inputs(node)]
    if any(t.data is not None and t.data.size != 4 * t.elements for t in inputs):
        return False  # a damaged constant, which is told where it is read
    constants = [tensor.constant for tensor in inputs]
    return constants == [False, True] or (constants == [True, False] and node.name != "DIV")


def _constant(node: Node) -> Array:
    """Return the factors or terms of an affine operator."""
    tensor = next(t for _, t in real_inputs(node) if t.constant)
    assert tensor.data is not None
    values: Array = np.asarray(tensor.data).view(np.float32).astype(np.float64)
    return values.reshape(tensor.shape)


def _passed(node: Node, steps: Sequence[Array], low: float) -> Array | None:
    """Return the step of an operator's output by those of its inputs; None for other kinds.

    Args:
        node: The operator.
        steps: Step of each computed input: a single value, or one for each index of last axes.
        low: The smallest value of the first input.
    """
    largest = np.max([step.max() for step in steps])
    if _affine(node):
        if node.name not in {"DIV", "MUL"}:
            return steps[0]
        factor = np.abs(_constant(node))
        return steps[0] * (factor if node.name == "MUL" else 1 / np.maximum(factor, 1e-30))
    if node.name in _STEEP:
        least = max(low, float(largest) * 1e-6)
        function = _STEEP[node.name]
        return np.array(abs(function(least + float(largest)) - function(least)))
    return np.array(largest) if _copies(node) else None


def _span(tensor: Tensor, maker: Node | None, ranges: Bounds, bits: int) -> float:
    """Return how wide the codes of a tensor reach by themselves, from its lowest to its highest."""
    fixed = None
    if maker is not None and maker.name in OPERATORS:
        fixed = OPERATORS[maker.name].prescribed(bits)
    step = fixed.scale if fixed is not None else _step(ranges[tensor.index], bits)
    return step * (1 << bits)


def _least_factor(node: Node) -> float:
    """Return the least factor that an affine operator multiplies with, zeros apart."""
    factors = np.abs(_constant(node)) if node.name in {"DIV", "MUL"} else np.ones(1)
    factors = factors[factors > 0]
    if not factors.size:
        return 1.0
    return float(factors.min() if node.name == "MUL" else 1 / factors.max())


def _step(ends: tuple[float, float], bits: int) -> float:
    return parameters_of(*ends, bits).scale


def _known(tensors: Iterable[Tensor], ranges: Bounds) -> bool:
    return all(tensor.index in ranges for tensor in tensors)


def _count(levels: float, bits: int) -> str:
    return f"{max(round(levels), 2)} of {1 << bits} levels"

"""Predict whether unstructured zeros make a model faster, by XNNPACK's sparse inference.

XNNPACK (the CPU delegate of LiteRT) uses sparse kernels for a part of a network that goes from a
convolution which converts NHWC to NCHW to a mean over space, if every operator in it supports NCHW
and more than two thirds of the weights of its 1x1 kernels are zero. The rules are those of
XNNPACK's `src/subgraph.c` (`xnn_check_nchw_compatibility`, `xnn_subgraph_rewrite_for_nchw`). Each
is a predicate `constraint_*` whose docstring is the message for the user. They apply to CPUs other
than x86 with AVX, on which XNNPACK always uses its dense kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgekit.records import TargetFit
from edgekit.targets.node import Node, Tensor

Padding = tuple[int, int, int, int]
Constraint = Callable[[Node, Padding | None], bool]

_EXITS: Final = frozenset({"MEAN", "SUM", "DEPTH_TO_SPACE"})
_UNPACKING: Final = frozenset({"DENSIFY", "DEQUANTIZE"})
_CONVOLUTIONS: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
_SAME: Final = 0
_ENTRY: Final = "a 3x3 convolution of stride 2 on 3 channels, padded by 1 around"


def fit(nodes: Sequence[Node], sparsity: float | None = None) -> TargetFit:
    """Predict whether XNNPACK runs a model with its sparse kernels, and if not, why.

    Args:
        nodes: All operators of a model, in execution order.
        sparsity: Future share of zeros in the 1x1 and dense kernels of a model to be pruned; None
            counts the actual zeros, and checks that they are stored sparse.
    """
    graph = _Graph.of([node for node in nodes if node.graph == 0])
    reasons = []
    # The last mean is that of the whole network; others belong to squeeze-excite blocks.
    for last in reversed([node for node in graph.nodes if node.name in _EXITS]):
        stretch: dict[int, Node] = {}
        reason = _walk(graph, last, stretch) or _outside(graph, stretch)
        if reason is None:
            reason = _zeros(graph, stretch, sparsity)
        if reason is None:
            return TargetFit(mapped=True)
        reasons.append(reason)
    return TargetFit(
        mapped=False, reason=reasons[0] if reasons else "It has no mean over space to end in."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    """A graph indexed by tensors.

    Attributes:
        nodes: In execution order.
        producers: Tensor index -> the operator that computes it.
        consumers: Tensor index -> the operators that read it.
        unpacked: Tensor index of a constant unpacked at load time -> the stored constant.
    """

    nodes: Sequence[Node]
    producers: dict[int, Node] = field(default_factory=dict)
    consumers: dict[int, list[Node]] = field(default_factory=dict)
    unpacked: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> _Graph:
        graph = cls(nodes=nodes)
        for node in nodes:
            first = node.input(0)
            if node.name in _UNPACKING and first is not None:
                stored = first if first.constant else graph.unpacked.get(first.index)
                if stored is not None:
                    graph.unpacked[node.outputs[0].index] = stored
                    continue
            graph.producers.update({tensor.index: node for tensor in node.outputs})
            for tensor in graph.moving(node):
                graph.consumers.setdefault(tensor.index, []).append(node)
        return graph

    def moving(self, node: Node) -> Iterator[Tensor]:
        """Return the computed inputs, which are no constants."""
        for tensor in node.inputs:
            if tensor is not None and not tensor.constant and tensor.index not in self.unpacked:
                yield tensor

    def sources(self, node: Node) -> Iterator[tuple[Tensor, Node | None]]:
        """Return its inputs and their producers, seen through a PAD that is fused into it."""
        pad = self.pad(node)
        for tensor in self.moving(pad or node):
            yield tensor, self.producers.get(tensor.index)

    def pad(self, node: Node) -> Node | None:
        """Return the PAD that XNNPACK fuses into a convolution without padding."""
        data = node.input(0)
        if node.name not in _CONVOLUTIONS or data is None or _is_same(node):
            return None
        producer = self.producers.get(data.index)
        return producer if producer is not None and producer.name == "PAD" else None

    def padding(self, node: Node) -> Padding | None:
        """Return rows and columns added above, below, left and right; None if unknown."""
        if _is_same(node):
            # SAME padding is symmetric at stride 1 only.
            rows, columns = (size // 2 for size in _window(node))
            return (rows, rows, columns, columns) if _strides(node) == (1, 1) else None
        pad = self.pad(node)
        if pad is None:
            return 0, 0, 0, 0
        amounts = pad.input(1)
        values = amounts.integers() if amounts is not None else None
        return (values[2], values[3], values[4], values[5]) if values and len(values) == 8 else None


def constraint_known_operator(node: Node, _: Padding | None) -> bool:
    """XNNPACK's sparse path has no such operator."""
    return node.name in OPERATORS


def constraint_float(node: Node, _: Padding | None) -> bool:
    """It must compute in float32 or float16; integers are not accelerated."""
    return all(tensor.dtype in {"float32", "float16"} for tensor in node.outputs)


def constraint_four_dimensions(node: Node, _: Padding | None) -> bool:
    """Its inputs must have four dimensions."""
    return all(
        len(tensor.shape) == 4
        for tensor in node.inputs
        if tensor is not None and tensor.dtype.startswith("float")
    )


def constraint_data_of_four_dimensions(node: Node, _: Padding | None) -> bool:
    """It must reduce four dimensions."""
    first = node.input(0)
    return first is not None and len(first.shape) == 4


def constraint_plain_convolution(node: Node, _: Padding | None) -> bool:
    """It must have neither dilation nor groups."""
    data, kernel = node.input(0), node.input(1)
    if data is None or kernel is None:
        return False
    return _undilated(node) and kernel.shape[3] == data.shape[3]


def constraint_pointwise(node: Node, padding: Padding | None) -> bool:
    """It must be 1x1 with stride 1; the first 3x3, stride 2, on 3 channels, padded by 1 around."""
    if _is_entry(node, padding):
        return True
    return _window(node) == (1, 1) and _strides(node) == (1, 1) and not any(padding or (1,))


def constraint_depthwise(node: Node, padding: Padding | None) -> bool:
    """It must be 3x3 or 5x5, stride 1 or 2, padded by 1 or 2 around, one output a channel."""
    # SAME padding at stride 2 is uneven: in Keras, ZeroPadding2D and padding="valid" instead.
    sides = {(3, 3): 1, (5, 5): 2}.get(_window(node))
    return (
        sides is not None
        and padding == (sides,) * 4
        and _strides(node) in {(1, 1), (2, 2)}
        and node.option("depthMultiplier", 1) == 1
        and _undilated(node)
    )


def constraint_large_enough(node: Node, _: Padding | None) -> bool:
    """It must not resize from a single row or column."""
    first = node.input(0)
    return first is not None and len(first.shape) == 4 and min(first.shape[1:3]) > 1


_BINARY: Final = (constraint_four_dimensions,)
_UNARY: Final = (constraint_four_dimensions,)
_REDUCTION: Final = (constraint_data_of_four_dimensions,)
OPERATORS: Final[Mapping[str, tuple[Constraint, ...]]] = {
    "CONV_2D": (constraint_plain_convolution, constraint_pointwise),
    "DEPTHWISE_CONV_2D": (constraint_depthwise,),
    "DEPTH_TO_SPACE": (),
    "FULLY_CONNECTED": (),
    "RESIZE_BILINEAR": (constraint_large_enough,),
    **dict.fromkeys(("ADD", "MUL"), _BINARY),
    **dict.fromkeys(("MEAN", "SUM"), _REDUCTION),
    **dict.fromkeys(
        (
            *("ABS", "CEIL", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU"),
            *("LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SQRT"),
            *("SQUARE", "TANH"),
        ),
        _UNARY,
    ),
}


def broken_rule(node: Node, padding: Padding | None) -> str | None:
    """The first rule an operator breaks, in the user's words; None where it keeps them all."""
    rules = (constraint_known_operator, constraint_float, *OPERATORS.get(node.name, ()))
    return next(((rule.__doc__ or "").strip() for rule in rules if not rule(node, padding)), None)


def _walk(graph: _Graph, last: Node, stretch: dict[int, Node]) -> str | None:
    """Collect the operators from the entry to `last`; return why the part is not supported."""
    ahead = [last]
    while ahead:
        node = ahead.pop()
        if node.index in stretch:
            continue
        padding = graph.padding(node) if node.name in _CONVOLUTIONS else None
        if reason := broken_rule(node, padding):
            return f"{_called(node)}: {reason}"
        stretch[node.index] = node
        if _is_entry(node, padding):
            continue
        for _, producer in graph.sources(node):
            if producer is None:
                return f"{_called(node)} reads the model's input, which must go through {_ENTRY}."
            ahead.append(producer)
    return None


def _outside(graph: _Graph, stretch: Mapping[int, Node]) -> str | None:
    """Return an operator outside that reads a value computed inside."""
    for node in stretch.values():
        for tensor, producer in graph.sources(node):
            if producer is None or producer.index not in stretch:
                continue
            for reader in graph.consumers[tensor.index]:
                if reader.index not in stretch and reader.name != "PAD":
                    return f"{_called(reader)} reads a value from inside the sparse part."
    return None


def _zeros(graph: _Graph, stretch: Mapping[int, Node], sparsity: float | None) -> str | None:
    """Compare the zeros of the 1x1 and dense kernels with the required two thirds."""
    kernels = [
        graph.unpacked.get(tensor.index, tensor)
        for node in stretch.values()
        if node.name == "FULLY_CONNECTED" or (node.name == "CONV_2D" and _window(node) == (1, 1))
        if (tensor := node.input(1)) is not None
    ]
    total = sum(kernel.elements for kernel in kernels)
    if not total:
        return "It has no 1x1 convolution between its first convolution and the mean."
    if sparsity is None:
        sparsity = sum(_count(kernel) for kernel in kernels) / total
        if not any(node.name == "DENSIFY" for node in graph.nodes):
            return "Its weights are not stored sparse."
    if sparsity <= 2 / 3:
        return f"Zeros are {sparsity:.1%} of its 1x1 kernels; it takes more than two thirds."
    return None


def _count(kernel: Tensor) -> int:
    """Return the number of zeros in a kernel; a sparse one stores only the nonzero weights."""
    if kernel.data is None:
        return 0
    values = np.asarray(kernel.data).view(kernel.dtype)
    return kernel.elements - int(np.count_nonzero(values))


def _is_entry(node: Node, padding: Padding | None) -> bool:
    kernel = node.input(1)
    return (
        node.name == "CONV_2D"
        and kernel is not None
        and kernel.shape[1:] == (3, 3, 3)
        and _strides(node) == (2, 2)
        and padding == (1, 1, 1, 1)
    )


def _undilated(node: Node) -> bool:
    return (node.option("dilationHFactor", 1), node.option("dilationWFactor", 1)) == (1, 1)


def _strides(node: Node) -> tuple[int, int]:
    return node.option("strideH", 1), node.option("strideW", 1)


def _window(node: Node) -> tuple[int, int]:
    """Return height and width of a convolution's kernel; empty for other operators."""
    kernel = node.input(1)
    if kernel is None or len(kernel.shape) != 4:
        return 0, 0
    return kernel.shape[1], kernel.shape[2]


def _is_same(node: Node) -> bool:
    return bool(node.option("padding", _SAME) == _SAME)


def _called(node: Node) -> str:
    return f"{node.name} (operator {node.index})"

"""Predict which operators Google's Edge TPU compiler maps.

The compiler makes one partition: it maps supported operators up to the first that remains on the
CPU; all operators that depend on it remain there too. Rules from Coral's "TensorFlow models on the
Edge TPU", https://coral.ai/docs/edgetpu/models-intro (runtime 14), corrected where compiled models
differ. Each rule is a predicate `constraint_*` whose docstring is the message for the user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final

from edgekit.records import TargetFit
from edgekit.targets.node import Node, Tensor
from edgekit.targets.target import Target

COMPILED: Final = "edgetpu-custom-op"
Constraint = Callable[[Node], bool]

_FLOATS: Final = frozenset({"float16", "bfloat16", "float32", "float64"})
_EIGHT_BIT: Final = frozenset({"int8", "uint8"})


def fit(nodes: Sequence[Node]) -> dict[int, TargetFit]:
    """Predict for each operator whether it runs on the Edge TPU.

    Args:
        nodes: All operators of a model, in execution order.

    Returns:
        Operator index -> fit. For a model that Google's compiler has processed it is no prediction,
        and the reason says so.
    """
    if any(node.name == COMPILED for node in nodes):
        return {node.index: _as_compiled(node) for node in nodes}
    answers: dict[int, TargetFit] = {}
    # One answer for all operators of a reason: a model may have hundreds of thousands.
    known: dict[str | None, TargetFit] = {}
    producers: dict[int, dict[int, Node]] = {}
    # Operators that end the partition for all that depend on them, and whether the partition
    # precedes them: an operator before the partition (a CAST of the input) does not end it.
    blockers: dict[int, Node] = {}
    after_partition: set[int] = set()
    for node in nodes:
        made = producers.setdefault(node.graph, {})
        sources = [made[tensor.index] for tensor in node.inputs if tensor and tensor.index in made]
        follows = any(source.index in after_partition for source in sources)
        blocker = next((blockers[s.index] for s in sources if s.index in blockers), None)
        reason = broken_rule(node)
        follower = reason is None and blocker is not None
        if follower and blocker is not None:
            reason = (
                f"It depends on {blocker.name} (operator {blocker.index}), which stays on the CPU; "
                "the compiler makes one partition only."
            )
        if reason is None or follows:
            after_partition.add(node.index)
        if reason is not None and follows:
            blockers[node.index] = blocker or node
        if reason not in known:
            known[reason] = TargetFit(mapped=reason is None, reason=reason, follows=follower)
        answers[node.index] = known[reason]
        for tensor in node.outputs:
            made[tensor.index] = node
    return answers


def broken_rule(node: Node) -> str | None:
    """Return the message of the first rule that an operator violates; None if it obeys all."""
    for constraint in _rules(node.name):
        if not constraint(node):
            return _words(constraint)
    return None


@lru_cache(maxsize=256)  # names of custom operators are the file's
def _rules(name: str) -> tuple[Constraint, ...]:
    # Rules of an operator are more specific than those on types and shapes.
    return (*_KINDS, *OPERATORS.get(name, ()), *_TYPES_AND_SHAPES)


def reference() -> str:
    """Return a Markdown page of the supported operators and their limits."""
    lines = [
        "# Operators of the Coral Edge TPU, as edgekit predicts them",
        "",
        "What keeps any operator on the CPU:",
        "",
        *(f"- {_words(constraint)}" for constraint in EVERY_OPERATOR),
        "- It depends on an operator that stayed on the CPU after the partition began.",
        "",
        "| operator | limits |",
        "|---|---|",
    ]
    for name, constraints in sorted(OPERATORS.items()):
        lines.append(f"| {name} | {' '.join(map(_words, constraints)) or '-'} |")
    return "\n".join(lines) + "\n"


def constraint_known_operator(node: Node) -> bool:
    """The Edge TPU has no such operator."""
    # DEQUANTIZE has no rule here; the two rules on floats below give a more specific reason.
    return node.name in OPERATORS or node.name == "DEQUANTIZE"


def constraint_edge_of_the_model(node: Node) -> bool:
    """Converting from or to float runs on the CPU; int8 inputs and outputs do without it."""
    if node.name not in {"QUANTIZE", "DEQUANTIZE"}:
        return True
    stored = all(tensor is None or tensor.constant for tensor in node.inputs)
    return stored or not any(tensor.dtype in _FLOATS for tensor in _all(node))


def constraint_quantized(node: Node) -> bool:
    """It is not fully quantized; use --mode int8."""
    return not any(tensor.dtype in _FLOATS for tensor in _all(node))


def constraint_eight_bit(node: Node) -> bool:
    """It computes something other than int8 or uint8; use --mode int8."""
    computed = [t for t in node.inputs if t is not None and not t.constant and not t.variable]
    return all(tensor.dtype in _EIGHT_BIT for tensor in (*computed, *node.outputs))


def constraint_static(node: Node) -> bool:
    """A dimension is not known beforehand; fix the batch and the input size."""
    return not any(tensor.dynamic for tensor in _all(node))


def constraint_three_dimensions(node: Node) -> bool:
    """A dimension beyond the innermost three is larger than 1; use batch 1."""
    moving = [t for t in _all(node) if not t.constant and not t.variable]
    return all(math.prod(tensor.shape[:-3]) == 1 for tensor in moving)


def constraint_main_graph(node: Node) -> bool:
    """It lies in the body of a loop or condition, which the compiler does not enter."""
    return node.graph == 0


def constraint_constant_parameters(node: Node) -> bool:
    """Weights and bias must be constants."""
    return all(tensor is None or tensor.constant for tensor in node.inputs[1:3])


def constraint_constant_weights(node: Node) -> bool:
    """Weights must be constants."""
    weights = node.input(1)
    return weights is not None and weights.constant


def constraint_constant_axes(node: Node) -> bool:
    """Axes, sizes, paddings and permutations must be constants."""
    return all(tensor is None or tensor.constant for tensor in node.inputs[1:])


def constraint_no_activation(node: Node) -> bool:
    """No activation may be fused into it."""
    return bool(node.option("fusedActivationFunction", 0) == 0)


def constraint_equal_dilation(node: Node) -> bool:
    """Dilation must be the same in x and y."""
    return bool(node.option("dilationWFactor", 1) == node.option("dilationHFactor", 1))


def constraint_concatenates_zeros(node: Node) -> bool:
    """A constant may be concatenated only if it is all zeros and there are exactly two inputs."""
    stored = [t.data for t in node.inputs if t is not None and t.data is not None]
    return not stored or (len(node.inputs) == 2 and not any(data.any() for data in stored))


def constraint_default_weights(node: Node) -> bool:
    """Weights must be in the default format."""
    return bool(node.option("weightsFormat", 0) == 0)


def constraint_not_over_batch(node: Node) -> bool:
    """It must not reduce over the batch."""
    return not _touches_batch(axes=node.input(1), data=node.input(0))


def constraint_no_split_of_batch(node: Node) -> bool:
    """It must not split the batch."""
    return not _touches_batch(axes=node.input(0), data=node.input(1))


def constraint_no_pack_of_batch(node: Node) -> bool:
    """It must not pack along the batch."""
    first = node.input(0)
    return first is None or node.option("axis", 0) % (len(first.shape) + 1) != 0


def constraint_no_padding_of_batch(node: Node) -> bool:
    """It must not pad the batch."""
    paddings = node.input(1)
    values = paddings.integers() if paddings is not None else None
    return values is not None and values[:2] == (0, 0)


def constraint_one_slope_per_channel(node: Node) -> bool:
    """Its slopes must be 1-D, one for each channel; in Keras, PReLU(shared_axes=[1, 2])."""
    alpha = node.input(1)
    return alpha is not None and alpha.constant and math.prod(alpha.shape[:-1]) == 1


def constraint_softmax_size(node: Node) -> bool:
    """It must be over one row of at most 16,000 elements."""
    return all(
        tensor is not None and math.prod(tensor.shape[:-1]) == 1 and tensor.elements <= 16_000
        for tensor in node.inputs
    )


def constraint_unit_strides(node: Node) -> bool:
    """All strides must be 1, with no ellipsis and no new axis."""
    strides = node.input(3)
    values = strides.integers() if strides is not None else None
    masks = node.option("ellipsisMask", 0) or node.option("newAxisMask", 0)
    return values is not None and all(value == 1 for value in values) and not masks


def constraint_resize_size(node: Node) -> bool:
    """It must resize at most 8 times, not from 1x1, and to at most 256 x 256."""
    # Reported in google-coral/edgetpu issues 31 and 187: 64 -> 128 is mapped, 256 -> 512 is not.
    # The compiler's bounds are not published; these lie between the observed cases.
    source = node.input(0)
    if source is None or len(source.shape) != 4 or not node.outputs:
        return False
    before, after = source.shape[1:3], node.outputs[0].shape[1:3]
    if before == after:
        return True
    return (
        math.prod(before) > 1
        and math.prod(after) <= 256 * 256
        and all(new <= 8 * old for old, new in zip(before, after, strict=False))
    )


_KINDS: Final[tuple[Constraint, ...]] = (
    constraint_known_operator,
    constraint_main_graph,
    constraint_edge_of_the_model,
    constraint_quantized,
)
_TYPES_AND_SHAPES: Final[tuple[Constraint, ...]] = (
    constraint_static,
    constraint_eight_bit,
    constraint_three_dimensions,
)
EVERY_OPERATOR: Final = _KINDS + _TYPES_AND_SHAPES
_REDUCTION: Final = (constraint_constant_axes, constraint_not_over_batch)
_RESIZE: Final = (constraint_constant_axes, constraint_resize_size)
_CONVOLUTION: Final = (constraint_constant_parameters, constraint_equal_dilation)
OPERATORS: Final[Mapping[str, tuple[Constraint, ...]]] = {
    "ADD": (),
    "AVERAGE_POOL_2D": (constraint_no_activation,),
    "CONCATENATION": (constraint_no_activation, constraint_concatenates_zeros),
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "EXPAND_DIMS": (constraint_constant_axes,),
    "FULLY_CONNECTED": (constraint_constant_parameters, constraint_default_weights),
    "L2_NORMALIZATION": (),
    "LOGISTIC": (),
    "MAXIMUM": (),
    "MAX_POOL_2D": (constraint_no_activation,),
    "MEAN": _REDUCTION,
    "MINIMUM": (),
    "MUL": (),
    "PACK": (constraint_no_pack_of_batch,),
    "PAD": (constraint_constant_axes, constraint_no_padding_of_batch),
    "PRELU": (constraint_one_slope_per_channel,),
    "QUANTIZE": (),
    "REDUCE_MAX": _REDUCTION,
    "REDUCE_MIN": _REDUCTION,
    "RELU": (),
    "RELU6": (),
    "RELU_N1_TO_1": (),
    "RESHAPE": (constraint_constant_axes,),
    "RESIZE_BILINEAR": _RESIZE,
    "RESIZE_NEAREST_NEIGHBOR": _RESIZE,
    "RSQRT": (),
    "SLICE": (constraint_constant_axes,),
    "SOFTMAX": (constraint_softmax_size,),
    "SPACE_TO_DEPTH": (),
    "SPLIT": (constraint_no_split_of_batch,),
    "SQUARED_DIFFERENCE": (),
    "SQUEEZE": (),
    "STRIDED_SLICE": (constraint_constant_axes, constraint_unit_strides),
    "SUB": (),
    "SUM": _REDUCTION,
    "TANH": (),
    "TILE": (constraint_constant_axes,),
    "TRANSPOSE": (constraint_constant_axes,),
    "TRANSPOSE_CONV": (constraint_constant_weights,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (constraint_constant_weights,),
}


def _as_compiled(node: Node) -> TargetFit:
    if node.name == COMPILED:
        return TargetFit(mapped=True, reason="Compiled by Google's Edge TPU compiler.")
    return TargetFit(mapped=False, reason="Google's Edge TPU compiler left it on the CPU.")


def _all(node: Node) -> tuple[Tensor, ...]:
    return (*(tensor for tensor in node.inputs if tensor is not None), *node.outputs)


@cache
def _words(constraint: Constraint) -> str:
    return (constraint.__doc__ or "").strip()


def _touches_batch(*, axes: Tensor | None, data: Tensor | None) -> bool:
    """Whether `axes` includes the outermost dimension; unknown axes count as including it."""
    values = axes.integers() if axes is not None else None
    if values is None or data is None or not data.shape:
        return True
    return any(value % len(data.shape) == 0 for value in values)


TARGET = Target(predicted=True, fit=lambda nodes, _: fit(nodes), edge_tpu=True)

"""Predict which operators XNNPACK runs on an Android phone (arm64) with LiteRT 2.

LiteRT delegates supported operators to XNNPACK, its library of fast CPU kernels; TFLite's own
kernels run the rest, so that every model runs. The rules are those of LiteRT's delegate,
`tflite/delegates/xnnpack/xnnpack_delegate.cc`, corrected where LiteRT 2.3 behaves differently. Each
is a predicate `constraint_*` whose docstring is the message for the user. Two things are not
checked: the ratios of scales, which 8-bit ADD, SUB, MUL, QUANTIZE and LEAKY_RELU limit (1/1024 to
256 at the narrowest for ADD), and support by other runtimes of a phone (GPU, NPU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from edgekit.records import TargetFit
from edgekit.targets import cpu
from edgekit.targets.node import Node, Tensor
from edgekit.targets.target import Settings, Target

Constraint = Callable[[Node], bool]

_XNNPACK: Final = "xnnpack"
_EIGHT_BIT: Final = frozenset({"int8", "uint8"})
_FLOAT_OR_EIGHT_BIT: Final = _EIGHT_BIT | {"float32"}
_STORED_HALF: Final = frozenset({"float16", "int8", "uint8"})
_UNPACKING: Final = frozenset({"DEQUANTIZE", "DENSIFY"})
_MOST_DIMENSIONS: Final = 6
_PLAIN_ACTIVATIONS: Final = frozenset({0, 1, 2, 3})
"""Schema numbers of the fused activations none, RELU, RELU_N1_TO_1, RELU6."""


def fit(nodes: Sequence[Node], settings: Settings | None = None) -> dict[int, TargetFit]:
    """Predict for each operator whether XNNPACK runs it, and whether TFLite's own kernels do.

    Args:
        nodes: All operators of a model, in execution order.
        settings: `xnnpack`: whether all are to be run by XNNPACK, so that own kernels do not count.

    Returns:
        Operator index -> fit.
    """
    fall_back = not (settings or {}).get(_XNNPACK)
    unpacked: dict[tuple[int, int], Tensor] = {}
    answers: dict[int, TargetFit] = {}
    for node in nodes:
        reason = broken_rule(_with_unpacked(node, unpacked))
        answers[node.index] = TargetFit(
            mapped=reason is None,
            reason=reason,
            own_kernel=reason is not None and fall_back and cpu.has_kernel(node),
        )
        # XNNPACK unpacks float16 and sparse constants at load time: they still count as constants.
        stored = node.input(0)
        if node.name in _UNPACKING and stored is not None:
            stored = unpacked.get((node.graph, stored.index), stored)
            if stored.constant:
                unpacked.update({(node.graph, tensor.index): stored for tensor in node.outputs})
    return answers


def broken_rule(node: Node) -> str | None:
    """Return the message of the first rule that an operator violates; None if it obeys all."""
    for constraint in (*EVERY_OPERATOR, *OPERATORS.get(node.name, ())):
        if not constraint(node):
            return (constraint.__doc__ or "").strip()
    return None


def constraint_known_operator(node: Node) -> bool:
    """XNNPACK has no such operator; it runs on TFLite's own kernels."""
    return node.name in OPERATORS


def constraint_main_graph(node: Node) -> bool:
    """It lies in the body of a loop or condition, for which nothing is predicted."""
    return node.graph == 0


def constraint_dimensions(node: Node) -> bool:
    """It has a tensor of more than six dimensions."""
    return all(len(tensor.shape) <= _MOST_DIMENSIONS for tensor in _tensors(node))


def constraint_float_or_eight_bit(node: Node) -> bool:
    """XNNPACK computes it in float32, int8 and uint8 only."""
    return all(tensor.dtype in _FLOAT_OR_EIGHT_BIT for tensor in _computed(node))


def constraint_float(node: Node) -> bool:
    """XNNPACK computes it in float32 only."""
    return all(tensor.dtype == "float32" for tensor in _computed(node))


def constraint_float_or_int8(node: Node) -> bool:
    """XNNPACK computes it in float32 and int8 only."""
    return all(tensor.dtype in {"float32", "int8"} for tensor in _computed(node))


def constraint_one_type(node: Node) -> bool:
    """Inputs and outputs must have one type."""
    return len({tensor.dtype for tensor in _computed(node)}) == 1


def constraint_one_type_of_operands(node: Node) -> bool:
    """Both operands and the result must have one type."""
    return len({tensor.dtype for tensor in _tensors(node)}) == 1


def constraint_quantizes(node: Node) -> bool:
    """It must go from float32, or between tensors of one 8-bit type."""
    source = node.input(0)
    return source is not None and all(
        tensor.dtype in _EIGHT_BIT and source.dtype in {"float32", tensor.dtype}
        for tensor in node.outputs
    )


def constraint_dequantizes(node: Node) -> bool:
    """It must go from int8, uint8 or a float16 constant to float32."""
    source = node.input(0)
    if source is None:
        return False
    types = _STORED_HALF if source.constant else _EIGHT_BIT
    return source.dtype in types and all(t.dtype == "float32" for t in node.outputs)


def constraint_unpacks_a_constant(node: Node) -> bool:
    """What is stored sparse must be a constant."""
    source = node.input(0)
    return source is not None and source.constant


def constraint_constant_weights(node: Node) -> bool:
    """Weights and bias must be constants."""
    return all(tensor is None or tensor.constant for tensor in node.inputs[1:3])


def constraint_has_bias(node: Node) -> bool:
    """It must have a bias."""
    return node.input(2) is not None


def constraint_weights_like_input(node: Node) -> bool:
    """Its weights must have the type of its input."""
    return _weight_types(node) in {("float32", "float32"), ("int8", "int8"), ("uint8", "uint8")}


def constraint_weights_of_eight_bits(node: Node) -> bool:
    """Beside a float32 input its weights must be float32 or int8."""
    return _weight_types(node) == ("float32", "int8") or constraint_weights_like_input(node)


def constraint_dense_weights(node: Node) -> bool:
    """Its weights must be of its input's type, int8, or int4 with an even number of inputs."""
    weights = node.input(1)
    if weights is not None and weights.dtype == "int4" and weights.shape[-1:] != ():
        return weights.shape[-1] % 2 == 0 and _weight_types(node)[0] in {"float32", "int8"}
    return constraint_weights_of_eight_bits(node)


def constraint_constant_axes(node: Node) -> bool:
    """Axes, sizes, paddings and permutations must be constants."""
    return all(tensor is None or tensor.constant for tensor in node.inputs[1:])


def constraint_constant_slopes(node: Node) -> bool:
    """Its slopes must be constants."""
    return all(tensor is None or tensor.constant for tensor in node.inputs[1:2])


def constraint_plain_activation(node: Node) -> bool:
    """Its fused activation must be none, RELU, RELU_N1_TO_1 or RELU6."""
    return node.option("fusedActivationFunction", 0) in _PLAIN_ACTIVATIONS


def constraint_pooling_window(node: Node) -> bool:
    """Pooling of 1x1 must have stride 1."""
    window = node.option("filterHeight", 1), node.option("filterWidth", 1)
    strides = node.option("strideH", 1), node.option("strideW", 1)
    return window != (1, 1) or strides == (1, 1)


def constraint_plain_softmax(node: Node) -> bool:
    """Its beta must be 1."""
    return bool(node.option("beta", 1.0) == 1.0)


def constraint_two_to_five_inputs(node: Node) -> bool:
    """It must have two to five inputs."""
    return 2 <= len(node.inputs) <= 5


def constraint_two_to_four_outputs(node: Node) -> bool:
    """It must have two to four outputs, and a constant axis."""
    axis = node.input(0)
    return 2 <= len(node.outputs) <= 4 and axis is not None and axis.constant


def constraint_unit_strides(node: Node) -> bool:
    """All strides must be 1, with no ellipsis, no new axis and no axis dropped."""
    strides = node.input(3)
    values = strides.integers() if strides is not None else None
    masks = [node.option(f"{name}Mask", 0) for name in ("ellipsis", "newAxis", "shrinkAxis")]
    return values is not None and all(value == 1 for value in values) and not any(masks)


EVERY_OPERATOR: Final[tuple[Constraint, ...]] = (
    constraint_known_operator,
    constraint_main_graph,
    constraint_dimensions,
)
_UNARY: Final = (constraint_float,)
_EIGHT_BIT_UNARY: Final = (constraint_float_or_eight_bit, constraint_one_type)
_BINARY: Final = (
    constraint_float_or_eight_bit,
    constraint_one_type_of_operands,
    constraint_plain_activation,
)
_FLOAT_BINARY: Final = (constraint_float, constraint_plain_activation)
_RESHAPING: Final = (constraint_float_or_eight_bit, constraint_constant_axes)
_CONVOLUTION: Final = (
    constraint_float_or_eight_bit,
    constraint_one_type,
    constraint_has_bias,
    constraint_constant_weights,
    constraint_plain_activation,
)
_POOLING: Final = (constraint_plain_activation, constraint_pooling_window)
OPERATORS: Final[Mapping[str, tuple[Constraint, ...]]] = {
    **dict.fromkeys(
        (
            *("ABS", "CEIL", "COS", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG", "RELU"),
            *("RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE"),
        ),
        _UNARY,
    ),
    **dict.fromkeys(("LEAKY_RELU", "LOGISTIC", "TANH"), _EIGHT_BIT_UNARY),
    **dict.fromkeys(("ADD", "MUL", "SUB"), _BINARY),
    **dict.fromkeys(("DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), _FLOAT_BINARY),
    **dict.fromkeys(
        (
            *("MEAN", "PAD", "REDUCE_MAX", "REDUCE_MIN", "RESHAPE", "RESIZE_BILINEAR", "SLICE"),
            *("SUM", "TRANSPOSE"),
        ),
        _RESHAPING,
    ),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), _EIGHT_BIT_UNARY),
    "AVERAGE_POOL_2D": (constraint_float, *_POOLING),
    "BATCH_MATMUL": (constraint_float_or_int8,),
    "CONCATENATION": (
        constraint_float_or_eight_bit,
        constraint_one_type_of_operands,
        constraint_two_to_five_inputs,
    ),
    "CONV_2D": (*_CONVOLUTION, constraint_weights_of_eight_bits),
    "DENSIFY": (constraint_unpacks_a_constant,),
    "DEPTHWISE_CONV_2D": (*_CONVOLUTION, constraint_weights_like_input),
    "DEQUANTIZE": (constraint_dequantizes,),
    "ELU": (constraint_float_or_int8, constraint_one_type),
    "FULLY_CONNECTED": (
        constraint_float_or_eight_bit,
        constraint_one_type,
        constraint_constant_weights,
        constraint_dense_weights,
        constraint_plain_activation,
    ),
    "MAX_POOL_2D": (constraint_float_or_eight_bit, constraint_one_type, *_POOLING),
    "PRELU": (constraint_float, constraint_constant_slopes),
    "QUANTIZE": (constraint_quantizes,),
    "SOFTMAX": (constraint_float, constraint_plain_softmax),
    "SPLIT": (constraint_float_or_eight_bit, constraint_two_to_four_outputs),
    "STRIDED_SLICE": (*_RESHAPING, constraint_unit_strides),
    "TRANSPOSE_CONV": (constraint_float_or_eight_bit, constraint_one_type),
}


def _with_unpacked(node: Node, unpacked: Mapping[tuple[int, int], Tensor]) -> Node:
    """Return the operator with inputs that are unpacked at load time as constants."""
    if not any(tensor and (node.graph, tensor.index) in unpacked for tensor in node.inputs):
        return node
    inputs = tuple(
        replace(tensor, data=unpacked[node.graph, tensor.index].data)
        if tensor is not None and (node.graph, tensor.index) in unpacked
        else tensor
        for tensor in node.inputs
    )
    return replace(node, inputs=inputs)


def _tensors(node: Node) -> list[Tensor]:
    return [*(tensor for tensor in node.inputs if tensor is not None), *node.outputs]


def _computed(node: Node) -> list[Tensor]:
    """Return computed inputs, and the outputs: no weights, axes or shapes."""
    return [tensor for tensor in _tensors(node) if not tensor.constant]


def _weight_types(node: Node) -> tuple[str, str]:
    """Return the types of the input and of the weights."""
    data, weights = node.input(0), node.input(1)
    return data.dtype if data else "", weights.dtype if weights else ""


def _all(text: str) -> bool:
    if text != "all":
        raise ValueError("Only xnnpack=all is known: XNNPACK runs every operator.")
    return True


SETTINGS: Final = {_XNNPACK: _all}
TARGET = Target(predicted=True, fit=fit, settings=SETTINGS)

"""Limits of TFLite Micro's reference kernels, as predicates over operators.

Each is a predicate `constraint_*`, or one made by `computes`, whose docstring is the message for
the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgekit.modes import FLOAT32, INT8
from edgekit.targets.node import Node, Tensor

Constraint = Callable[[Node], bool]

_MODES: Final = (INT8.name, FLOAT32.name)
# Indices, counts and conditions have these types whatever the mode.
_NOT_OF_MODES: Final = frozenset({"bool", "int32", "int64", "uint32", "uint64"})
_MOST_JOINED: Final = 10
_DENSE_WEIGHTS: Final[Mapping[str, frozenset[str]]] = {
    "float32": frozenset({"float32"}),
    "int8": frozenset({"int8", "int4"}),
    "int16": frozenset({"int8"}),
}
"""Type of the activations -> types of the weights."""


@dataclass(frozen=True, slots=True)
class Types:
    """The constraint that an input has one of some types, which is also the output's.

    Attributes:
        names: The types.
        of: Position of the input.
        of_output: Whether outputs have to have the input's type.
    """

    names: tuple[str, ...]
    of: int = 0
    of_output: bool = True

    def __call__(self, node: Node) -> bool:
        """Whether an operator obeys it."""
        data = node.input(self.of)
        return (
            data is not None
            and data.dtype in self.names
            and not (self.of_output and any(t.dtype != data.dtype for t in node.outputs))
        )

    @property
    def message(self) -> str:
        """What is said to the user.

        >>> computes("float32", "int8").message
        'TFLite Micro computes it in float32 and int8 only.'
        """
        *first, last = self.names
        listed = f"{', '.join(first)} and {last}" if first else last
        return f"TFLite Micro {'computes it in' if self.of_output else 'takes'} {listed} only."

    def hint(self, node: Node) -> str:
        """Return which of edgekit's modes gives one of the types; "" where none does."""
        data = node.input(self.of)
        if data is None or data.dtype in _NOT_OF_MODES:
            return ""
        modes = [name for name in _MODES if name in self.names and name != data.dtype]
        return f" Use --mode {' or '.join(modes)}." if modes else ""


def computes(*names: str, of: int = 0) -> Types:
    """Return the constraint that input `of` and the output have one of some types."""
    return Types(names, of)


def takes(*names: str, of: int = 0) -> Types:
    """Return the constraint that input `of` has one of some types, whatever the output has."""
    return Types(names, of, of_output=False)


def constraint_weights(node: Node) -> bool:
    """Integer weights need integer activations; use --mode int8."""
    data = node.input(2 if node.name == "TRANSPOSE_CONV" else 0)
    weights = node.input(1)
    if data is None or weights is None or data.dtype not in _DENSE_WEIGHTS:
        return True  # another constraint says what is wrong
    return weights.dtype in _DENSE_WEIGHTS[data.dtype]


def constraint_dense_int4(node: Node) -> bool:
    """Its int4 weights do not load; edgekit expand FILE --target micro -o NEW unpacks them."""
    weights = node.input(1)
    if weights is None or weights.dtype != "int4":
        return True
    return weights.scales is not None and len(weights.scales) == 1


def constraint_no_int4(node: Node) -> bool:
    """Its int4 weights do not load; edgekit expand FILE --target micro -o NEW unpacks them."""
    weights = node.input(1)
    return weights is None or weights.dtype != "int4"


def constraint_no_empty_bias(node: Node) -> bool:
    """Its bias must be stored, or not be an input at all."""
    return len(node.inputs) < 3 or node.inputs[2] is not None


def constraint_constant_operand(node: Node) -> bool:
    """Axes, sizes, paddings and permutations must be constants."""
    return all(
        tensor is None or tensor.constant for tensor in map(node.input, _OPERANDS[node.name])
    )


def constraint_known_size(node: Node) -> bool:
    """The size of the part must be known: --unroll for a Keras model, others without loops."""
    return all(tensor is not None and tensor.constant for tensor in map(node.input, (1, 2))) or (
        not any(tensor.dynamic for tensor in node.outputs)
    )


def constraint_five_dimensions(node: Node) -> bool:
    """It takes at most five dimensions."""
    return all(len(tensor.shape) <= 5 for tensor in _data(node))


def constraint_four_dimensions(node: Node) -> bool:
    """It takes at most four dimensions."""
    return all(len(tensor.shape) <= 4 for tensor in _data(node))


def constraint_no_new_axis(node: Node) -> bool:
    """It cannot add dimensions; use Reshape."""
    return not (node.option("newAxisMask", 0) or node.option("ellipsisMask", 0))


def constraint_no_activation(node: Node) -> bool:
    """No activation may be fused into it."""
    return bool(node.option("fusedActivationFunction", 0) == 0)


def constraint_joins_few(node: Node) -> bool:
    """It joins at most ten tensors; join them in groups."""
    return len(node.inputs) <= _MOST_JOINED


def constraint_joins_one_scale(node: Node) -> bool:
    """Its int8 inputs and its output must have one scale."""
    tensors = [t for t in (*_data(node), *node.outputs) if t.dtype == "int8"]
    scales = [t.scales[0] for t in tensors if t.scales is not None and len(t.scales)]
    return all(np.isclose(scale, scales[0], rtol=1e-6, atol=0) for scale in scales)


def constraint_one_scale(node: Node) -> bool:
    """It does not rescale integers; edgekit expand FILE --target micro -o NEW adds a QUANTIZE."""
    tensors = [t for t in (node.input(0), *node.outputs) if t is not None and t.dtype != "float32"]
    scales = [t.scales[0] for t in tensors if t.scales is not None and len(t.scales)]
    return all(np.isclose(scale, scales[0], rtol=1e-6, atol=0) for scale in scales)


def constraint_int32_result(node: Node) -> bool:
    """Its result must be int32."""
    return all(tensor.dtype == "int32" for tensor in node.outputs)


def constraint_int32_indices(node: Node) -> bool:
    """Its indices must be int32."""
    indices = node.input(1)
    return indices is not None and indices.dtype == "int32"


def constraint_casts(node: Node) -> bool:
    """TFLite Micro casts neither from nor to uint8 and int64; use int8 inputs."""
    source = node.input(0)
    return source is not None and all(tensor.dtype in _CASTS for tensor in (source, *node.outputs))


def constraint_quantizes(node: Node) -> bool:
    """TFLite Micro has no kernel for this pair of types; use int8 inputs and outputs."""
    source = node.input(0)
    return source is not None and all(
        source.dtype in _QUANTIZES.get(tensor.dtype, ()) for tensor in node.outputs
    )


def constraint_dequantizes(node: Node) -> bool:
    """float16 weights do not load; use --mode int8 or float32."""
    source = node.input(0)
    return source is not None and source.dtype in {"int8", "uint8", "int16"}


def constraint_lstm(node: Node) -> bool:
    """It needs float32, or int8 weights with integer activations; use --mode int8 or float32."""
    data, weights = node.input(0), node.input(2)
    if data is None or weights is None:
        return False
    return (data.dtype, weights.dtype) in {
        ("float32", "float32"),
        ("int8", "int8"),
        ("int16", "int8"),
    }


def _data(node: Node) -> list[Tensor]:
    return [t for t in node.inputs if t is not None and not (t.constant and t.dtype == "int32")]


_CASTS: Final = frozenset({"float32", "int8", "int16", "int32", "uint32", "bool"})
_QUANTIZES: Final[Mapping[str, frozenset[str]]] = {
    "int8": frozenset({"float32", "int8", "uint8", "int16", "int32"}),
    "uint8": frozenset({"int8"}),
    "int16": frozenset({"float32", "int8", "int16", "int32"}),
    "int32": frozenset({"int8", "int16"}),
}
"""Type of the output -> types of the input."""

_OPERANDS: Final[Mapping[str, tuple[int, ...]]] = {
    "BROADCAST_TO": (1,),
    "EXPAND_DIMS": (1,),
    "FILL": (0,),
    "PAD": (1,),
    "PADV2": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "SPLIT": (0,),
    "SPLIT_V": (2,),
    "STRIDED_SLICE": (1, 2, 3),
    "TRANSPOSE": (1,),
}
"""Operator -> inputs that have to be constants."""

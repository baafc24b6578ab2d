"""Operators and types of TFLite Micro's reference kernels, and how firmware registers them.

Each limit is a predicate `constraint_*`, or one made by `computes`, whose docstring is the message
for the user. The table is that of `micro_mutable_op_resolver.h`; types and limits are those of the
kernels in `tensorflow/lite/micro/kernels`, compared with the interpreter of October 2026 operator
by operator and type by type (`tests/targets/test_micro_operators.py`).
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
class Kernel:
    """An operator that TFLite Micro has.

    Attributes:
        registers: Name of the method of `MicroMutableOpResolver` that adds it.
        constraints: What it accepts.
    """

    registers: str
    constraints: tuple[Constraint, ...] = ()


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
    """The size of the part must be known beforehand; use --unroll for a recurrent layer."""
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
    """In integers, its output must have the scale of its input; fuse it into the layer before."""
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

_FLOAT: Final = (computes("float32"),)
_FLOAT_INT8: Final = (computes("float32", "int8"),)
_ACTIVATION: Final = (computes("float32", "int8", "int16"),)
_NUMBER: Final = (computes("float32", "int8", "int16", "int32"),)
_LARGER: Final = (computes("float32", "int8", "int16", "int32", "int64"),)
_ORDER: Final = (takes("float32", "int8", "int32", "int64"),)
_EQUALITY: Final = (takes("float32", "int8", "int32", "int64", "bool"),)
_CONSTANT: Final = (constraint_constant_operand,)
_PADDING: Final = (*_NUMBER, *_CONSTANT, constraint_five_dimensions)
_CUT: Final = (computes("float32", "int8", "int16", "int32", "bool"),)

KERNELS: Final[Mapping[str, Kernel]] = {
    "ABS": Kernel("AddAbs", _ACTIVATION),
    "ADD": Kernel("AddAdd", _NUMBER),
    "ADD_N": Kernel("AddAddN", _FLOAT_INT8),
    "ARG_MAX": Kernel("AddArgMax", (takes("float32", "int8"), constraint_int32_result)),
    "ARG_MIN": Kernel("AddArgMin", (takes("float32", "int8"), constraint_int32_result)),
    "ASSIGN_VARIABLE": Kernel("AddAssignVariable"),
    "AVERAGE_POOL_2D": Kernel("AddAveragePool2D", _ACTIVATION),
    "BATCH_MATMUL": Kernel("AddBatchMatMul", (*_ACTIVATION, constraint_five_dimensions)),
    "BATCH_TO_SPACE_ND": Kernel("AddBatchToSpaceNd", _FLOAT_INT8),
    "BROADCAST_ARGS": Kernel("AddBroadcastArgs", (computes("int32", "int64"),)),
    "BROADCAST_TO": Kernel("AddBroadcastTo", (*_CONSTANT, constraint_five_dimensions)),
    "CALL_ONCE": Kernel("AddCallOnce"),
    "CAST": Kernel("AddCast", (constraint_casts,)),
    "CEIL": Kernel("AddCeil", _FLOAT),
    "CONCATENATION": Kernel(
        "AddConcatenation",
        (
            computes("float32", "int8", "int16", "int32", "int64", "bool"),
            constraint_no_activation,
            constraint_joins_few,
            constraint_joins_one_scale,
        ),
    ),
    "CONV_2D": Kernel("AddConv2D", (constraint_weights, *_ACTIVATION)),
    "COS": Kernel("AddCos", _FLOAT),
    "CUMSUM": Kernel("AddCumSum", _FLOAT_INT8),
    "DEPTHWISE_CONV_2D": Kernel(
        "AddDepthwiseConv2D", (constraint_weights, constraint_no_empty_bias, *_ACTIVATION)
    ),
    "DEPTH_TO_SPACE": Kernel("AddDepthToSpace", _FLOAT_INT8),
    "DEQUANTIZE": Kernel("AddDequantize", (constraint_dequantizes,)),
    "DIV": Kernel("AddDiv", (computes("float32", "int8"),)),
    "DYNAMIC_UPDATE_SLICE": Kernel("AddDynamicUpdateSlice", _NUMBER),
    "ELU": Kernel("AddElu", _FLOAT_INT8),
    "EMBEDDING_LOOKUP": Kernel("AddEmbeddingLookup", (takes("float32", "int8", of=1),)),
    "EQUAL": Kernel("AddEqual", _EQUALITY),
    "EXP": Kernel("AddExp", _FLOAT),
    "EXPAND_DIMS": Kernel("AddExpandDims", (*_ACTIVATION, *_CONSTANT)),
    "FILL": Kernel("AddFill", (computes("float32", "int8", "int32", of=1), *_CONSTANT)),
    "FLOOR": Kernel("AddFloor", _FLOAT),
    "FLOOR_DIV": Kernel("AddFloorDiv", _FLOAT),
    "FLOOR_MOD": Kernel("AddFloorMod", _FLOAT),
    "FULLY_CONNECTED": Kernel(
        "AddFullyConnected", (constraint_weights, constraint_dense_int4, *_ACTIVATION)
    ),
    "GATHER": Kernel("AddGather", (*_FLOAT_INT8, constraint_int32_indices)),
    "GATHER_ND": Kernel("AddGatherNd", (*_FLOAT_INT8, constraint_int32_indices)),
    "GREATER": Kernel("AddGreater", (takes("float32", "int8", "int16", "int32", "int64"),)),
    "GREATER_EQUAL": Kernel("AddGreaterEqual", _ORDER),
    "HARD_SWISH": Kernel("AddHardSwish", _FLOAT_INT8),
    "IF": Kernel("AddIf"),
    "L2_NORMALIZATION": Kernel("AddL2Normalization", _FLOAT_INT8),
    "L2_POOL_2D": Kernel("AddL2Pool2D", _FLOAT),
    "LEAKY_RELU": Kernel("AddLeakyRelu", _ACTIVATION),
    "LESS": Kernel("AddLess", _ORDER),
    "LESS_EQUAL": Kernel("AddLessEqual", _ORDER),
    "LOG": Kernel("AddLog", _FLOAT),
    "LOGICAL_AND": Kernel("AddLogicalAnd", (computes("bool"),)),
    "LOGICAL_NOT": Kernel("AddLogicalNot", (computes("bool"),)),
    "LOGICAL_OR": Kernel("AddLogicalOr", (computes("bool"),)),
    "LOGISTIC": Kernel("AddLogistic", _ACTIVATION),
    "LOG_SOFTMAX": Kernel("AddLogSoftmax", _FLOAT_INT8),
    "MAXIMUM": Kernel("AddMaximum", _LARGER),
    "MAX_POOL_2D": Kernel("AddMaxPool2D", _ACTIVATION),
    "MEAN": Kernel("AddMean", _ACTIVATION),
    "MINIMUM": Kernel("AddMinimum", _LARGER),
    "MIRROR_PAD": Kernel("AddMirrorPad", _FLOAT_INT8),
    "MUL": Kernel("AddMul", _NUMBER),
    "NEG": Kernel("AddNeg", _FLOAT),
    "NOT_EQUAL": Kernel("AddNotEqual", _EQUALITY),
    "PACK": Kernel("AddPack", _LARGER),
    "PAD": Kernel("AddPad", _PADDING),
    "PADV2": Kernel("AddPadV2", _PADDING),
    "PRELU": Kernel("AddPrelu", _FLOAT_INT8),
    "QUANTIZE": Kernel("AddQuantize", (constraint_quantizes,)),
    "READ_VARIABLE": Kernel("AddReadVariable"),
    "REDUCE_ALL": Kernel("AddReduceAll", (computes("bool"),)),
    "REDUCE_MAX": Kernel("AddReduceMax", _FLOAT_INT8),
    "REDUCE_MIN": Kernel("AddReduceMin", _FLOAT_INT8),
    "RELU": Kernel("AddRelu", _ACTIVATION),
    "RELU6": Kernel("AddRelu6", (*_ACTIVATION, constraint_one_scale)),
    "RESHAPE": Kernel("AddReshape"),
    "RESIZE_BILINEAR": Kernel("AddResizeBilinear", (*_FLOAT_INT8, *_CONSTANT)),
    "RESIZE_NEAREST_NEIGHBOR": Kernel("AddResizeNearestNeighbor", (*_ACTIVATION, *_CONSTANT)),
    "REVERSE_V2": Kernel(
        "AddReverseV2",
        (computes("float32", "int8", "uint8", "int16", "int32", "int64", "bool"),),
    ),
    "ROUND": Kernel("AddRound", _FLOAT),
    "RSQRT": Kernel("AddRsqrt", _FLOAT_INT8),
    "SELECT_V2": Kernel("AddSelectV2", (computes("float32", "int8", "int16", of=1),)),
    "SHAPE": Kernel("AddShape", (constraint_int32_result,)),
    "SIN": Kernel("AddSin", _FLOAT),
    "SLICE": Kernel("AddSlice", (*_CUT, constraint_known_size, constraint_five_dimensions)),
    "SOFTMAX": Kernel("AddSoftmax", (takes("float32", "int8", "int16"),)),
    "SPACE_TO_BATCH_ND": Kernel("AddSpaceToBatchNd", _FLOAT_INT8),
    "SPACE_TO_DEPTH": Kernel("AddSpaceToDepth", _FLOAT_INT8),
    "SPLIT": Kernel("AddSplit", (computes("float32", "int8", "int16", "int32", of=1), *_CONSTANT)),
    "SPLIT_V": Kernel("AddSplitV", (*_NUMBER, *_CONSTANT)),
    "SQRT": Kernel("AddSqrt", _FLOAT),
    "SQUARE": Kernel("AddSquare", _FLOAT),
    "SQUARED_DIFFERENCE": Kernel("AddSquaredDifference", _NUMBER),
    "SQUEEZE": Kernel("AddSqueeze"),
    "STRIDED_SLICE": Kernel(
        "AddStridedSlice",
        (*_CUT, *_CONSTANT, constraint_no_new_axis, constraint_four_dimensions),
    ),
    "SUB": Kernel("AddSub", _NUMBER),
    "SUM": Kernel("AddSum", _ACTIVATION),
    "SVDF": Kernel("AddSvdf", _FLOAT_INT8),
    "TANH": Kernel("AddTanh", _ACTIVATION),
    "TRANSPOSE": Kernel("AddTranspose", (*_ACTIVATION, *_CONSTANT, constraint_five_dimensions)),
    "TRANSPOSE_CONV": Kernel(
        "AddTransposeConv",
        (constraint_weights, constraint_no_int4, computes("float32", "int8", "int16", of=2)),
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Kernel("AddUnidirectionalSequenceLSTM", (constraint_lstm,)),
    "UNPACK": Kernel("AddUnpack", _NUMBER),
    "VAR_HANDLE": Kernel("AddVarHandle"),
    "WHILE": Kernel("AddWhile"),
    "ZEROS_LIKE": Kernel("AddZerosLike", (computes("float32", "int8", "int32", "int64"),)),
    # Custom operators, by the name in the file.
    "CIRCULAR_BUFFER": Kernel("AddCircularBuffer"),
    "SignalDelay": Kernel("AddDelay"),
    "SignalEnergy": Kernel("AddEnergy"),
    "SignalFftAutoScale": Kernel("AddFftAutoScale"),
    "SignalFilterBank": Kernel("AddFilterBank"),
    "SignalFilterBankLog": Kernel("AddFilterBankLog"),
    "SignalFilterBankSpectralSubtraction": Kernel("AddFilterBankSpectralSubtraction"),
    "SignalFilterBankSquareRoot": Kernel("AddFilterBankSquareRoot"),
    "SignalFramer": Kernel("AddFramer"),
    "SignalIrfft": Kernel("AddIrfft"),
    "SignalOverlapAdd": Kernel("AddOverlapAdd"),
    "SignalPCAN": Kernel("AddPCAN"),
    "SignalRfft": Kernel("AddRfft"),
    "SignalStacker": Kernel("AddStacker"),
    "SignalWindow": Kernel("AddWindow"),
    "TFLite_Detection_PostProcess": Kernel("AddDetectionPostprocess"),
    "ethos-u": Kernel("AddEthosU"),
}
"""Operators of TFLite Micro; those of its Python interpreter, which registers nearly all."""

HINTS: Final[Mapping[str, str]] = {
    "DENSIFY": "edgekit expand FILE --target micro -o NEW stores its weights dense.",
    "GELU": "In Keras, use relu or hard_silu.",
    "RELU_0_TO_1": "In Keras, use relu6 or hard_silu.",
    "RELU_N1_TO_1": "In Keras, use tanh or relu6.",
    "SELECT": "edgekit expand FILE --target micro -o NEW writes SELECT_V2.",
    "TILE": "edgekit expand FILE --target micro -o NEW writes CONCATENATION.",
}
"""What to do about operators that TFLite Micro lacks."""

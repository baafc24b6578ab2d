"""Operators and types of TFLite Micro's reference kernels, and how firmware registers them.

The table is that of `micro_mutable_op_resolver.h`; types and limits (`micro_limits`) are those of
the kernels in `tensorflow/lite/micro/kernels`, compared with the interpreter of October 2026
operator by operator and type by type (`tests/targets/test_micro.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgekit.targets.micro_limits import (
    Constraint,
    computes,
    constraint_casts,
    constraint_constant_operand,
    constraint_dense_int4,
    constraint_dequantizes,
    constraint_five_dimensions,
    constraint_four_dimensions,
    constraint_int32_indices,
    constraint_int32_result,
    constraint_joins_few,
    constraint_joins_one_scale,
    constraint_known_size,
    constraint_lstm,
    constraint_no_activation,
    constraint_no_empty_bias,
    constraint_no_int4,
    constraint_no_new_axis,
    constraint_one_scale,
    constraint_quantizes,
    constraint_weights,
    takes,
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """An operator that TFLite Micro has.

    Attributes:
        registers: Name of the method of `MicroMutableOpResolver` that adds it.
        constraints: What it accepts.
    """

    registers: str
    constraints: tuple[Constraint, ...] = ()


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
    "GELU": "Use relu or hard_silu (Hardswish) in the model.",
    "RELU_0_TO_1": "Use relu6 or hard_silu (Hardswish) in the model.",
    "RELU_N1_TO_1": "Use tanh or relu6 in the model.",
    "SELECT": "edgekit expand FILE --target micro -o NEW writes SELECT_V2.",
    "TILE": "edgekit expand FILE --target micro -o NEW writes CONCATENATION.",
}
"""What to do about operators that TFLite Micro lacks."""

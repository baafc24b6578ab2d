"""What tflite-runtime 2.14, its last release, can load: operators, each up to a version.

It loads some of a type that it has no kernel for, and fails when they run, or computes garbage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.targets.node import Tensor
from edgekit.tflite.graph import INT8, INT16, code_name, read
from edgekit.tflite.nodes import nodes
from edgekit.tflite.stored import expanded

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Version -> the operators that go up to it, found by loading a file with each operator and version
# (tests/runner/test_runner_runtimes.py loads them again).
_UP_TO: Final = {
    1: """
        ADD_N ASSIGN_VARIABLE ATAN2 BITCAST BITWISE_XOR BROADCAST_ARGS BUCKETIZE CALL_ONCE
        CEIL COMPLEX_ABS CONV_3D CONV_3D_TRANSPOSE COS CUMSUM DENSIFY DYNAMIC_UPDATE_SLICE ELU
        EMBEDDING_LOOKUP_SPARSE EXPAND_DIMS FLOOR HARD_SWISH HASHTABLE HASHTABLE_FIND
        HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IF IMAG L2_POOL_2D
        LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSH_PROJECTION
        MATRIX_DIAG MATRIX_SET_DIAG MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4
        NON_MAX_SUPPRESSION_V5 ONE_HOT POW PRELU RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANK
        READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY RELU_0_TO_1 RELU_N1_TO_1 RESHAPE
        REVERSE_SEQUENCE RFFT2D RIGHT_SHIFT ROUND SCATTER_ND SEGMENT_SUM SHAPE SIN SKIP_GRAM
        SQRT SQUARE UNIQUE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD
        UNSORTED_SEGMENT_SUM VAR_HANDLE WHILE ZEROS_LIKE
    """,
    2: """
        DEPTH_TO_SPACE DIV EXP FAKE_QUANT FLOOR_MOD GELU GREATER L2_NORMALIZATION LEAKY_RELU
        LESS_EQUAL LOG_SOFTMAX RANGE REDUCE_PROD RSQRT SELECT_V2 SIGN SPACE_TO_DEPTH SPLIT_V
        SQUARED_DIFFERENCE SQUEEZE SUM WHERE
    """,
    3: """
        ARG_MAX ARG_MIN AVERAGE_POOL_2D BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN
        BROADCAST_TO EMBEDDING_LOOKUP FLOOR_DIV GREATER_EQUAL LESS LOGISTIC MAX_POOL_2D MEAN
        MIRROR_PAD NOT_EQUAL QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 REVERSE_V2 RNN SOFTMAX
        SPARSE_TO_DENSE TANH TILE TOPK_V2 UNIDIRECTIONAL_SEQUENCE_RNN
    """,
    4: """
        BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION EQUAL FILL GATHER_ND LSTM MAXIMUM MINIMUM
        PACK PAD PADV2 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SPACE_TO_BATCH_ND SPLIT
        SVDF TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
    """,
    5: """
        ABS ADD CAST DEQUANTIZE SUB
    """,
    6: """
        GATHER SLICE TRANSPOSE
    """,
    7: """
        CONV_2D DEPTHWISE_CONV_2D MUL
    """,
    8: """
        STRIDED_SLICE
    """,
    10: """
        FULLY_CONNECTED
    """,
}
NEWEST: Final[Mapping[str, int]] = {
    name: version for version, names in _UP_TO.items() for name in names.split()
}
"""Operator -> the newest version of it that tflite-runtime 2.14 has."""

WITHOUT_KERNEL: Final[Mapping[str, str]] = {
    "DIV": "int8",
    "GELU": "int16",
    "SUM": "int16",
    "TILE": "int16",
}
"""Operator -> the type that it loads with, and has no kernel for (SUM: but for equal scales)."""


def newer_operators(model: ModelT) -> tuple[str, ...]:
    """Return what tflite-runtime 2.14 lacks of a model, such as "CONV_2D of version 8".

    Custom operators are left out: a delegate may bring them along.
    """
    newer = [
        f"{name} of version {code.version}" if name in NEWEST else name
        for code in model.operatorCodes
        for name in [code_name(code)]
        if not code.customCode and code.version > NEWEST.get(name, 0)
    ]
    return (*newer, *_without_kernel(model))


def _without_kernel(model: ModelT) -> list[str]:
    """Return the operators that are known, and do not run with the types or shapes they have."""
    kinds = {tensor.type for graph in model.subgraphs for tensor in graph.tensors}
    if not kinds & {INT8, INT16}:
        return []
    found: dict[str, None] = {}
    for node in nodes(model):
        given, made = node.input(0), node.outputs[0] if node.outputs else None
        if given is None or made is None:
            continue
        if given.dtype == WITHOUT_KERNEL.get(node.name) and not (
            node.name == "SUM" and _same_scale(given, made)
        ):
            found[f"{node.name} of {given.dtype}"] = None
        # It takes the first two dimensions for all of them.
        if node.name == "FULLY_CONNECTED" and given.dtype == "int16" and len(made.shape) != 2:
            found[f"{node.name} of int16 with {len(made.shape)} dimensions"] = None
        if node.name == "MUL" and given.dtype == "int16" and len(made.shape) > 4:
            shapes = {tensor.shape for tensor in node.inputs if tensor is not None}
            if len(shapes) > 1:
                found[f"MUL of int16 that broadcasts {len(made.shape)} dimensions"] = None
    return list(found)


def _same_scale(given: Tensor, made: Tensor) -> bool:
    if given.scales is None or made.scales is None:
        return False
    return np.array_equal(given.scales, made.scales)


def lacking_in_tflite_runtime(content: bytes, name: str) -> tuple[str, ...]:
    """Return the operators that tflite-runtime 2.14 lacks of a file as the runner loads it there.

    Args:
        content: The file; one that `read` accepts.
        name: What to call it in an error.

    Raises:
        ModelError: Its constants are damaged.
    """
    return newer_operators(read(expanded(content, name, for_tflite_runtime=True)))

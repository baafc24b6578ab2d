"""Kinds of layers that qat_kinds_session.py trains, and what holds for the file of each."""

from __future__ import annotations

from typing import Any

import numpy as np

LAYERS = (
    "preparation",
    "preparation fused",
    "normalization",
    "separable 2d",
    "separable 1d",
    "transposed 2d",
    "transposed 1d",
    "transposed normalized",
    "grouped",
    "depthwise",
    "depthwise 1d",
    "prelu",
    "leaky relu",
    "fused gelu",
    "silu",
    "hard_silu",
    "gelu",
    "sigmoid",
    "tanh",
    "leaky_relu",
    "elu",
    "upsampling",
    "upsampling bilinear",
    "global max",
)
"""Models that differ in one layer of theirs."""
GRAPHS = (
    "add",
    "subtract",
    "multiply",
    "maximum",
    "concatenate",
    "operations",
    "layer normalization",
    "group normalization",
    "normalized after",
    "normalized unevenly",
    "normalized series",
    "normalized vector",
    "attention",
    "biased apart",
    "attention causal",
    "attention crossed",
    "attention dropped",
    "attention masked",
    "group normalization series",
    "embedding",
    "shared",
    "two ends",
    "lstm",
    "lstm sequences",
    "lstm joined",
    "gru",
    "gru sequences",
    "bidirectional",
    "states",
)
"""Models with branches, normalization, or what has no quantized form."""
EXCLUDED = {
    "separable 2d": "it",
    "add": "it",
    "gelu": "it",
    "embedding": "table",
    "grouped": "it",
    "transposed 1d": "it",
    "global max": "it",
    "depthwise": "it",
    "leaky relu": "it",
    "upsampling": "it",
    "concatenate": "it",
    "layer normalization": "it",
    "group normalization": "it",
    "attention": "attention",
    "lstm": "it",
}

ISLANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "preparation": (("rescaling", "shift"), ("MUL", "ADD")),
    "preparation fused": (("rescaling",), ()),
    "normalization": (("normalization", "resizing"), ("SUB", "MUL", "RESIZE_BILINEAR")),
    "elu": (("it_elu",), ("ELU",)),
    "operations": (("absolute",), ("ABS",)),
    "attention causal": ((), ("SELECT_V2", "SOFTMAX")),
    "attention masked": (("attention",), ("FULLY_CONNECTED", "SOFTMAX")),
    "states": (("memory",), ("RESHAPE",)),
    "separable 2d excluded": (("it",), ("DEPTHWISE_CONV_2D", "CONV_2D")),
    "add excluded": (("it",), ("ADD",)),
    "gelu excluded": (("it",), ("GELU",)),
    "embedding excluded": (("table",), ("GATHER",)),
    "grouped excluded": (("it",), ("CONV_2D",)),
    "transposed 1d excluded": (("it",), ("TRANSPOSE_CONV",)),
    "global max excluded": (("it",), ("REDUCE_MAX",)),
    "depthwise excluded": (("it",), ("DEPTHWISE_CONV_2D",)),
    "leaky relu excluded": (("it",), ("LEAKY_RELU",)),
    "upsampling excluded": (("it",), ("TILE",)),
    "concatenate excluded": (("it",), ("CONCATENATION",)),
    "layer normalization excluded": (("it",), ("MEAN", "RSQRT", "SQUARED_DIFFERENCE")),
    "group normalization excluded": (("it",), ("MEAN", "RSQRT", "SQUARE")),
    "attention excluded": (("attention",), ("FULLY_CONNECTED", "BATCH_MATMUL", "SOFTMAX")),
    "lstm excluded": (("it",), ("UNIDIRECTIONAL_SEQUENCE_LSTM",)),
}
"""Name -> layers left in float, and operators of the file that are among those in float."""


def check_outputs(result: dict[str, Any]) -> None:
    """Assert that the file computes what was trained, on the same scales."""
    assert "error" not in result, result
    assert result["other scales"] == []
    assert result["without range"] == []
    assert result["agreement"] >= 0.97
    assert result["difference"] <= 0.01
    # What the float model said, before a few steps of training, the file says too.
    assert result["kept"] >= 0.85
    # A paired interval of the two scores. All kinds together have 95 % (Bonferroni): at 95 % each,
    # one of 80 is outside by chance.
    lost = np.array(result["right"][0]) - np.array(result["right"][1])
    assert lost.mean() - 3.5 * lost.std() / np.sqrt(len(lost)) <= 0.0


def check_float(name: str, result: dict[str, Any]) -> None:
    """Assert that only what has no quantized form, or was excluded, is in float."""
    left, floats = ISLANDS.get(name, ((), ()))
    assert set(result["left"]) == set(left)
    assert set(floats) <= set(result["float"])
    assert bool(floats) == bool(result["float"])
    assert {"CONV_2D", "FULLY_CONNECTED"} & set(result["integer"])

"""Store the constants of a float graph in float16, int8 or int4.

There are two ways to store a weight. Either the kernel itself accepts the smaller type (and, for
integers, quantizes its input at run time), or a DEQUANTIZE operator is inserted: LiteRT and its
XNNPACK delegate unpack a constant once, when the model is loaded, and the kernel computes in float.
Which one is used depends on the existing kernels; see `_dynamic` and `_int4`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import FLOAT16, constant
from edgekit.tflite.rewriter import (
    SMALLEST_EXPANDED,
    SMALLEST_KERNEL,
    WEIGHTS,
    Rewriter,
    Storage,
    Weight,
)

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# What a DEQUANTIZE operator and its tensor take at most, and a scale and zero point per channel.
_EXPANSION_BYTES: Final = 256
_SCALE_BYTES: Final = 12


def to_float16(model: ModelT, only: Container[str] | None = None) -> ModelT:
    """Store float constants as float16, each with a DEQUANTIZE; computation stays in float32.

    Small ones (biases) and those with values beyond float16 are not changed.

    Args:
        model: A model; it is not changed.
        only: Output tensor names of the operators to rewrite; None rewrites all.
    """
    rewriter = Rewriter(model)
    for graph, op in rewriter.operators(only):
        for index in op.inputs:
            if index < 0:
                continue
            tensor = graph.tensors[index]
            if not rewriter.is_weight(tensor, SMALLEST_EXPANDED):
                continue
            half = _as_float16(constant(rewriter.model, tensor))
            if half is not None:
                # Version 3 of DEQUANTIZE is the first to support float16.
                rewriter.expand(graph, index, FLOAT16, half, None, version=3)
    return rewriter.finish()


def to_dynamic(model: ModelT, only: Container[str] | None = None) -> ModelT:
    """Store weights as int8, symmetric and narrow-range; activations remain float32.

    Args:
        model: A model; it is not changed.
        only: Output tensor names of the operators to rewrite; None rewrites all.
    """
    return _quantize_weights(model, only, _dynamic)


def to_int4(model: ModelT, only: Container[str] | None = None) -> ModelT:
    """Store the weights of convolutions and dense layers as int4, all others as int8.

    Args:
        model: A model; it is not changed.
        only: Output tensor names of the operators to rewrite; None rewrites all.
    """
    return _quantize_weights(model, only, _int4)


def _dynamic(weight: Weight) -> Storage:
    if weight.operator == "CONV_2D" and not weight.grouped:
        return Storage("kernel", 8, weight.axis, version=5)
    if weight.operator == "FULLY_CONNECTED":
        # A single scale: scales per channel need version 12, which tflite-runtime 2.14 refuses.
        return Storage("kernel", 8, None, version=9)
    if weight.operator == "GATHER" and len(weight.users) == 1:
        # The table remains int8 in memory too; GATHER copies codes and supports one scale.
        return Storage("after", 8, None, version=2)
    # The int8 depthwise kernel with float input is slower than float (XNNPACK has none), and
    # older transposed convolutions do not take int8 weights at all.
    return Storage("before", 8, weight.axis)


def _int4(weight: Weight) -> Storage:
    # Versions 7 and 10 are defined for int4 weights, but tflite-runtime 2.14 accepts those and
    # computes NaN (CONV_2D) or with the first channel's scale (FULLY_CONNECTED). The versions used
    # here are the first that it refuses.
    if weight.operator == "CONV_2D" and not weight.grouped:
        return Storage("kernel", 4, weight.axis, version=8)
    # A channel's scale and zero point take 12 bytes: rows of up to 24 weights are smaller in int8.
    if weight.operator == "FULLY_CONNECTED" and weight.values.shape[1] > 24:
        return Storage("kernel", 4, weight.axis, version=12)
    return _dynamic(weight)


def _quantize_weights(
    model: ModelT, only: Container[str] | None, choose: Callable[[Weight], Storage]
) -> ModelT:
    rewriter = Rewriter(model)
    rewriter.store_lstms(only)
    for weight, storage in _storages(rewriter, only, choose):
        rewriter.store(weight, storage)
    return rewriter.finish()


def _storages(
    rewriter: Rewriter, only: Container[str] | None, choose: Callable[[Weight], Storage]
) -> list[tuple[Weight, Storage]]:
    found = []
    for weight in rewriter.weights(only):
        expanded = Storage("before", 8, weight.axis)
        if weight.values.size >= SMALLEST_KERNEL:
            found.append((weight, choose(weight) if weight.alike else expanded))
        elif _is_smaller(weight):
            found.append((weight, expanded))
    return found


def _is_smaller(weight: Weight) -> bool:
    """Whether a weight takes fewer bytes as int8 with a scale per channel and a DEQUANTIZE."""
    values = weight.values
    stored = values.size + _SCALE_BYTES * values.shape[weight.axis] + _EXPANSION_BYTES
    return bool(stored < values.nbytes)


def int4_storages(
    model: ModelT, only: Container[str] | None = None
) -> list[tuple[Weight, Storage]]:
    """Return the weights that `to_int4` quantizes, and how it stores each."""
    return _storages(Rewriter(model), only, _int4)


def dynamic_storages(
    model: ModelT, only: Container[str] | None = None
) -> list[tuple[Weight, Storage]]:
    """Return the weights that `to_dynamic` quantizes, and how it stores each."""
    return _storages(Rewriter(model), only, _dynamic)


def stored_weights(operators: Sequence[Node]) -> list[tuple[Node, Tensor]]:
    """Return every weight, with the operator that uses it and its storage.

    Args:
        operators: All operators of a model (`nodes`).
    """
    producers = {(n.graph, t.index): n for n in operators for t in n.outputs}
    found = []
    for node in operators:
        for position in WEIGHTS.get(node.name, {}):
            tensor = node.input(position)
            if tensor is None:
                continue
            producer = producers.get((node.graph, tensor.index))
            if producer is not None and producer.name == "DEQUANTIZE":
                tensor = producer.input(0)
            if tensor is not None and tensor.constant:
                found.append((node, tensor))
    return found


def _as_float16(values: Array) -> NDArray[np.float16] | None:
    """Return the nearest float16 values, or None if one exceeds the largest."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.isfinite(half).all() else None

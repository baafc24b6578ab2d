"""Estimate the effect of pruning on download size, flash and latency, before any training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.numerics.sparsity import magnitude_masks
from edgekit.records import Array, TargetFit
from edgekit.targets import xnnpack_sparse
from edgekit.tflite.graph import clone, constant, read, write
from edgekit.tflite.lstm import FUSED_LSTM, WEIGHT_INPUTS
from edgekit.tflite.nodes import nodes
from edgekit.tflite.sparse import store_sparse

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Operator -> its inputs that are kernels which `edgekit prune` takes; depthwise ones are not.
_PRUNED: Final = {
    **dict.fromkeys(("CONV_2D", "CONV_3D", "FULLY_CONNECTED", "TRANSPOSE_CONV"), (1,)),
    FUSED_LSTM: tuple(WEIGHT_INPUTS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningEstimate:
    """Predicted effect of a share of zeros.

    Attributes:
        sparsity: Share of zeros over the kernels of convolutions, dense layers and LSTMs.
        size_bytes: Size of the file; zeros alone do not change it.
        size_deflated_bytes: Download size without further zeros (zlib level 9).
        pruned_deflated_bytes: Download size with that share of zeros.
        sparse_bytes: Size on the device with kernels stored sparse, as `tflite.sparse` writes
            it; None if it is no smaller.
        faster: Whether XNNPACK would use sparse kernels, and if not, why.
    """

    sparsity: float
    size_bytes: int
    size_deflated_bytes: int
    pruned_deflated_bytes: int
    sparse_bytes: int | None
    faster: TargetFit


def estimate_pruning(data: bytes, sparsity: float) -> PruningEstimate:
    """Predict the effect of pruning a model, by setting weights of a copy to zero.

    Args:
        data: A model with dense kernels, float32 or int8.
        sparsity: Share of weights of each kernel to set to zero.

    Raises:
        ModelError: The size of a kernel does not match its shape, or it is stored sparse already.
        UsageError: The share is not in [0, 1).
    """
    model = read(data)
    operators = nodes(model)
    kernels = _kernels(model)
    masks = magnitude_masks(list(kernels.values()), sparsity, scope="layer")
    pruned = clone(model)
    for (buffer, values), mask in zip(kernels.items(), masks, strict=True):
        left = np.where(mask, values, values.dtype.type(0))
        pruned.buffers[buffer].data = np.frombuffer(left.tobytes(), np.uint8)
    dense = write(pruned)
    encoded, _ = store_sparse(pruned)
    sparse_bytes = len(dense) if encoded is pruned else len(write(encoded))
    total = sum(mask.size for mask in masks)
    return PruningEstimate(
        sparsity=1 - sum(int(mask.sum()) for mask in masks) / total if total else 0.0,
        size_bytes=len(data),
        size_deflated_bytes=len(zlib.compress(data, 9)),
        pruned_deflated_bytes=len(zlib.compress(dense, 9)),
        sparse_bytes=sparse_bytes if sparse_bytes < len(dense) else None,
        faster=xnnpack_sparse.fit(operators, sparsity),
    )


def _kernels(model: ModelT) -> dict[int, Array]:
    """Return buffer -> kernel of every layer that is pruned; for an LSTM one for each gate."""
    found: dict[int, Array] = {}
    for node in nodes(model):
        for place in _PRUNED.get(node.name, ()):
            kernel = node.input(place)
            if kernel is None or kernel.data is None or kernel.dtype not in {"float32", "int8"}:
                continue
            tensor = model.subgraphs[node.graph].tensors[kernel.index]
            found[tensor.buffer] = constant(model, tensor)
    return found

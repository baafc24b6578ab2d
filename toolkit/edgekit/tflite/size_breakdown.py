"""Break down the size of a file: constants, quantization parameters, and the rest.

A flatbuffer may refer to a vector more than once, so vectors are identified by their address, and
each counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.tflite.graph import is_constant

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

_BLOCKWISE: Final = 2  # QuantizationDetails: scales and zero points are separate tensors

Place = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Sizes of the parts of a model.

    Attributes:
        weights: (graph, tensor index) -> `(buffer, bytes)` of every constant that is not a
            quantization table; sparse indices included. Tensors that share a buffer have equal
            entries.
        quantization_bytes: Scales, zero points and ranges of all tensors.
    """

    weights: dict[tuple[int, int], Place] = field(default_factory=dict)
    quantization_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of all constants, each buffer once."""
        return sum(size for _, size in set(self.weights.values()))


def measure(model: ModelT) -> Storage:
    """Measure the parts of a model.

    Args:
        model: The result of `read`, whose arrays are views of the file's content.
    """
    weights: dict[tuple[int, int], Place] = {}
    tables: set[Place] = set()
    for number, graph in enumerate(model.subgraphs):
        scales = _scale_tensors(graph)
        for index, tensor in enumerate(graph.tensors):
            tables.update(_places(_quantization_vectors(tensor)))
            if not is_constant(model, tensor):
                continue
            data = model.buffers[tensor.buffer].data
            if index in scales:
                tables.update(_places([data]))
            else:
                indices_bytes = sum(size for _, size in _places(_sparse_indices(tensor)))
                weights[number, index] = (tensor.buffer, len(data) + indices_bytes)
    return Storage(weights=weights, quantization_bytes=sum(size for _, size in tables))


def _quantization_vectors(tensor: TensorT) -> Iterator[Any]:
    parameters = tensor.quantization
    if parameters is not None:
        yield from (parameters.min, parameters.max, parameters.scale, parameters.zeroPoint)


def _scale_tensors(graph: SubGraphT) -> set[int]:
    """Return tensors that hold the scales and zero points of blockwise quantized ones."""
    found: set[int] = set()
    for tensor in graph.tensors:
        parameters = tensor.quantization
        details = parameters.details if parameters is not None else None
        if details is not None and parameters.detailsType == _BLOCKWISE:
            found.update((details.scales, details.zeroPoints))
    return found


def _sparse_indices(tensor: TensorT) -> Iterator[Any]:
    """Return the index vectors of a sparse tensor."""
    if tensor.sparsity is not None:
        for dimension in tensor.sparsity.dimMetadata or []:
            for vector in (dimension.arraySegments, dimension.arrayIndices):
                if vector is not None:
                    yield vector.values


def _places(vectors: Iterable[Any]) -> set[Place]:
    """Yield address and size of vectors, without absent ones."""
    arrays = (np.asarray(vector) for vector in vectors if vector is not None)
    return {(array.__array_interface__["data"][0], array.nbytes) for array in arrays}

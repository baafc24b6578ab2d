"""Store kernels of a pruned model sparse: smaller in flash, unpacked when the model is loaded.

A sparse constant holds its nonzero weights, the column of each, and where rows begin (the schema's
`SparsityParameters`). No kernel reads it directly: a DENSIFY operator before it unpacks it once, so
the dense kernel takes memory at run time, whereas that of a dense file can remain in the file.
Latency does not change, unless `targets.xnnpack_sparse` predicts it.

Two kernels of TFLite take sparse weights directly (FULLY_CONNECTED, float32 in blocks of 1x4 and
int8 in blocks of 1x16), but the XNNPACK delegate takes over these operators without a check, and
reads beyond the end of the values.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array
from edgekit.tflite.equivalence import difference
from edgekit.tflite.graph import (
    FLOAT16,
    FLOAT32,
    INT8,
    constant,
    is_constant,
    operator_code,
    operator_name,
    write,
)
from edgekit.tflite.rewriter import Rewriter

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import (
        DimensionMetadataT,
        ModelT,
        OperatorT,
        SparsityParametersT,
        SubGraphT,
        TensorT,
    )

# Operator -> the input that is its kernel. DEQUANTIZE reads float16 kernels.
_KERNELS: Final = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "DEQUANTIZE": 0}

# Block sizes: consecutive inputs of an output that are stored or left out together.
_BLOCKS: Final = (1, 2, 4, 8, 16)

# Bytes besides the vectors: a DENSIFY operator, its tensor, its buffer, the tables of the sparsity,
# and alignment: 190 to 260 in encoded files.
_TABLES_BYTES: Final = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """A kernel, and whether it was encoded.

    Attributes:
        name: Name of its tensor.
        operator: Name of the operator that reads it.
        sparsity: Share of zeros.
        dense_bytes: Its size in the file when dense.
        sparse_bytes: Its size when sparse, tables included; None if not computed.
        block: Consecutive inputs that are stored or left out together.
        reason: Why it remains dense; None if it was encoded.
    """

    name: str
    operator: str
    sparsity: float
    dense_bytes: int
    sparse_bytes: int | None = None
    block: int = 1
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A model with kernels stored sparse where that reduces its size.

    Attributes:
        model: The model; the given object if no kernel was encoded.
        data: Its serialized form.
        kernels: Every kernel of the model.
        dense_size_bytes: Size of the dense file.
        dense_deflated_bytes: Download size of the dense file (zlib level 9).
        size_bytes: Size of `data`.
        size_deflated_bytes: Download size of `data` (zlib level 9): for float32 within some percent
            of the dense file's, for int8 up to a sixth more, since deflate compresses zeros well.
    """

    model: ModelT
    data: bytes
    kernels: tuple[Considered, ...]
    dense_size_bytes: int
    dense_deflated_bytes: int
    size_bytes: int
    size_deflated_bytes: int

    @property
    def unpacked_bytes(self) -> int:
        """Return the memory in bytes that the unpacked kernels take at run time."""
        return sum(kernel.dense_bytes for kernel in self.kernels if kernel.reason is None)


@dataclass(frozen=True, slots=True)
class Packed:
    """A kernel in CSR form: all axes are dense except the last, which is compressed by blocks.

    Attributes:
        values: Blocks that are not all zero, `[blocks * block]`.
        segments: Start of each row's blocks, and the end of the last, `[rows + 1]`.
        indices: Column of each block, in blocks, `[blocks]`.
        block: Number of weights in a block.
    """

    values: Array
    segments: Array
    indices: Array
    block: int

    @property
    def size_bytes(self) -> int:
        """Return the bytes in the file, tables included."""
        return self.values.nbytes + self.segments.nbytes + self.indices.nbytes + _TABLES_BYTES


def encode_sparse(model: ModelT) -> Encoded:
    """Store kernels sparse where that reduces the size, and verify the outputs.

    The result is loaded and compared with the dense model, with the XNNPACK delegate and without.

    Args:
        model: A pruned model: float32, float16, int8 or int16x8; it is not changed. The result runs
            in LiteRT and tflite-runtime; microcontrollers and accelerators have no DENSIFY.

    Raises:
        ModelError: The size of a constant does not match its shape.
    """
    encoded, kernels = store_sparse(model)
    dense = data = write(model)
    if encoded is not model:
        data = write(encoded)
        refusal = _not_smaller(dense, data) or difference(dense, data)
        if refusal is not None:
            encoded, data = model, dense
            kernels = tuple(replace(k, reason=k.reason or refusal) for k in kernels)
    return Encoded(
        model=encoded,
        data=data,
        kernels=kernels,
        dense_size_bytes=len(dense),
        dense_deflated_bytes=len(zlib.compress(dense, 9)),
        size_bytes=len(data),
        size_deflated_bytes=len(zlib.compress(data, 9)),
    )


def store_sparse(model: ModelT) -> tuple[ModelT, tuple[Considered, ...]]:
    """Encode as `encode_sparse` does, without serializing and running the result.

    Returns:
        The encoded model, `model` itself if no kernel was encoded; and every kernel.
    """
    dense = model
    rewriter = Rewriter(model)
    model = rewriter.model
    owners = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)
    considered: list[Considered] = []
    for graph in model.subgraphs:
        expansions = []
        for index, users in _kernels(model, graph).items():
            tensor = graph.tensors[index]
            found, packed = _consider(model, graph, index, users, owners[tensor.buffer])
            considered.append(found)
            if packed is not None:
                expansions.append(_expand(model, graph, index, packed))
        graph.operators = [*expansions, *graph.operators]
    kernels = tuple(considered)
    if all(kernel.reason is not None for kernel in kernels):
        return dense, kernels
    return rewriter.finish(), kernels


def _not_smaller(dense: bytes, encoded: bytes) -> str | None:
    if len(encoded) < len(dense):
        return None
    return f"The file would not be smaller: {len(encoded)} bytes instead of {len(dense)}."


def pack(kernel: Array, block: int = 1) -> Packed:
    """Encode a kernel in CSR form.

    Of the row `[0, 5, 0, 7]`, only the nonzero values and their columns are stored:

    >>> packed = pack(np.array([[0, 5, 0, 7], [0, 0, 0, 0]], np.int8))
    >>> packed.values.tolist(), packed.indices.tolist(), packed.segments.tolist()
    ([5, 7], [1, 3], [0, 2, 2])

    Args:
        kernel: `[..., inputs]`.
        block: Number of weights in a block, a divisor of `inputs`.
    """
    blocks = kernel.reshape(-1, kernel.shape[-1] // block, block)
    kept = (blocks != 0).any(axis=-1)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return Packed(blocks[kept].reshape(-1), _narrow(starts), _narrow(np.nonzero(kept)[1]), block)


def _kernels(model: ModelT, graph: SubGraphT) -> dict[int, list[OperatorT]]:
    """Return constant tensors that are a kernel -> all operators that read them."""
    users: dict[int, list[OperatorT]] = {}
    found = []
    for op in graph.operators:
        place = _KERNELS.get(operator_name(model, op))
        for position, index in enumerate(map(int, op.inputs)):
            if index < 0:
                continue
            users.setdefault(index, []).append(op)
            tensor = graph.tensors[index]
            if position == place and is_constant(model, tensor) and len(tensor.shape) > 1:
                found.append(index)
    return {index: users[index] for index in dict.fromkeys(found)}


def _consider(
    model: ModelT, graph: SubGraphT, index: int, users: list[OperatorT], owners: int
) -> tuple[Considered, Packed | None]:
    """Return a kernel's sizes dense and sparse, and why it cannot be encoded."""
    tensor = graph.tensors[index]
    operator = operator_name(model, users[0])
    size = len(model.buffers[tensor.buffer].data)
    found = Considered(name=tensor.name, operator=operator, sparsity=0.0, dense_bytes=size)
    if tensor.sparsity is not None:
        return replace(found, reason="It is stored sparse already."), None
    if tensor.type not in {FLOAT32, FLOAT16, INT8}:
        return replace(found, reason="DENSIFY unpacks float32, float16 and int8."), None
    values = constant(model, tensor)
    found = replace(found, sparsity=1 - np.count_nonzero(values) / values.size)
    if owners > 1:
        return replace(found, reason="Another constant shares its bytes."), None
    if index in graph.outputs or tensor.isVariable:
        return replace(found, reason="It is not only a constant, but an output or a state."), None
    for op in users:
        if refusal := _refusal(model, graph, op, index):
            return replace(found, reason=refusal), None
    candidates = [pack(values, block) for block in _BLOCKS if values.shape[-1] % block == 0]
    packed = min(candidates, key=lambda packed: packed.size_bytes)
    found = replace(found, sparse_bytes=packed.size_bytes, block=packed.block)
    if packed.size_bytes >= size:
        reason = f"It is no smaller when sparse: {packed.size_bytes} bytes instead of {size}."
        return replace(found, reason=reason), None
    return found, packed


def _refusal(model: ModelT, graph: SubGraphT, op: OperatorT, index: int) -> str | None:
    """Return why an operator cannot read an unpacked kernel; None where it can."""
    name = operator_name(model, op)
    place = _KERNELS.get(name)
    if place is None or [i for i, used in enumerate(op.inputs) if used == index] != [place]:
        return f"{name} reads it, but not as a kernel."
    kernel = graph.tensors[index].type
    if name == "DEQUANTIZE":
        return None if kernel == FLOAT16 else "DEQUANTIZE reads it, for a kernel of integers."
    data = graph.tensors[op.inputs[0]].type
    if kernel == INT8 and data == FLOAT32:
        return f"{name} computes in float with its integers: such a file fails to load."
    if kernel == INT8 and data == INT8 and name == "FULLY_CONNECTED":
        # "failed to delegate FULLY_CONNECTED node": LiteRT 2.3, XNNPACK on.
        return "LiteRT fails to load a FULLY_CONNECTED with unpacked int8 weights."
    return None


def _expand(model: ModelT, graph: SubGraphT, index: int, packed: Packed) -> OperatorT:
    """Replace a constant by its sparse form and a DENSIFY."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[index]
    model.buffers.append(schema.BufferT(data=packed.values.view(np.uint8)))
    graph.tensors.append(
        schema.TensorT(
            shape=tensor.shape,
            type=tensor.type,
            buffer=len(model.buffers) - 1,
            name=tensor.name,
            sparsity=_parameters(tensor, packed),
            hasRank=True,
        )
    )
    tensor.buffer = 0
    tensor.name = f"densified_{index}"
    return schema.OperatorT(
        opcodeIndex=operator_code(model, "DENSIFY", 1),
        inputs=np.array([len(graph.tensors) - 1], np.int32),
        outputs=np.array([index], np.int32),
    )


def _parameters(tensor: TensorT, packed: Packed) -> SparsityParametersT:
    """Return the schema's tables: dense rows, compressed columns and, if used, dense blocks."""
    from ai_edge_litert import schema_py_generated as schema

    segments_type, segments = _index_vector(packed.segments)
    indices_type, indices = _index_vector(packed.indices)
    axes: list[DimensionMetadataT] = [
        schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=int(size))
        for size in tensor.shape[:-1]
    ]
    axes.append(
        schema.DimensionMetadataT(
            format=schema.DimensionType.SPARSE_CSR,
            arraySegmentsType=segments_type,
            arraySegments=segments,
            arrayIndicesType=indices_type,
            arrayIndices=indices,
        )
    )
    last = len(tensor.shape) - 1
    blocked = None
    if packed.block > 1:
        axes.append(
            schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=packed.block)
        )
        blocked = np.array([last], np.int32)
    return schema.SparsityParametersT(
        traversalOrder=np.arange(len(axes), dtype=np.int32), blockMap=blocked, dimMetadata=axes
    )


def _index_vector(values: Array) -> tuple[int, object]:
    """Return numbers as a member of the schema's `SparseIndexVector` union."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = schema.SparseIndexVector
    if values.dtype == np.uint8:
        return kinds.Uint8Vector, schema.Uint8VectorT(values=values)
    if values.dtype == np.uint16:
        return kinds.Uint16Vector, schema.Uint16VectorT(values=values)
    return kinds.Int32Vector, schema.Int32VectorT(values=values)


def _narrow(values: NDArray[np.int64]) -> Array:
    """Return the numbers in the narrowest integer type of the schema that can hold them."""
    largest = int(values.max(initial=0))
    return values.astype(
        np.uint8 if largest < 1 << 8 else np.uint16 if largest < 1 << 16 else np.int32
    )

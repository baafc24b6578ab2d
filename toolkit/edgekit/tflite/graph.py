"""Read a `.tflite` file into objects, access and copy them, and serialize them.

The objects are those of the schema (`ai_edge_litert.schema_py_generated`): `ModelT`, `SubGraphT`,
`TensorT`, `OperatorT`. `read` guarantees more than the schema; see its docstring.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import flatbuffers
import numpy as np

from edgekit.errors import ModelError
from edgekit.files import check_input
from edgekit.records import Array
from edgekit.tflite.contents import of_content
from edgekit.tflite.stored import content_of
from edgekit.tflite.unpack import unpack
from edgekit.tflite.verify import verify

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

# TensorType code -> numpy name, for types with a numpy counterpart.
DTYPES: Final[dict[int, str]] = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    15: "uint32",
    16: "uint16",
}
FLOAT32: Final = 0
FLOAT16: Final = 1
INT32: Final = 2
UINT8: Final = 3
INT64: Final = 4
INT16: Final = 7
INT8: Final = 9
INT4: Final = 17
_PLAIN: Final = frozenset({type(None), bool, int, str, bytes, float, np.ndarray})
_MOST_ELEMENTS: Final = (1 << 63) - 1


def read(source: Path | bytes) -> ModelT:
    """Read a model.

    In the result, lists of tensors, operators, inputs and outputs are never None, indices of
    tensors, buffers, operator codes and subgraphs are in range, names are `str`, shapes are int32
    arrays of sizes whose product is below 2**63, scales and zero points are equally many (or there
    are no zero points: they are 0), and buffers are read-only uint8 arrays or None.

    Args:
        source: A file, plain or packed with gzip, or the content of a plain one.

    Raises:
        ModelError: It cannot be read, is no TFLite file, or is damaged.
    """
    if isinstance(source, bytes):
        name, data = "The model", source
    else:
        name = str(source)
        check_input(source, ModelError, hint="Give an existing .tflite file.")
        data = content_of(source)
    verify(data, name)
    try:
        model = unpack(data)
        _complete(model)
    except Exception as error:  # the reader raises exceptions of struct and numpy
        raise ModelError(
            f"{name} is damaged: its content is inconsistent.",
            found=str(error),
            hint="Copy or convert it again.",
        ) from error
    return model


def write(model: ModelT) -> bytes:
    """Serialize a model; every buffer starts on a 16-byte boundary, as the schema requires."""
    size = sum(len(b.data) for b in model.buffers if b.data is not None)
    parts = sum(len(graph.tensors) + len(graph.operators) for graph in model.subgraphs)
    # Where this is too little, the builder starts again with twice as much.
    builder = _AlignedBuilder(size + size // 64 + 512 * parts + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    # `Output()` would make another copy, which matters for weights of 100 MB.
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


def clone(model: ModelT) -> ModelT:
    """Copy a model so that its tables can be changed; arrays are shared, so replace them."""
    duplicate: ModelT = _cloned(model, {})
    return duplicate


def _cloned(value: Any, known: dict[int, Any]) -> Any:
    """Copy the schema's objects and lists of them; `copy.deepcopy` takes ten times as long."""
    if isinstance(value, list):
        return [_cloned(entry, known) for entry in value]
    if not hasattr(value, "__dict__"):
        return value
    duplicate = known.get(id(value))
    if duplicate is None:
        known[id(value)] = duplicate = object.__new__(type(value))
        fields = dict(vars(value))
        for name, entry in fields.items():
            if type(entry) not in _PLAIN:
                fields[name] = _cloned(entry, known)
        duplicate.__dict__ = fields
    return duplicate


def add_constant(model: ModelT, graph: SubGraphT, values: Array, name: str) -> int:
    """Add a tensor with constant values to a graph of a model, in place, and return its index.

    Args:
        model: The model; a copy that may be changed.
        graph: One of its graphs.
        values: In float32 or int32.
        name: Of the tensor.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    model.buffers.append(schema.BufferT(data=data))
    graph.tensors.append(
        schema.TensorT(
            shape=np.array(values.shape, np.int32),
            type={"float32": FLOAT32, "int32": INT32}[values.dtype.name],
            buffer=len(model.buffers) - 1,
            name=name,
            hasRank=True,
        )
    )
    return len(graph.tensors) - 1


def operator_name(model: ModelT, op: OperatorT) -> str:
    """Return the name of an operator in the schema, e.g. CONV_2D, or of a custom operator."""
    return code_name(model.operatorCodes[op.opcodeIndex])


def code_name(code: Any) -> str:
    """Return the name of an operator code in the schema, or of a custom operator."""
    builtin = builtin_code(code)
    if builtin == _builtin_operators()["CUSTOM"]:
        return as_text(code.customCode) or "CUSTOM"
    return _builtin_names().get(builtin, f"BUILTIN_{builtin}")


def builtin_code(code: Any) -> int:
    """Return the operator number; files before schema 3a have it in the deprecated 8-bit field."""
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def operator_code(model: ModelT, name: str, version: int) -> int:
    """Return the index of the operator code `name` at `version`, which is added if missing."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = _builtin_operators()[name]
    for index, code in enumerate(model.operatorCodes):
        if builtin_code(code) == builtin and code.version == version and not code.customCode:
            return index
    # The old field saturates at 127, which refers to the new one.
    model.operatorCodes.append(
        schema.OperatorCodeT(
            deprecatedBuiltinCode=min(builtin, 127), builtinCode=builtin, version=version
        )
    )
    return len(model.operatorCodes) - 1


def operators(model: ModelT) -> Iterator[tuple[SubGraphT, OperatorT, str]]:
    """Yield `(subgraph, operator, operator name)` in execution order."""
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            yield subgraph, op, operator_name(model, op)


def is_constant(model: ModelT, tensor: TensorT) -> bool:
    """Whether the tensor's values are stored in the file."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def has_loops(model: ModelT) -> bool:
    """Whether an operator repeats a graph until a condition holds, and so may not terminate."""
    return any(
        operator_name(model, op) in {"WHILE", "STABLEHLO_WHILE"}
        for graph in model.subgraphs
        for op in graph.operators
    )


def constant(model: ModelT, tensor: TensorT) -> Array:
    """Return the values of a constant tensor, in its shape; read-only.

    Raises:
        ModelError: The type has no numpy counterpart, or the buffer has another size.
    """
    data = model.buffers[tensor.buffer].data
    dtype = DTYPES.get(tensor.type)
    if dtype is None or data is None:
        raise ModelError(f"Tensor {tensor.name} holds no values that numpy can represent.")
    expected = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if len(data) != expected or tensor.sparsity is not None:
        raise ModelError(
            f"Tensor {tensor.name} does not hold what its shape {tuple(tensor.shape)} says.",
            found=f"{len(data)} bytes instead of {expected}",
            hint="Convert the model again, without sparse storage.",
        )
    values: Array = np.asarray(data).view(dtype).reshape(tensor.shape)
    return values


def finite(model: ModelT, tensor: TensorT) -> Array:
    """Return the values of a constant tensor, as `constant` does, without NaN and infinity.

    Raises:
        ModelError: It holds NaN or infinity.
    """
    values = constant(model, tensor)
    content = model.buffers[tensor.buffer].data
    kind = "finite", values.dtype.str
    if not of_content(content, kind, lambda: bool(np.isfinite(values).all())):
        raise ModelError(
            f"Tensor {tensor.name} holds NaN or infinity.",
            hint="Train the model again, or export it from an earlier checkpoint.",
        )
    return values


def quantized(tensor: TensorT) -> bool:
    """Whether the tensor carries a quantization scale."""
    parameters = tensor.quantization
    return parameters is not None and parameters.scale is not None and len(parameters.scale) > 0


def as_text(name: bytes | str | None) -> str:
    """Return a name as text; the generated reader gives bytes."""
    if isinstance(name, bytes):
        return name.decode("utf-8", errors="backslashreplace")
    return name or ""


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]  # untyped base
    """A builder with `force_align: 16` of the schema's byte vectors, which Python's ignores.

    Alignment counts from the end of the file, whose length `Finish` makes a multiple of it. Equal
    strings and vectors other than of bytes are stored once: shapes, and the zero points of weights
    and biases, are the same in many tensors.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._places: dict[object, int] = {}

    def CreateString(self, s: Any, *options: Any) -> int:  # noqa: N802  flatbuffers' name
        if s not in self._places:
            self._places[s] = int(super().CreateString(s, *options))
        return self._places[s]

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802  flatbuffers' name
        if x.dtype != np.uint8:
            key = x.dtype.str, x.tobytes()
            if key not in self._places:
                self._places[key] = int(super().CreateNumpyVector(x))
            return self._places[key]
        self.StartVector(1, x.size, 16)
        start = self.Head() - x.size
        self.head = start
        # A view is written in place; slicing the bytearray would make a copy.
        memoryview(self.Bytes)[start : start + x.size] = np.ascontiguousarray(x).data
        self.vectorNumElems = x.size
        return int(self.EndVector())


def _complete(model: ModelT) -> None:
    """Set absent fields to defaults and check every index; raise IndexError or ValueError."""
    model.operatorCodes = model.operatorCodes or []
    model.subgraphs = model.subgraphs or []
    model.buffers = model.buffers or []
    model.signatureDefs = model.signatureDefs or []
    model.metadata = model.metadata or []
    if not model.subgraphs:
        raise ValueError("it holds no graph")
    for buffer in model.buffers:
        if buffer.offset > 1:
            raise ValueError("its weights are stored outside the flatbuffer (a file over 2 GB)")
    for entry in model.metadata:
        _check([entry.buffer], len(model.buffers), f"the buffer of metadata {as_text(entry.name)}")
    for subgraph in model.subgraphs:
        _complete_graph(model, subgraph)
    for signature in model.signatureDefs:
        signature.signatureKey = as_text(signature.signatureKey)
        signature.inputs = signature.inputs or []
        signature.outputs = signature.outputs or []
        _check([signature.subgraphIndex], len(model.subgraphs), "a signature's graph")
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for entry in (*signature.inputs, *signature.outputs):
            entry.name = as_text(entry.name)
            _check([entry.tensorIndex], count, f"the tensor of signature entry {entry.name}")


def _complete_graph(model: ModelT, graph: SubGraphT) -> None:
    graph.name = as_text(graph.name)
    graph.tensors = graph.tensors or []
    graph.operators = graph.operators or []
    # Arrays that stand for many tensors' shapes: `unpack` makes one of each.
    checked: set[int] = set()
    for tensor in graph.tensors:
        tensor.name = as_text(tensor.name)
        tensor.shape = _indices(tensor.shape)
        if id(tensor.shape) not in checked:
            _check_shape(tensor.shape.tolist())
            checked.add(id(tensor.shape))
        if tensor.quantization is not None:
            _check_scales(tensor)
    buffers = [tensor.buffer for tensor in graph.tensors]
    _check(buffers, len(model.buffers), "the buffer of a tensor")
    count = len(graph.tensors)
    nothing = _indices(None)
    for owner in (graph, *graph.operators):
        if owner.inputs is None:
            owner.inputs = nothing
        if owner.outputs is None:
            owner.outputs = nothing
    _check(graph.inputs.tolist(), count, "an input of the graph")
    _check(graph.outputs.tolist(), count, "an output of the graph")
    codes = [op.opcodeIndex for op in graph.operators]
    _check(codes, len(model.operatorCodes), "an operator's code")
    # -1 denotes an absent optional input.
    for what in ("input", "output"):
        used = np.concatenate([nothing, *(getattr(op, f"{what}s") for op in graph.operators)])
        ends = [int(used.min()), int(used.max())] if len(used) else []
        _check(ends, count, f"an operator's {what}", least=-1)


def _check_shape(sizes: list[int]) -> None:
    _check(sizes, 1 << 31, "a dimension of a tensor")
    # Larger ones exceed any memory, and the digits that Python converts.
    if math.prod(sizes) > _MOST_ELEMENTS:
        raise ValueError(f"a tensor of {len(sizes)} dimensions has more than 2**63 elements")


def _check_scales(tensor: TensorT) -> None:
    scales, zero_points = tensor.quantization.scale, tensor.quantization.zeroPoint
    if scales is None or zero_points is None or len(zero_points) == 0:
        return
    if len(scales) != len(zero_points):
        raise ValueError(f"a tensor has {len(scales)} scales and {len(zero_points)} zero points")


def _indices(values: Any) -> Array:
    if isinstance(values, np.ndarray) and values.dtype == np.int32:
        return values
    return np.zeros(0, np.int32) if values is None else np.asarray(values, np.int32)


def _check(indices: list[int], end: int, what: str, *, least: int = 0) -> None:
    if indices and not (least <= min(indices) and max(indices) < end):
        index = next(index for index in indices if not least <= index < end)
        raise IndexError(f"{what} is {index}, beyond the {end} there are")


@cache
def _builtin_operators() -> dict[str, int]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {k: v for k, v in vars(BuiltinOperator).items() if not k.startswith("_")}


@cache
def _builtin_names() -> dict[int, str]:
    return {code: name for name, code in _builtin_operators().items()}

"""Read a verified file into the schema's objects, much faster than the generated reader.

The generated reader looks up every field of every table, in Python: a minute for a graph of 300,000
operators. Here the frequent tables (tensors, operators, buffers) are read by field number, and
their field lists (vtables), which most tables share, once. All other tables, and those with an
unknown field, are read by the generated reader.

Layout: https://flatbuffers.dev/internals/ and TFLite's `schema.fbs` (version 3).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.records import Array

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import (
        BufferT,
        ModelT,
        OperatorT,
        QuantizationParametersT,
        SubGraphT,
        TensorT,
    )

_I8: Final = Struct("<b").unpack_from
_U16: Final = Struct("<H").unpack_from
_I32: Final = Struct("<i").unpack_from
_U32: Final = Struct("<I").unpack_from
_U64: Final = Struct("<Q").unpack_from

# Fields of the longest table here; shorter field lists are padded with zeros.
_FIELDS: Final = 16

_INT32: Final = np.dtype(np.int32)
_INT64: Final = np.dtype(np.int64)
_FLOAT32: Final = np.dtype(np.float32)
_UINT8: Final = np.dtype(np.uint8)

Fields = tuple[int, ...]


def unpack(data: bytes) -> ModelT:
    """Read a model; its arrays are views of `data`.

    Args:
        data: A file that `verify` accepted. The contents of options may still be damaged: then
            `struct.error` and other exceptions are raised.
    """
    from ai_edge_litert import schema_py_generated as schema

    class WithoutMany(schema.Model):  # type: ignore[misc]  # untyped base
        """The generated reader of a model, without the vectors that are read here."""

        def SubgraphsIsNone(self) -> bool:  # noqa: N802  the schema's name
            return True

        def BuffersIsNone(self) -> bool:  # noqa: N802  the schema's name
            return True

    reader = _Reader(data)
    position = _U32(data, 0)[0]
    table = WithoutMany()
    table.Init(data, position)
    model: ModelT = schema.ModelT.InitFromObj(table)
    fields = reader.fields(position)
    model.subgraphs = reader.many(position, fields[2], reader.graph)
    model.buffers = reader.many(position, fields[4], reader.buffer)
    return model


class _Reader:
    """Reads the tables of one file by field number."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.data = data
        self.schema: Any = schema
        self._known: dict[int, Fields] = {}
        self._shapes: dict[bytes, Array] = {}
        self._options: dict[tuple[int, Fields, bytes], Any] = {}

    def fields(self, position: int) -> Fields:
        """Return the offset of every field in the table at `position`; 0 for an absent field.

        The last entry is the number of fields of the table.
        """
        vtable: int = position - _I32(self.data, position)[0]
        found = self._known.get(vtable)
        if found is None:
            count = max(0, _U16(self.data, vtable)[0] - 4) // 2
            found = Struct(f"<{count}H").unpack_from(self.data, vtable + 4)
            # Zeros at the end are absent fields, which writers usually leave out of the list.
            while found and not found[-1]:
                found = found[:-1]
            found += (*(0,) * (_FIELDS - len(found)), len(found))
            self._known[vtable] = found
        return found

    def many(self, position: int, offset: int, read: Callable[[int], Any]) -> list[Any] | None:
        """Return a vector of tables."""
        if not offset:
            return None
        data = self.data
        start = self._below(position + offset)
        count = _U32(data, start)[0]
        places = range(start + 4, start + 4 + 4 * count, 4)
        return [read(place + _U32(data, place)[0]) for place in places]

    def graph(self, position: int) -> SubGraphT:
        table = _without_many_in_graphs()()
        table.Init(self.data, position)
        graph: SubGraphT = self.schema.SubGraphT.InitFromObj(table)
        fields = self.fields(position)
        graph.tensors = self.many(position, fields[0], self.tensor)
        graph.operators = self.many(position, fields[3], self.operator)
        return graph

    def tensor(self, position: int) -> TensorT:
        fields = self.fields(position)
        if fields[-1] > 11:
            return self.schema.TensorT.InitFromBuf(self.data, position)
        tensor: TensorT = self.schema.TensorT()
        data = self.data
        shape, kind, buffer, name, quantization, variable, sparsity, signature = fields[:8]
        has_rank, variants, external = fields[8:11]
        if shape:
            tensor.shape = self._shape(position + shape)
        if kind:
            tensor.type = _I8(data, position + kind)[0]
        if buffer:
            tensor.buffer = _U32(data, position + buffer)[0]
        if name:
            start = self._below(position + name)
            tensor.name = data[start + 4 : start + 4 + _U32(data, start)[0]]
        if quantization:
            tensor.quantization = self._quantization(self._below(position + quantization))
        if variable:
            tensor.isVariable = data[position + variable] != 0
        if sparsity:
            place = self._below(position + sparsity)
            tensor.sparsity = self.schema.SparsityParametersT.InitFromBuf(data, place)
        if signature:
            tensor.shapeSignature = self._shape(position + signature)
        if has_rank:
            tensor.hasRank = data[position + has_rank] != 0
        if variants:
            read = self.schema.VariantSubTypeT.InitFromBuf
            tensor.variantTensors = self.many(position, variants, lambda at: read(data, at))
        if external:
            tensor.externalBuffer = _U32(data, position + external)[0]
        return tensor

    def operator(self, position: int) -> OperatorT:
        fields = self.fields(position)
        # Few have any of the following fields: custom options, intermediates, StableHLO's.
        if fields[-1] > 5:
            return self.schema.OperatorT.InitFromBuf(self.data, position)
        operator: OperatorT = self.schema.OperatorT()
        data = self.data
        code, inputs, outputs, kind, options = fields[:5]
        if code:
            operator.opcodeIndex = _U32(data, position + code)[0]
        if inputs:
            operator.inputs = self._vector(position + inputs, _INT32)
        if outputs:
            operator.outputs = self._vector(position + outputs, _INT32)
        if kind:
            operator.builtinOptionsType = data[position + kind]
        if options:
            place = self._below(position + options)
            operator.builtinOptions = self._options_at(place, operator.builtinOptionsType)
        return operator

    def _options_at(self, place: int, kind: int) -> Any:
        """The options of an operator; of the same ones, all but the first are copies."""
        create = _option_readers().get(kind)
        if create is None:
            return None
        data = self.data
        size = _U16(data, place - _I32(data, place)[0] + 2)[0]
        key = (kind, self.fields(place), data[place + 4 : place + size])
        first = self._options.get(key)
        if first is None:
            options = create(data, place)
            # Of numbers alone: then what is in the table is all there is to know.
            if all(type(value) in {int, float, bool} for value in vars(options).values()):
                self._options[key] = options
            return options
        options = object.__new__(type(first))
        for name, value in vars(first).items():
            setattr(options, name, value)
        return options

    def buffer(self, position: int) -> BufferT:
        fields = self.fields(position)
        if fields[-1] > 3:
            return self.schema.BufferT.InitFromBuf(self.data, position)
        buffer: BufferT = self.schema.BufferT()
        content, offset, size = fields[:3]
        if content:
            buffer.data = self._vector(position + content, _UINT8)
        if offset:
            buffer.offset = _U64(self.data, position + offset)[0]
        if size:
            buffer.size = _U64(self.data, position + size)[0]
        return buffer

    def _quantization(self, position: int) -> QuantizationParametersT:
        fields = self.fields(position)
        if fields[4] or fields[5] or fields[-1] > 7:  # details, a union, or a field not known here
            return self.schema.QuantizationParametersT.InitFromBuf(self.data, position)
        parameters: QuantizationParametersT = self.schema.QuantizationParametersT()
        low, high, scale, zero_point = fields[:4]
        if low:
            parameters.min = self._vector(position + low, _FLOAT32)
        if high:
            parameters.max = self._vector(position + high, _FLOAT32)
        if scale:
            parameters.scale = self._vector(position + scale, _FLOAT32)
        if zero_point:
            parameters.zeroPoint = self._vector(position + zero_point, _INT64)
        if fields[6]:
            parameters.quantizedDimension = _I32(self.data, position + fields[6])[0]
        return parameters

    def _below(self, place: int) -> int:
        """Return the position that the offset at `place` refers to."""
        target: int = place + _U32(self.data, place)[0]
        return target

    def _shape(self, place: int) -> Array:
        """A vector of int32, one array for all of the same content: models have few shapes."""
        start = self._below(place)
        content = self.data[start + 4 : start + 4 + 4 * _U32(self.data, start)[0]]
        found = self._shapes.get(content)
        if found is None:
            found = self._shapes[content] = np.frombuffer(content, _INT32)
        return found

    def _vector(self, place: int, dtype: np.dtype[Any]) -> Array:
        data = self.data
        start = place + _U32(data, place)[0]
        return np.frombuffer(data, dtype, _U32(data, start)[0], start + 4)


@cache
def _without_many_in_graphs() -> Any:
    from ai_edge_litert import schema_py_generated as schema

    class WithoutMany(schema.SubGraph):  # type: ignore[misc]  # untyped base
        """The generated reader of a graph, without the vectors that are read here."""

        def TensorsIsNone(self) -> bool:  # noqa: N802  the schema's name
            return True

        def OperatorsIsNone(self) -> bool:  # noqa: N802  the schema's name
            return True

    return WithoutMany


@cache
def _option_readers() -> dict[int, Callable[[bytes, int], Any]]:
    """Return kind of options -> its reader; the generated code tries them one by one."""
    from ai_edge_litert import schema_py_generated as schema

    return {
        code: getattr(schema, f"{name}T").InitFromBuf
        for name, code in vars(schema.BuiltinOptions).items()
        if isinstance(code, int) and code
    }

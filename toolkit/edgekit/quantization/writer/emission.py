"""Write a graph with the operators of some precisions, and conversions between these."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.numerics import pack_int4
from edgekit.numerics.affine import by_channel
from edgekit.quantization.writer.constants import (
    Codes,
    activation_codes,
    bias_codes,
    centered,
    fit_bias,
    own_codes,
    weight_codes,
    within_reach,
)
from edgekit.quantization.writer.operators import LARGE_PRODUCT, OPERATORS, Operator, Parameters
from edgekit.quantization.writer.precisions import FLOAT
from edgekit.quantization.writer.recurrent import INTERMEDIATES, lstm_codes
from edgekit.quantization.writer.scales import Scales, parameters_of_values
from edgekit.records import Array
from edgekit.targets.node import Node
from edgekit.tflite.graph import (
    FLOAT32,
    INT4,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    clone,
    finite,
    operator_code,
)
from edgekit.tflite.int4_weights import INT4_VERSIONS
from edgekit.tflite.lstm import STATE_INPUTS
from edgekit.tflite.rewriter import compact

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, TensorT

_TYPES: Final = {8: INT8, 16: INT16}
_STORED: Final = {"int8": INT8, "int16": INT16, "int32": INT32, "int64": INT64}
# Conversion -> version, by the wider of the two widths.
_CONVERSIONS: Final = {"QUANTIZE": {8: 1, 16: 2}, "DEQUANTIZE": {8: 2, 16: 2}}


class Emission:
    """A graph being written, operator by operator.

    Args:
        model: The float model; it is not changed.
        scales: Width of activations -> their parameters.
        widths: Operator index -> width of its activations; absent for float.
        four_bits: Indices of operators whose weights are stored as int4.
        centers: As of `Ranges`.
    """

    def __init__(
        self,
        model: ModelT,
        scales: Mapping[int, Scales],
        widths: Mapping[int, int],
        four_bits: Container[int] = (),
        centers: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._source = model
        self._model = _emptied(model)
        self._graph = self._model.subgraphs[0]
        self._floats = model.subgraphs[0].tensors
        self._scales, self._widths, self._four_bits = scales, widths, four_bits
        self._centers = centers or {}
        # (source tensor, parameters or None for float) -> tensor.
        self._forms: dict[tuple[int, Parameters | None], int] = {}
        self._homes: dict[int, Parameters | None] = {}
        self._constants: dict[object, int] = {}
        self._buffers: dict[bytes, int] = {}

    def add_input(self, index: int, kind: str, parameters: Parameters | None) -> int:
        """Add an input of the graph, in the type that the file shall have."""
        source = self._floats[index]
        if source.type != FLOAT32 or kind == FLOAT or parameters is None:
            return self._home(index, None)
        if kind == "uint8":
            given = self._tensor(source, f"{source.name}_uint8", UINT8, _unsigned(parameters))
            self._convert("QUANTIZE", given, self._home(index, parameters), 8)
            return given
        return self._home(index, parameters)

    def add(self, node: Node, op: OperatorT) -> None:
        """Add an operator in its precision, after the conversions of its inputs."""
        bits = self._widths.get(node.index)
        made = copy.copy(op)
        if bits is None:
            made.inputs = self._places([self._form(int(i), None) for i in op.inputs])
            made.outputs = self._places([self._home(int(i), None) for i in op.outputs])
            self._graph.operators.append(made)
            return
        row, scales = OPERATORS[node.name], self._scales[bits]
        made.inputs = self._places(self._integer_inputs(node, row, scales))
        own = {t.index: scales.own.get(t.index) for t in node.outputs if t.dtype == FLOAT}
        made.outputs = self._places([self._home(int(i), own.get(int(i))) for i in op.outputs])
        version = max(self._version(op), row.version_for(bits), self._large_product(node, scales))
        if node.index in self._four_bits:
            version = max(version, INT4_VERSIONS[node.name])
        made.opcodeIndex = operator_code(self._model, node.name, version)
        if row.recurrent:
            made.intermediates = self._intermediates(scales.own[node.outputs[0].index])
        if bits == 16 and hasattr(op.builtinOptions, "potScaleInt16"):
            made.builtinOptions = copy.copy(op.builtinOptions)
            made.builtinOptions.potScaleInt16 = False
        self._graph.operators.append(made)

    def add_output(self, index: int, kind: str, parameters: Parameters | None) -> int:
        """Add an output of the graph, in the type that the file shall have."""
        if self._floats[index].type != FLOAT32:
            return self._form(index, None)
        if kind == FLOAT or parameters is None:
            return self._form(index, None)
        inside = self._form(index, parameters)
        if kind != "uint8":
            return inside
        source = self._floats[index]
        asked = self._tensor(source, f"{source.name}_uint8", UINT8, _unsigned(parameters))
        self._convert("QUANTIZE", inside, asked, 8)
        return asked

    def finish(self, inputs: Mapping[int, int], outputs: Mapping[int, int]) -> ModelT:
        """Return the model.

        Args:
            inputs: Tensor index in the source -> in the result, of the graph's inputs.
            outputs: Likewise.
        """
        graph = self._model.subgraphs[0]
        source = self._source.subgraphs[0]
        graph.inputs = self._places([inputs[int(i)] for i in source.inputs])
        graph.outputs = self._places([outputs[int(i)] for i in source.outputs])
        for signature in self._model.signatureDefs:
            if signature.subgraphIndex == 0:
                for entries, places in ((signature.inputs, inputs), (signature.outputs, outputs)):
                    for entry in entries:
                        entry.tensorIndex = places[int(entry.tensorIndex)]
        compact(self._model)
        return self._model

    def _integer_inputs(self, node: Node, row: Operator, scales: Scales) -> list[int]:
        weights = self._weights(node, row, scales)
        states = self._states(node, row, scales)
        found = []
        for number, tensor in enumerate(node.inputs):
            if tensor is None:
                found.append(-1)
            elif number in states:
                found.append(self._home(tensor.index, states[number]))
            elif number in weights:
                found.append(self._stored(tensor.index, weights[number]))
            elif tensor.dtype != FLOAT:
                found.append(self._form(tensor.index, None))
            elif tensor.constant:
                values = finite(self._source, self._floats[tensor.index])
                parameters = (
                    scales.wanted(node, tensor.index)
                    if row.scale == "same"
                    else parameters_of_values(values, scales.bits)
                )
                found.append(self._stored(tensor.index, activation_codes(values, parameters)))
            else:
                found.append(self._form(tensor.index, scales.wanted(node, tensor.index)))
        return found

    def _weights(self, node: Node, row: Operator, scales: Scales) -> dict[int, Codes]:
        """Return the codes of the weights and the bias, by input number."""
        given = {
            number: finite(self._source, self._floats[tensor.index])
            for number in sorted(row.parts)
            if (tensor := node.input(number)) is not None and tensor.constant
        }
        activation = node.inputs[row.activation]
        if not given or activation is None:
            return {}
        step = scales.wanted(node, activation.index).scale
        if row.weight is None:
            return lstm_codes(given, step)
        values, bias = given[row.weight], given.get(-1 if row.bias is None else row.bias)
        bits = 4 if node.index in self._four_bits else 8
        weights = node.input(row.weight)
        assert weights is not None
        content = self._source.buffers[self._floats[weights.index].buffer].data
        own = own_codes(content, values, row.axis, bits)
        spread = own.scales
        if bias is not None:
            ends = scales.wanted(node, activation.index), scales.own[node.outputs[0].index]
            flat = within_reach(bias.reshape(-1), by_channel(values, row.axis), spread, *ends)
            bias, spread = flat.reshape(bias.shape), fit_bias(spread, flat, step, scales.bits)
        same = np.array_equal(spread, own.scales)
        codes = {row.weight: own if same else weight_codes(values, spread, row.axis, bits)}
        if bias is not None:
            assert row.bias is not None
            center = self._centers.get(node.outputs[0].name)
            if center is not None:
                bias = centered(bias, values, codes[row.weight], center)
            codes[row.bias] = bias_codes(bias, spread, step, scales.bits)
        return codes

    @staticmethod
    def _states(node: Node, row: Operator, scales: Scales) -> dict[int, Parameters]:
        """Return the parameters of an LSTM's states, by input number."""
        if not row.recurrent:
            return {}
        output, cell = STATE_INPUTS
        tensor = node.inputs[cell]
        assert tensor is not None
        return {output: scales.own[node.outputs[0].index], cell: scales.own[tensor.index]}

    def _intermediates(self, parameters: Parameters) -> Array:
        """Add the tensors for the values inside an LSTM, and return their indices."""
        from ai_edge_litert import schema_py_generated as schema

        first = len(self._graph.tensors)
        for index in range(first, first + INTERMEDIATES):
            tensor = schema.TensorT(
                shape=np.zeros(1, np.int32), buffer=0, name=f"intermediate{index}", hasRank=True
            )
            self._graph.tensors.append(tensor)
        tensor.type, tensor.quantization = INT8, _activation(parameters)
        return self._places(list(range(first, first + INTERMEDIATES)))

    def _home(self, index: int, parameters: Parameters | None) -> int:
        """Return the new tensor of one that an operator computes or the caller gives."""
        if index < 0:
            return -1
        source = self._floats[index]
        if parameters is None:
            place = self._copy(source)
        else:
            place = self._tensor(source, source.name, _TYPES[parameters.bits], parameters)
        self._homes[index] = parameters
        self._forms[index, parameters] = place
        return place

    def _form(self, index: int, parameters: Parameters | None) -> int:
        """Return a tensor in float or in some parameters, converted where it is not so yet."""
        if index < 0:
            return -1
        known = self._forms.get((index, parameters))
        if known is not None:
            return known
        if index not in self._homes:  # a constant
            self._forms[index, None] = self._copied_constant(index)
            return self._forms[index, None]
        source, home = self._floats[index], self._homes[index]
        start = self._forms[index, home]
        if parameters is None:
            assert home is not None
            # The float form has the name; it may be one of the outputs.
            inner = self._graph.tensors[start]
            inner.name = f"{source.name}_int{home.bits}"
            place = self._copy(source)
            self._convert("DEQUANTIZE", start, place, home.bits)
        else:
            name = f"{source.name}_int{parameters.bits}"
            place = self._tensor(source, name, _TYPES[parameters.bits], parameters)
            wider = max(parameters.bits, 0 if home is None else home.bits)
            self._convert("QUANTIZE", start, place, wider)
        self._forms[index, parameters] = place
        return place

    def _convert(self, name: str, start: int, end: int, bits: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._graph.operators.append(
            schema.OperatorT(
                opcodeIndex=operator_code(self._model, name, _CONVERSIONS[name][bits]),
                inputs=self._places([start]),
                outputs=self._places([end]),
            )
        )

    def _copy(self, source: TensorT) -> int:
        tensor = copy.copy(source)
        tensor.quantization = None
        tensor.buffer = 0
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _tensor(self, source: TensorT, name: str, kind: int, parameters: Parameters) -> int:
        tensor = copy.copy(source)
        tensor.name, tensor.type, tensor.buffer = name, kind, 0
        tensor.quantization = _activation(parameters)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _copied_constant(self, index: int) -> int:
        tensor = copy.copy(self._floats[index])
        data = self._source.buffers[tensor.buffer].data
        if data is None:
            return self._copy(tensor)
        return self._once((tensor.type, tuple(tensor.shape)), tensor, data)

    def _stored(self, index: int, codes: Codes) -> int:
        values = np.ascontiguousarray(codes.values)
        data = pack_int4(values) if codes.bits == 4 else values.reshape(-1).view(np.uint8)
        tensor = copy.copy(self._floats[index])
        tensor.type = INT4 if codes.bits == 4 else _STORED[values.dtype.name]
        tensor.quantization = _quantization(codes.scales, codes.zero_point, codes.axis)
        scales = codes.scales.tobytes(), codes.zero_point, codes.axis
        return self._once((tensor.type, tuple(tensor.shape), *scales), tensor, data)

    def _once(self, kind: tuple[object, ...], tensor: TensorT, data: Array) -> int:
        """Add a constant tensor, unless there is an equal one; equal contents share a buffer."""
        from ai_edge_litert import schema_py_generated as schema

        content = data.tobytes()
        key = kind, content
        if key not in self._constants:
            if content not in self._buffers:
                self._model.buffers.append(schema.BufferT(data=data))
                self._buffers[content] = len(self._model.buffers) - 1
            tensor.buffer = self._buffers[content]
            self._graph.tensors.append(tensor)
            self._constants[key] = len(self._graph.tensors) - 1
        return self._constants[key]

    def _version(self, op: OperatorT) -> int:
        return int(self._source.operatorCodes[op.opcodeIndex].version)

    def _large_product(self, node: Node, scales: Scales) -> int:
        version = LARGE_PRODUCT.get(node.name, 0)
        if not version or scales.bits != 8:
            return 0
        first, second = (self._input_scale(node, number, scales) for number in (0, 1))
        return version if first * second >= scales.own[node.outputs[0].index].scale else 0

    def _input_scale(self, node: Node, number: int, scales: Scales) -> float:
        tensor = node.inputs[number]
        assert tensor is not None
        if tensor.constant:
            values = finite(self._source, self._floats[tensor.index])
            return parameters_of_values(values, scales.bits).scale
        return scales.wanted(node, tensor.index).scale

    @staticmethod
    def _places(indices: list[int]) -> Array:
        return np.array(indices, np.int32)


def _emptied(model: ModelT) -> ModelT:
    """Copy a model without the tensors and operators of its first graph."""
    graph, emptied = copy.copy(model.subgraphs[0]), copy.copy(model)
    graph.tensors, graph.operators = [], []
    emptied.subgraphs = [graph, *model.subgraphs[1:]]
    return clone(emptied)


def _quantization(scales: Array, zero_point: int, axis: int) -> object:
    from ai_edge_litert import schema_py_generated as schema

    return schema.QuantizationParametersT(
        scale=scales, zeroPoint=np.full(len(scales), zero_point, np.int64), quantizedDimension=axis
    )


def _activation(parameters: Parameters) -> object:
    return _quantization(np.array([parameters.scale], np.float32), parameters.zero_point, 0)


def _unsigned(parameters: Parameters) -> Parameters:
    return Parameters(parameters.bits, parameters.scale, parameters.zero_point + 128)

"""Common parts of the weight rewriters: a model being rewritten, and storage of its weights."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from edgekit.errors import ModelError
from edgekit.numerics import (
    octav_scales,
    pack_int4,
    quantize,
    quantize_balanced,
    symmetric_scales,
)
from edgekit.records import Array
from edgekit.tflite.graph import (
    FLOAT32,
    INT4,
    INT8,
    clone,
    constant,
    is_constant,
    operator_code,
    operator_name,
)
from edgekit.tflite.lstm import FUSED_LSTM, WEIGHT_INPUTS, is_plain

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

# Kernels of fewer weights compute in float, as in TensorFlow's converter: quantizing the input at
# every inference costs too much time for the bytes saved.
SMALLEST_KERNEL: Final = 1024
# A DEQUANTIZE operator and its tensor take about 170 bytes; with fewer elements than these, no
# smaller type makes the file smaller.
SMALLEST_EXPANDED: Final = 128

# Operator -> its weights, as input number -> axis of the output channels.
WEIGHTS: Final[dict[str, dict[int, int]]] = {
    "CONV_2D": {1: 0},
    "DEPTHWISE_CONV_2D": {1: 3},
    "FULLY_CONNECTED": {1: 0},
    "TRANSPOSE_CONV": {1: 0},
    "CONV_3D": {1: 4},
    "BATCH_MATMUL": {0: 0, 1: 0},
    "GATHER": {0: 0},
    "LSTM": dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 16), 0),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 16), 0),
    "UNIDIRECTIONAL_SEQUENCE_RNN": {1: 0, 2: 0},
}

# Operator -> number of dimensions of its kernel, the second input; `WEIGHTS` relies on it.
_KERNEL_DIMENSIONS: Final = {
    "CONV_2D": 4,
    "DEPTHWISE_CONV_2D": 4,
    "CONV_3D": 5,
    "FULLY_CONNECTED": 2,
}

Place = Literal["kernel", "before", "after"]


@dataclass(frozen=True, slots=True)
class Storage:
    """How one weight is stored.

    Attributes:
        place: The kernel takes it; or a DEQUANTIZE is put before or after the operator.
        bits: 8 or 4.
        axis: The channel axis, or None for one scale.
        version: The operator version that this requires; unused for `before`.
    """

    place: Place
    bits: int
    axis: int | None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Weight:
    """A float constant that operators use as a weight.

    Attributes:
        graph: Its graph.
        index: Its tensor index.
        values: As stored.
        axis: The channel axis.
        operator: Name of its first user.
        users: All its users.
        alike: Whether all users are of one kind that is rewritten, and use it in the same way.
        grouped: Whether it belongs to a grouped convolution, for which there is no kernel with
            float input and integer weights.
    """

    graph: SubGraphT
    index: int
    values: Array
    axis: int
    operator: str
    users: tuple[OperatorT, ...]
    alike: bool
    grouped: bool


class Rewriter:
    """A copy of a model being rewritten, and the DEQUANTIZE operators to insert at its beginning.

    Args:
        model: The model; it is not changed.

    Raises:
        ModelError: An operator lacks inputs, outputs or options that its kind requires.
    """

    def __init__(self, model: ModelT) -> None:
        self.model = clone(model)
        for graph in self.model.subgraphs:
            for op in graph.operators:
                _check_complete(graph, op, operator_name(self.model, op))
        self._expansions: dict[int, list[OperatorT]] = {}

    def operators(self, only: Container[str] | None) -> list[tuple[SubGraphT, OperatorT]]:
        """Return the operators to rewrite, in execution order."""
        return [
            (graph, op)
            for graph in self.model.subgraphs
            for op in graph.operators
            if only is None or any(graph.tensors[i].name in only for i in op.outputs if i >= 0)
        ]

    def weights(self, only: Container[str] | None) -> list[Weight]:
        """Return the weights of these operators that are large enough to quantize, each once."""
        treated = {id(op) for _, op in self.operators(only)}
        found = []
        for graph in self.model.subgraphs:
            uses: dict[int, list[tuple[OperatorT, int]]] = {}
            for op in graph.operators:
                for position, index in enumerate(op.inputs):
                    if index >= 0:
                        uses.setdefault(int(index), []).append((op, position))
            for index, places in uses.items():
                weight = self._weight(graph, index, places, treated)
                if weight is not None:
                    found.append(weight)
        return found

    def _weight(
        self,
        graph: SubGraphT,
        index: int,
        places: list[tuple[OperatorT, int]],
        treated: Container[int],
    ) -> Weight | None:
        """Return the record of a tensor, if it is a weight of an operator to rewrite."""
        if not self.is_weight(graph.tensors[index], SMALLEST_EXPANDED):
            return None
        roles = {(operator_name(self.model, op), position) for op, position in places}
        for op, position in places:
            name = operator_name(self.model, op)
            if id(op) in treated and position in WEIGHTS.get(name, {}):
                break
        else:
            return None
        users = tuple(op for op, _ in places)
        return Weight(
            graph=graph,
            index=index,
            values=constant(self.model, graph.tensors[index]),
            axis=WEIGHTS[name][position],
            operator=name,
            users=users,
            alike=len(roles) == 1
            and index not in graph.outputs
            and all(id(user) in treated for user in users),
            grouped=any(_is_grouped(graph, user, name) for user in users),
        )

    def is_weight(self, tensor: TensorT, smallest: int) -> bool:
        """Whether a tensor is a float constant of at least `smallest` elements."""
        size = int(np.prod(tensor.shape, dtype=np.int64))
        return bool(tensor.type == FLOAT32 and is_constant(self.model, tensor) and size >= smallest)

    def store(self, weight: Weight, storage: Storage) -> None:
        """Quantize one weight and store it.

        Raises:
            ModelError: It holds NaN or infinity.
        """
        scales = symmetric_scales(weight.values, storage.axis)
        if not np.isfinite(scales).all():
            raise ModelError(
                f"Tensor {weight.graph.tensors[weight.index].name} holds NaN or infinity.",
                hint="Train the model again, or export it from an earlier checkpoint.",
            )
        packed: Array
        if storage.bits == 4 and storage.axis is not None:
            scales = octav_scales(weight.values, storage.axis)
            packed = pack_int4(quantize_balanced(weight.values, scales, storage.axis))
        else:
            packed = quantize(weight.values, scales, storage.axis)
        kind = INT4 if storage.bits == 4 else INT8
        parameters = _parameters(scales, storage.axis)
        if storage.place == "before":
            # Version 5 of DEQUANTIZE supports scales per channel.
            self.expand(weight.graph, weight.index, kind, packed, parameters, version=5)
            return
        tensor = weight.graph.tensors[weight.index]
        tensor.type = kind
        tensor.buffer = self._buffer(packed)
        tensor.quantization = parameters
        for op in weight.users:
            op.opcodeIndex = operator_code(self.model, weight.operator, storage.version)
            if weight.operator == "FULLY_CONNECTED":
                op.builtinOptions.asymmetricQuantizeInputs = True
            if storage.place == "after":
                self._dequantize_output(weight.graph, op, scales)

    def store_lstms(self, only: Container[str] | None) -> None:
        """Store the weights of fused LSTMs as int8, where that makes the file smaller.

        The kernel takes all eight as int8 or none, each with one scale; it quantizes the inputs
        of every step itself.

        Raises:
            ModelError: A weight holds NaN or infinity.
        """
        for graph, op in self.operators(only):
            if operator_name(self.model, op) != FUSED_LSTM or not is_plain(op.inputs.tolist()):
                continue
            weights = [int(op.inputs[place]) for place in WEIGHT_INPUTS]
            others = [i for other in graph.operators if other is not op for i in other.inputs]
            tensors = [graph.tensors[i] for i in weights]
            elements = sum(int(np.prod(t.shape, dtype=np.int64)) for t in tensors)
            if elements < SMALLEST_KERNEL or not set(weights).isdisjoint(others):
                continue
            if not all(self.is_weight(tensor, 1) for tensor in tensors):
                continue
            # Version 2 is the first to take int8 weights.
            kernel = Storage("kernel", 8, None, version=2)
            for index, tensor in zip(weights, tensors, strict=True):
                values = constant(self.model, tensor)
                self.store(Weight(graph, index, values, 0, FUSED_LSTM, (op,), True, False), kernel)

    def expand(
        self,
        graph: SubGraphT,
        index: int,
        kind: int,
        values: Array,
        quantization: Any,
        *,
        version: int,
    ) -> None:
        """Store a constant as `values`, and insert a DEQUANTIZE of that version for it."""
        from ai_edge_litert import schema_py_generated as schema

        tensor = graph.tensors[index]
        stored = schema.TensorT(
            shape=tensor.shape,
            type=kind,
            buffer=self._buffer(values),
            name=tensor.name,
            quantization=quantization,
            hasRank=True,
        )
        graph.tensors.append(stored)
        tensor.buffer = 0
        tensor.name = f"dequantized_{index}"
        operator = schema.OperatorT(
            opcodeIndex=operator_code(self.model, "DEQUANTIZE", version),
            inputs=np.array([len(graph.tensors) - 1], np.int32),
            outputs=np.array([index], np.int32),
        )
        self._expansions.setdefault(id(graph), []).append(operator)

    def finish(self) -> ModelT:
        """Return the rewritten model."""
        for graph in self.model.subgraphs:
            graph.operators = [*self._expansions.get(id(graph), []), *graph.operators]
        compact(self.model)
        return self.model

    def _dequantize_output(self, graph: SubGraphT, op: OperatorT, scales: Array) -> None:
        """Append a DEQUANTIZE to an operator that copies codes."""
        from ai_edge_litert import schema_py_generated as schema

        index = int(op.outputs[0])
        result = graph.tensors[index]
        graph.tensors.append(
            schema.TensorT(
                shape=result.shape,
                shapeSignature=result.shapeSignature,
                type=INT8,
                name=f"codes_{index}",
                quantization=_parameters(scales, None),
                hasRank=True,
            )
        )
        op.outputs = np.array([len(graph.tensors) - 1], np.int32)
        follower = schema.OperatorT(
            # Version 2 of DEQUANTIZE is the first to support int8.
            opcodeIndex=operator_code(self.model, "DEQUANTIZE", 2),
            inputs=op.outputs,
            outputs=np.array([index], np.int32),
        )
        graph.operators.insert(graph.operators.index(op) + 1, follower)

    def _buffer(self, values: Array) -> int:
        from ai_edge_litert import schema_py_generated as schema

        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.model.buffers.append(schema.BufferT(data=data))
        return len(self.model.buffers) - 1


def _parameters(scales: Array, axis: int | None) -> object:
    from ai_edge_litert import schema_py_generated as schema

    return schema.QuantizationParametersT(
        scale=scales, zeroPoint=np.zeros(len(scales), np.int64), quantizedDimension=axis or 0
    )


def _check_complete(graph: SubGraphT, op: OperatorT, name: str) -> None:
    """Refuse an operator without the inputs, outputs or kernel that the rewriters rely on."""
    if name not in WEIGHTS:
        return
    wanted = _KERNEL_DIMENSIONS.get(name)
    found = None
    if len(op.inputs) < 2 or min(op.inputs[:2]) < 0:
        found = f"{name} has no second input."
    elif len(op.outputs) == 0 or op.outputs[0] < 0:
        found = f"{name} has no output."
    elif wanted is not None and len(graph.tensors[op.inputs[1]].shape) != wanted:
        dimensions = len(graph.tensors[op.inputs[1]].shape)
        found = f"The kernel of {name} has {dimensions} dimensions instead of {wanted}."
    elif name == "FULLY_CONNECTED" and op.builtinOptions is None:
        found = f"{name} has no options."
    if found:
        raise ModelError(
            "The model is damaged: an operator is not complete.",
            found=found,
            hint="Copy or convert it again.",
        )


def _is_grouped(graph: SubGraphT, op: OperatorT, name: str) -> bool:
    """Whether a convolution is grouped; there is no hybrid kernel for these."""
    if name != "CONV_2D":
        return False
    image, kernel = (graph.tensors[i] for i in op.inputs[:2])
    return bool(image.shape[-1:].tolist() != kernel.shape[-1:].tolist())


def compact(model: ModelT) -> None:
    """Remove unused buffers and operator codes; activations share the empty buffer 0."""
    from ai_edge_litert import schema_py_generated as schema

    buffers = [schema.BufferT()]
    places: dict[int, int] = {}

    def place(index: int) -> int:
        data = model.buffers[index].data
        if data is None or len(data) == 0:
            return 0
        if index not in places:
            buffers.append(model.buffers[index])
            places[index] = len(buffers) - 1
        return places[index]

    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = place(tensor.buffer)
    # The stored minimum runtime version was that of the float model.
    model.metadata = [entry for entry in model.metadata if entry.name != b"min_runtime_version"]
    for entry in model.metadata:
        entry.buffer = place(entry.buffer)
    model.buffers = buffers
    model.metadataBuffer = None
    every = [op for graph in model.subgraphs for op in graph.operators]
    used = sorted({int(op.opcodeIndex) for op in every})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for op in every:
        op.opcodeIndex = used.index(op.opcodeIndex)

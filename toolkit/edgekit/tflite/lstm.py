"""TFLite's fused LSTM operator, UNIDIRECTIONAL_SEQUENCE_LSTM, and the state that it keeps.

It computes a whole sequence per inference, and begins with the state that the last one left
(LiteRT 2.3, tflite-runtime 2.14, TFLite Micro). A layer that begins with zeros therefore needs its
two state tensors set back at every inference: a SLICE of zeros into each, 0.3 to 0.8 kB a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array
from edgekit.tflite.graph import (
    DTYPES,
    FLOAT32,
    INT8,
    INT16,
    INT32,
    clone,
    constant,
    is_constant,
    operator_code,
    operator_name,
)

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT

FUSED_LSTM: Final = "UNIDIRECTIONAL_SEQUENCE_LSTM"

LEAST_CELL: Final = 1.5
"""The least end of a cell state's range: with a scale of 2**-15, which a range within [-1, 1] gets,
all outputs of the 8-bit kernel are its largest code (LiteRT 2.3, also with reference kernels)."""

# Inputs of the operator: the sequence, then weights of the input, weights of the state, peepholes,
# biases (each for the input, forget, cell and output gates), a projection, the states (output and
# cell), and scales of layer normalization.
WEIGHT_INPUTS: Final = range(1, 9)
BIAS_INPUTS: Final = range(12, 16)
STATE_INPUTS: Final = (18, 19)
_EXTRA_INPUTS: Final = (9, 10, 11, 16, 17, 20, 21, 22, 23)
_RESET: Final = "SLICE"
# Type of a state -> the first version of SLICE that takes it.
_RESET_VERSIONS: Final = {FLOAT32: 1, INT8: 2, INT16: 4}


def fused_lstms(model: ModelT) -> list[OperatorT]:
    """Return the fused LSTM operators of the first graph."""
    return [op for op in model.subgraphs[0].operators if operator_name(model, op) == FUSED_LSTM]


def is_plain(inputs: Sequence[int]) -> bool:
    """Whether a fused LSTM has no peepholes, projection or normalization, and all its gates.

    Args:
        inputs: Indices of its inputs; -1 where one is absent.
    """
    absent = [inputs[place] for place in _EXTRA_INPUTS if place < len(inputs)]
    needed = [inputs[i] for i in (*WEIGHT_INPUTS, *BIAS_INPUTS, *STATE_INPUTS) if i < len(inputs)]
    return len(needed) == 14 and min(needed) >= 0 and max(absent, default=-1) < 0


def with_resets(model: ModelT) -> ModelT:
    """Return a model whose fused LSTMs begin every inference with zeros.

    Their states are named after their layers.
    """
    model = clone(model)
    graph = model.subgraphs[0]
    known: dict[object, int] = {}
    resets = []
    for op in fused_lstms(model):
        layer = graph.tensors[op.outputs[0]].name.rpartition("/")[0] or "lstm"
        for place in STATE_INPUTS:
            state = int(op.inputs[place])
            # Quantizers do not keep its name, by which operators are told apart by layer.
            graph.tensors[state].name = f"{layer}/state{state}"
            resets.append(_reset(model, graph, state, known))
    graph.operators = [*resets, *graph.operators]
    return model


def without_resets(model: ModelT) -> tuple[ModelT, bool]:
    """Return a model without what `with_resets` added, and whether there was any.

    In integers the states have other types, for which `with_resets` adds it again.
    """
    states = {int(op.inputs[place]) for op in fused_lstms(model) for place in STATE_INPUTS}
    if not any(_sets(model, op, states) for op in model.subgraphs[0].operators):
        return model, False
    model = clone(model)
    graph = model.subgraphs[0]
    graph.operators = [op for op in graph.operators if not _sets(model, op, states)]
    return model, True


def _sets(model: ModelT, op: OperatorT, states: set[int]) -> bool:
    return operator_name(model, op) == _RESET and int(op.outputs[0]) in states


def _reset(model: ModelT, graph: SubGraphT, state: int, known: dict[object, int]) -> OperatorT:
    """Return the operator that sets a state tensor to zero, after adding what it reads."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[state]
    parameters = tensor.quantization
    points = parameters.zeroPoint if parameters is not None else None
    zero = int(points[0]) if points is not None and len(points) else 0
    zeros = np.full(tensor.shape, zero, DTYPES[tensor.type])

    def stored(values: Array, kind: int, name: str) -> int:
        scaled = parameters if kind != INT32 else None
        key = (kind, values.shape, values.tobytes(), id(scaled))
        if key not in known:
            model.buffers.append(schema.BufferT(data=values.reshape(-1).view(np.uint8)))
            graph.tensors.append(
                schema.TensorT(
                    shape=np.array(values.shape, np.int32),
                    type=kind,
                    buffer=len(model.buffers) - 1,
                    name=f"{name}{len(known)}",
                    quantization=scaled,
                    hasRank=True,
                )
            )
            known[key] = len(graph.tensors) - 1
        return known[key]

    begin = stored(np.zeros(len(tensor.shape), np.int32), INT32, "begin")
    size = stored(np.asarray(tensor.shape, np.int32), INT32, "size")
    return schema.OperatorT(
        opcodeIndex=operator_code(model, _RESET, _RESET_VERSIONS[tensor.type]),
        inputs=np.array([stored(zeros, tensor.type, "zeros"), begin, size], np.int32),
        outputs=np.array([state], np.int32),
        builtinOptionsType=schema.BuiltinOptions.SliceOptions,
        builtinOptions=schema.SliceOptionsT(),
    )


@dataclass(frozen=True, slots=True, eq=False)
class LstmCell:
    """The weights of a fused LSTM, to follow its cell state, which no tensor holds step by step.

    Attributes:
        sequence: Index of the tensor that it reads.
        cell: Index of the tensor of its cell state.
        kernel: `[inputs, 4 * units]`.
        recurrent_kernel: `[units, 4 * units]`.
        bias: `[4 * units]`.
        clip: Bound of the cell state's magnitude; 0 where there is none.
    """

    sequence: int
    cell: int
    kernel: Array
    recurrent_kernel: Array
    bias: Array
    clip: float

    def states(self, sequence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cell state after every step, `[steps, units]`, from a state of zeros.

        Args:
            sequence: `[1, steps, inputs]` or `[steps, 1, inputs]`.
        """
        given = sequence.reshape(-1, sequence.shape[-1]) @ self.kernel + self.bias
        units = len(self.recurrent_kernel)
        output = cell = np.zeros(units, np.float32)
        found = np.empty((len(given), units), np.float32)
        for step, entered in enumerate(given):
            gates = entered + output @ self.recurrent_kernel
            entering, forgotten, leaving = (
                _sigmoid(gates[gate * units : (gate + 1) * units]) for gate in (0, 1, 3)
            )
            cell = forgotten * cell + entering * np.tanh(gates[2 * units : 3 * units])
            if self.clip > 0:
                cell = np.clip(cell, -self.clip, self.clip)
            output = leaving * np.tanh(cell)
            found[step] = cell
        return found


def lstm_cells(model: ModelT) -> list[LstmCell]:
    """Return the plain float LSTMs of the first graph whose weights are constants."""
    graph = model.subgraphs[0]
    found = []
    for op in fused_lstms(model):
        if not is_plain(op.inputs.tolist()):
            continue
        weights = [graph.tensors[op.inputs[i]] for i in (*WEIGHT_INPUTS, *BIAS_INPUTS)]
        if not all(t.type == FLOAT32 and is_constant(model, t) for t in weights):
            continue
        values = [constant(model, tensor) for tensor in weights]
        found.append(
            LstmCell(
                sequence=int(op.inputs[0]),
                cell=int(op.inputs[STATE_INPUTS[1]]),
                kernel=np.concatenate(values[:4]).T,
                recurrent_kernel=np.concatenate(values[4:8]).T,
                bias=np.concatenate(values[8:]),
                clip=float(op.builtinOptions.cellClip or 0.0),
            )
        )
    return found


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)

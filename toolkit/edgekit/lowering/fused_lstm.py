"""Replace the custom operators that LSTM layers were traced as by TFLite's fused operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.lowering.recurrent import FusedLstm
from edgekit.records import Array
from edgekit.tflite.graph import FLOAT32, clone, operator_code
from edgekit.tflite.lstm import FUSED_LSTM, fused_lstms, with_resets

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT

_GATES: Final = ("input", "forget", "cell", "output")
_ABSENT: Final = -1


def with_fused_lstms(model: ModelT, fused: Mapping[str, FusedLstm]) -> ModelT:
    """Return a model with fused LSTMs in the place of custom operators.

    Args:
        model: A graph with the custom operators; it is not changed.
        fused: Name of the custom operator -> the layer's call.

    Raises:
        ValueError: The converter left some of them out, or placed them in a loop.
    """
    model = clone(model)
    graph = model.subgraphs[0]
    stored: dict[int, list[int]] = {}
    replaced = 0
    for op in graph.operators:
        custom = model.operatorCodes[op.opcodeIndex].customCode
        call = fused.get(custom.decode()) if custom else None
        if call is not None:
            _fuse(model, graph, op, call, stored)
            replaced += 1
    if replaced != len(fused):
        raise ValueError(f"{len(fused) - replaced} of {len(fused)} LSTM layers were not fused")
    used = sorted({int(op.opcodeIndex) for g in model.subgraphs for op in g.operators})
    for each in (op for g in model.subgraphs for op in g.operators):
        each.opcodeIndex = used.index(each.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    return model


def independent(model: ModelT) -> ModelT:
    """Return a model whose fused LSTMs begin every inference with zeros, and clip no state.

    Args:
        model: A graph that TensorFlow's converter made, which fuses functions of Keras 2 by
            itself; it is not changed.
    """
    if not fused_lstms(model):
        return model
    model = clone(model)
    for op in fused_lstms(model):
        # The converter writes 10, which is wrong where the cell state is larger.
        op.builtinOptions.cellClip = 0.0
    return with_resets(model)


def _fuse(
    model: ModelT, graph: SubGraphT, op: OperatorT, call: FusedLstm, stored: dict[int, list[int]]
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: tuple[int, ...], values: Array | None = None) -> int:
        buffer = 0
        if values is not None:
            raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            model.buffers.append(schema.BufferT(data=raw))
            buffer = len(model.buffers) - 1
        graph.tensors.append(
            schema.TensorT(
                shape=np.array(shape, np.int32),
                type=FLOAT32,
                buffer=buffer,
                name=f"{call.scope}/{name}",
                isVariable=values is None,
                hasRank=True,
            )
        )
        return len(graph.tensors) - 1

    # A layer that is called twice has its weights once.
    constants = stored.get(id(call.kernel))
    if constants is None:
        parts = [
            (f"{kind}_{gate}", values)
            for kind, whole in (
                ("kernel", call.kernel.T),
                ("recurrent", call.recurrent_kernel.T),
                ("bias", call.bias),
            )
            for gate, values in zip(_GATES, np.split(whole, len(_GATES)), strict=True)
        ]
        constants = [tensor(name, values.shape, values) for name, values in parts]
        stored[id(call.kernel)] = constants
    state = (1, len(call.recurrent_kernel))
    number = len(graph.tensors)
    op.inputs = np.array(
        [
            int(op.inputs[0]),
            *constants[:8],
            *[_ABSENT] * 3,
            *constants[8:],
            *[_ABSENT] * 2,
            tensor(f"output_state{number}", state),
            tensor(f"cell_state{number}", state),
            *[_ABSENT] * 4,
        ],
        np.int32,
    )
    graph.tensors[op.outputs[0]].name = f"{call.scope}/outputs{number}"
    op.opcodeIndex = operator_code(model, FUSED_LSTM, 1)
    op.customOptions = None
    op.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    op.builtinOptions = schema.UnidirectionalSequenceLSTMOptionsT(
        fusedActivationFunction=schema.ActivationFunctionType.TANH,
        cellClip=0.0,
        projClip=0.0,
        timeMajor=False,
        asymmetricQuantizeInputs=False,
    )

"""Replace operators without an integer kernel by others that compute the same and have one."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.records import Array, Ranges
from edgekit.tflite.graph import FLOAT32, clone, operator_code, operator_name

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT


# Width of activations -> operators without a kernel of that width.
_REPLACED: Final[Mapping[int | None, tuple[str, ...]]] = {
    8: ("NEG", "SQUARE"),
    16: ("NEG", "SQUARE", "SQUARED_DIFFERENCE"),
}

Widths = Mapping[str, int | None]


def with_equivalents(
    model: ModelT, ranges: Ranges, usual: int | None, widths: Widths
) -> tuple[ModelT, Ranges, Widths]:
    """Return a graph in which more operators have integer kernels, with its ranges and widths.

    - SQUARE(x) becomes MUL(x, x).
    - NEG(x) becomes MUL(x, -1).
    - SQUARED_DIFFERENCE(a, b) becomes d = SUB(a, b) and MUL(d, d) where activations are int16; the
      largest square bounds the difference.

    Args:
        model: A float model; it is not changed.
        ranges: Ranges of its activations.
        usual: Width of activations; None for float.
        widths: Output tensor name -> another width.

    Returns:
        `model`, `ranges` and `widths` themselves if nothing is replaced.
    """
    graph = model.subgraphs[0]
    found = {}
    for place, op in enumerate(graph.operators):
        output = graph.tensors[op.outputs[0]] if len(op.outputs) else None
        if output is not None and output.type == FLOAT32:
            name = operator_name(model, op)
            if name in _REPLACED.get(widths.get(output.name, usual), ()):
                found[place] = name
    if not found:
        return model, ranges, widths
    model = clone(model)
    graph = model.subgraphs[0]
    made: list[OperatorT] = []
    for place, op in enumerate(graph.operators):
        match found.get(place):
            case None:
                made.append(op)
            case "SQUARE":
                made.append(_product(model, op, [int(op.inputs[0])] * 2))
            case "NEG":
                made.append(_product(model, op, [int(op.inputs[0]), _minus_one(model, graph)]))
            case _:
                output = graph.tensors[op.outputs[0]]
                name = f"{output.name}_difference"
                difference = _added(graph, output, name)
                made += [
                    _operator(model, "SUB", op.inputs, difference),
                    _product(model, op, [difference] * 2),
                ]
                if output.name in ranges.high:
                    end = math.sqrt(max(ranges.high[output.name], 0.0))
                    ranges = replace(
                        ranges,
                        low={**ranges.low, name: -end},
                        high={**ranges.high, name: end},
                    )
                if output.name in widths:
                    widths = {**widths, name: widths[output.name]}
    graph.operators = made
    return model, ranges, widths


def _product(model: ModelT, op: OperatorT, inputs: list[int]) -> OperatorT:
    return _operator(model, "MUL", np.array(inputs, np.int32), int(op.outputs[0]))


def _operator(model: ModelT, name: str, inputs: Array, output: int) -> OperatorT:
    from ai_edge_litert import schema_py_generated as schema

    options = {"SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[name]()
    return schema.OperatorT(
        opcodeIndex=operator_code(model, name, 1),
        inputs=inputs,
        outputs=np.array([output], np.int32),
        builtinOptionsType=getattr(schema.BuiltinOptions, f"{name.capitalize()}Options"),
        builtinOptions=options,
    )


def _added(graph: SubGraphT, like: TensorT, name: str) -> int:
    tensor = copy.copy(like)
    tensor.name, tensor.buffer = name, 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _minus_one(model: ModelT, graph: SubGraphT) -> int:
    from ai_edge_litert import schema_py_generated as schema

    model.buffers.append(schema.BufferT(data=np.array([-1.0], np.float32).view(np.uint8)))
    graph.tensors.append(
        schema.TensorT(
            shape=np.zeros(0, np.int32),
            type=FLOAT32,
            buffer=len(model.buffers) - 1,
            name=f"minus_one{len(graph.tensors)}",
            hasRank=True,
        )
    )
    return len(graph.tensors) - 1

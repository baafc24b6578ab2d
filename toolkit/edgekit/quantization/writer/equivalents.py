"""Replace operators without an integer kernel by others that compute the same and have one."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.records import Array, Ranges
from edgekit.tflite.graph import FLOAT32, add_constant, clone, operator_code, operator_name

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT


# Width of activations -> operators without a kernel of that width.
_REPLACED: Final[Mapping[int | None, tuple[str, ...]]] = {
    8: ("NEG", "SQUARE"),
    16: ("FULLY_CONNECTED", "NEG", "SQUARE", "SQUARED_DIFFERENCE"),
}

_DENSE: Final = "FULLY_CONNECTED"

Widths = Mapping[str, int | None]


def with_equivalents(
    model: ModelT, ranges: Ranges, usual: int | None, widths: Widths
) -> tuple[ModelT, Ranges, Widths]:
    """Return a graph in which more operators have integer kernels, with its ranges and widths.

    - SQUARE(x) becomes MUL(x, x).
    - NEG(x) becomes MUL(x, -1).
    - FULLY_CONNECTED of other than two dimensions computes rows where activations are int16, and a
      RESHAPE follows: tflite-runtime 2.14 takes the first two dimensions of such an output for
      all of them, and computes garbage.
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
            rows = name == _DENSE and len(output.shape) == 2
            if name in _REPLACED.get(widths.get(output.name, usual), ()) and not rows:
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
            case "FULLY_CONNECTED":
                after, ranges, widths = _rows(model, op, ranges, widths)
                made += [op, *after]
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


def _rows(
    model: ModelT, op: OperatorT, ranges: Ranges, widths: Widths
) -> tuple[list[OperatorT], Ranges, Widths]:
    """Let a dense layer compute rows; return what gives them their shape, if anything must."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    index = int(op.outputs[0])
    output = graph.tensors[index]
    shape = np.array([-1, output.shape[-1]], np.int32)
    shape[0] = np.prod(output.shape) // max(int(shape[1]), 1)
    op.builtinOptions = copy.copy(op.builtinOptions)
    op.builtinOptions.keepNumDims = False
    readers = [reader for reader in graph.operators if index in reader.inputs]
    if index not in graph.outputs and all(
        operator_name(model, reader) in {"RESHAPE", _DENSE} and reader.inputs[0] == index
        for reader in readers
    ):
        output.shape, output.shapeSignature = shape, None  # they read values in a row
        return [], ranges, widths
    name = f"{output.name}_rows"
    place = _added(graph, output, name)
    graph.tensors[place].shape, graph.tensors[place].shapeSignature = shape, None
    op.outputs = np.array([place], np.int32)
    data = np.array(output.shape, np.int32)
    shaped = add_constant(model, graph, data, f"{name}_shape")
    reshape = schema.OperatorT(
        opcodeIndex=operator_code(model, "RESHAPE", 1),
        inputs=np.array([place, shaped], np.int32),
        outputs=np.array([index], np.int32),
        builtinOptionsType=schema.BuiltinOptions.ReshapeOptions,
        builtinOptions=schema.ReshapeOptionsT(newShape=data),
    )
    if output.name in ranges.low:
        centers = ranges.centers
        if output.name in centers:
            centers = {**centers, name: centers[output.name]}
        low = {**ranges.low, name: ranges.low[output.name]}
        high = {**ranges.high, name: ranges.high[output.name]}
        ranges = replace(ranges, low=low, high=high, centers=centers)
    if output.name in widths:
        widths = {**widths, name: widths[output.name]}
    return [reshape], ranges, widths


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
    name = f"minus_one{len(graph.tensors)}"
    return add_constant(model, graph, np.array(-1.0, np.float32), name)

"""Operators and tensors of a model as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import code_name, is_constant, quantized

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

Shape = tuple[int, ...]

# Operator -> the options that name the graphs it runs.
_BODIES: Final[Mapping[str, tuple[str, ...]]] = {
    "CALL_ONCE": ("initSubgraphIndex",),
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
}


def nodes(model: ModelT) -> tuple[Node, ...]:
    """Return all operators of a model, graph by graph, in execution order."""
    found: list[Node] = []
    names = [code_name(code) for code in model.operatorCodes]
    for number, graph in enumerate(model.subgraphs):
        tensors = graph_tensors(model, graph)
        for op in graph.operators:
            found.append(
                Node(
                    index=len(found),
                    name=names[op.opcodeIndex],
                    graph=number,
                    inputs=tuple([tensors[i] if i >= 0 else None for i in op.inputs.tolist()]),
                    outputs=tuple([tensors[i] for i in op.outputs.tolist() if i >= 0]),
                    options=op.builtinOptions or op.builtinOptions2,
                )
            )
    return tuple(found)


def readers_of(operators: Iterable[Node]) -> dict[tuple[int, int], list[Node]]:
    """Return number of the graph and index of a tensor -> the operators that read it."""
    readers: dict[tuple[int, int], list[Node]] = {}
    for node in operators:
        for tensor in node.inputs:
            if tensor is not None:
                readers.setdefault((node.graph, tensor.index), []).append(node)
    return readers


def bodies(node: Node) -> list[int]:
    """Return the numbers of the graphs that an operator runs, as the file has them."""
    return [int(node.option(field, -1)) for field in _BODIES.get(node.name, ())]


def graph_tensors(model: ModelT, graph: SubGraphT) -> tuple[Tensor, ...]:
    """Return all tensors of a graph."""
    shapes: dict[Shape, Shape] = {}
    names = _type_names()
    return tuple(
        [_tensor(model, index, tensor, shapes, names) for index, tensor in enumerate(graph.tensors)]
    )


def _tensor(
    model: ModelT, index: int, tensor: TensorT, shapes: dict[Shape, Shape], names: dict[int, str]
) -> Tensor:
    signature, parameters = tensor.shapeSignature, tensor.quantization
    shape = tuple(tensor.shape.tolist())
    return Tensor(
        index=index,
        name=tensor.name,
        # Tensors of equal shape share a tuple: graphs of many operators have few shapes.
        shape=shapes.setdefault(shape, shape),
        dtype=names.get(tensor.type) or f"type {tensor.type}",
        quantized=parameters is not None and (quantized(tensor) or parameters.details is not None),
        dynamic=signature is not None and min(signature.tolist(), default=0) < 0,
        free_batch=signature is not None
        and [size < 0 for size in signature].count(True) == 1
        and signature[0] < 0,
        variable=bool(tensor.isVariable),
        data=model.buffers[tensor.buffer].data if is_constant(model, tensor) else None,
        scales=parameters.scale if parameters is not None else None,
    )


@cache
def _type_names() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import TensorType

    return {v: k.lower() for k, v in vars(TensorType).items() if not k.startswith("_")}

"""Compute from the order of the operators which tensors hold a value when: memory over time.

A tensor lives from the operator that writes it to the last one that reads it; inputs of a graph
from its start, outputs to its end, variables always. Constants stay in the file and do not count.
Their sum is the least that a runtime needs which runs the operators in this order and gives every
tensor a place of its own; gaps between places and the scratch memory of kernels come on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Final

from edgekit.targets.node import Node, Tensor

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Bits of an element; of what is missing (strings, resources) the size is not in the file.
_BITS: Final = {
    "bool": 8,
    "int4": 4,
    "int8": 8,
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
}
# Options of the operators that run other graphs.
_CALLED: Final = (
    "condSubgraphIndex",
    "bodySubgraphIndex",
    "thenSubgraphIndex",
    "elseSubgraphIndex",
    "initSubgraphIndex",
)

Ends = tuple[frozenset[int], frozenset[int]]
"""Indices of the input tensors of a graph, and of its outputs."""


def ends_of(model: ModelT) -> list[Ends]:
    """Return the inputs and outputs of each graph of a model."""
    return [
        (frozenset(graph.inputs.tolist()), frozenset(graph.outputs.tolist()))
        for graph in model.subgraphs
    ]


def alive_bytes(operators: Sequence[Node], ends: Sequence[Ends]) -> list[int]:
    """Return for each operator the bytes of all tensors that hold a value while it runs.

    An operator that runs other graphs, such as a loop, has the most that one of them needs on top
    of its own. Open dimensions count as 1.

    Args:
        operators: All operators of a model (`nodes`).
        ends: `ends_of` the model.
    """
    found: list[list[int]] = []
    peaks: dict[int, int] = {}
    graphs = [(number, list(group)) for number, group in groupby(operators, lambda n: n.graph)]
    # What a graph calls stands in a later one, whose peak is known by then.
    for number, group in reversed(graphs):
        called = [max((peaks.get(g, 0) for g in _called(node)), default=0) for node in group]
        own = _alive_in_graph(group, *ends[number])
        alive = [mine + theirs for mine, theirs in zip(own, called, strict=True)]
        peaks[number] = max(alive)
        found.append(alive)
    return [size for alive in reversed(found) for size in alive]


def _called(node: Node) -> Iterator[int]:
    if node.name not in {"IF", "WHILE", "CALL_ONCE"}:
        return
    for option in _CALLED:
        graph = node.option(option, -1)
        if isinstance(graph, int) and graph > node.graph:
            yield graph


def _alive_in_graph(
    group: Sequence[Node], inputs: frozenset[int], outputs: frozenset[int]
) -> list[int]:
    last = len(group) - 1
    first_use: dict[int, int] = dict.fromkeys(inputs, 0)
    last_use: dict[int, int] = {}
    tensors: dict[int, Tensor] = {}
    for position, node in enumerate(group):
        for tensor in node.inputs:
            if tensor is not None and tensor.data is None:
                tensors[tensor.index] = tensor
                last_use[tensor.index] = position
                first_use.setdefault(tensor.index, 0)  # never written: a damaged file
        for tensor in node.outputs:
            tensors[tensor.index] = tensor
            first_use.setdefault(tensor.index, position)
            last_use[tensor.index] = max(position, last_use.get(tensor.index, 0))
    change = [0] * (last + 2)
    for index, tensor in tensors.items():
        size = -(-tensor.elements * _BITS.get(tensor.dtype, 0) // 8)
        change[0 if tensor.variable else first_use[index]] += size
        change[(last if tensor.variable or index in outputs else last_use[index]) + 1] -= size
    return list(accumulate(change[:-1]))

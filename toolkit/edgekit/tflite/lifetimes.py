"""Compute from the order of the operators which tensors hold a value when: memory over time.

A tensor lives from the operator that writes it to the last one that reads it; inputs of a graph
from its start, outputs to its end, variables always. Constants stay in the file and do not count.
Their sum is the least that a runtime needs which runs the operators in this order and gives every
tensor a place of its own; gaps between places and the scratch memory of kernels come on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from edgekit.targets.arena import size_of
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.nodes import bodies

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

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
        called = [
            max((peaks.get(body, 0) for body in bodies(node) if body > number), default=0)
            for node in group
        ]
        own = _alive_in_graph(group, *ends[number])
        alive = [mine + theirs for mine, theirs in zip(own, called, strict=True)]
        peaks[number] = max(alive)
        found.append(alive)
    return [size for alive in reversed(found) for size in alive]


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
        size = _bytes(tensor)
        change[0 if tensor.variable else first_use[index]] += size
        change[(last if tensor.variable or index in outputs else last_use[index]) + 1] -= size
    return list(accumulate(change[:-1]))


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's values; 0 where the file does not tell."""
    match tensor.dtype:
        case "resource":  # what its handle stands for is elsewhere
            return 0
        case "complex128":  # TFLite Micro has no such type
            return 16 * tensor.elements
        case _:
            return size_of(tensor) or 0

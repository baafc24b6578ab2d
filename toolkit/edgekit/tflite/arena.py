"""Plan the arena that a model needs in TFLite Micro (`targets.arena`), from its graphs.

Which tensors lie in the arena, and from when to when, follows TFLite Micro's
`AllocationInfoBuilder` (`micro_allocation_info.cc`): one step for each operator, the graphs of a
loop or condition inside the step of the operator that runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgekit.targets.arena import UNKNOWN, Buffer, aligned, place, scratch, size_of
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.nodes import bodies, graph_tensors

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Planning takes time that grows with the square of the number; no microcontroller holds as many.
MOST_BUFFERS: Final = 4000
_MOST_STEPS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The planned part of an arena, which TFLite Micro calls its head.

    Attributes:
        buffers: Activations and scratch buffers.
        offsets: Where each begins, in bytes.
        head_bytes: The bytes they take together.
    """

    buffers: tuple[Buffer, ...]
    offsets: tuple[int, ...]
    head_bytes: int


def plan(model: ModelT, nodes: Sequence[Node]) -> Arena | None:
    """Plan the arena of a model.

    Args:
        model: The model.
        nodes: Its operators (`nodes.nodes`).

    Returns:
        The plan; None where TFLite Micro cannot hold a tensor's type, where the scratch buffers of
        an operator are not known, or where there are too many tensors.
    """
    buffers = _buffers(model, nodes)
    if buffers is None or len(buffers) > MOST_BUFFERS or any(n.name in UNKNOWN for n in nodes):
        return None
    offsets = place(buffers)
    head = max(
        (o + aligned(b.size_bytes) for o, b in zip(offsets, buffers, strict=True)), default=0
    )
    return Arena(buffers=tuple(buffers), offsets=tuple(offsets), head_bytes=head)


def _buffers(model: ModelT, nodes: Sequence[Node]) -> list[Buffer] | None:
    lifetimes = _Lifetimes.of(model, nodes)
    if lifetimes is None:
        return None
    found = []
    # A handle of a resource variable lies with the data of its operator, outside the plan.
    handles = {(n.graph, t.index) for n in nodes if n.name == "VAR_HANDLE" for t in n.outputs}
    for number, graph in enumerate(model.subgraphs):
        for tensor in graph_tensors(model, graph):
            if tensor.constant or tensor.variable or (number, tensor.index) in handles:
                continue
            size = size_of(tensor)
            if size is None:
                return None
            if size:
                # A tensor that nothing uses is planned too, before the first step.
                first, last = lifetimes.tensors.get((number, tensor.index), (-1, -1))
                found.append(Buffer(size_bytes=size, first=first, last=last, name=tensor.name))
    for node in nodes:
        steps = lifetimes.operators.get(node.index, (-1, -1))
        found += [
            Buffer(size_bytes=size, first=steps[0], last=steps[1], name=f"{node.name} scratch")
            for size in scratch(node)
        ]
    return found


class _TooManyStepsError(Exception):
    """Graphs that contain each other take more steps than any microcontroller would."""


@dataclass(slots=True, kw_only=True)
class _Lifetimes:
    """First and last step of tensors, by graph and index, and of operators, by index."""

    tensors: dict[tuple[int, int], tuple[int, int]]
    operators: dict[int, tuple[int, int]]
    step: int = 0

    @classmethod
    def of(cls, model: ModelT, nodes: Sequence[Node]) -> _Lifetimes | None:
        """Walk through the main graph; None where that does not end."""
        graphs: dict[int, list[Node]] = {}
        for node in nodes:
            graphs.setdefault(node.graph, []).append(node)
        lifetimes = cls(tensors={}, operators={})
        try:
            lifetimes.walk(model, graphs, 0, ())
        except _TooManyStepsError:
            return None
        return lifetimes

    def walk(
        self,
        model: ModelT,
        graphs: Mapping[int, list[Node]],
        number: int,
        inside: tuple[int, ...],
    ) -> None:
        """Walk through one graph, and those that its operators run."""
        if number in inside or self.step + len(graphs.get(number, ())) > _MOST_STEPS:
            raise _TooManyStepsError
        graph = model.subgraphs[number]
        ends = [int(index) for index in graph.outputs]
        for index in (*map(int, graph.inputs), *ends):
            self._create(number, index)
        for node in graphs.get(number, ()):
            self.step += 1
            for tensor in node.outputs:
                self._create(number, tensor.index)
            start = self.step
            for body in bodies(node):
                if not 0 <= body < len(model.subgraphs):
                    continue
                self.step += 1
                self.walk(model, graphs, body, (*inside, number))
            for tensor in _used(node):
                self._use(number, tensor.index)
            self.operators[node.index] = (start, self.step)
        for index in ends:
            self._use(number, index)

    def _create(self, graph: int, index: int) -> None:
        self.tensors[graph, index] = (self.step, self.step)

    def _use(self, graph: int, index: int) -> None:
        first, _ = self.tensors.get((graph, index), (-1, -1))
        self.tensors[graph, index] = (first, self.step)


def _used(node: Node) -> Iterator[Tensor]:
    yield from (tensor for tensor in node.inputs if tensor is not None)
    yield from node.outputs

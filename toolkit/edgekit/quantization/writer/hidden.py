"""Find the tensors of a graph of which only that matters what is not far below the rest.

What a mask hides from a softmax or a maximum only has to be low enough: how low does not matter.
That holds for every tensor from the mask on which nothing else reads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.writer.precisions import real_inputs
from edgekit.records import Array
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import clone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

SELECTS: Final = frozenset({"SELECT", "SELECT_V2"})
SUMS: Final = frozenset({"ADD", "SUB"})
PAD: Final = "PADV2"
"""It surrounds values with a constant."""

_SOFT: Final = frozenset({"LOG_SOFTMAX", "SOFTMAX"})
_HARD: Final = frozenset({"ARG_MAX", "MAX_POOL_2D", "REDUCE_MAX"})
_MOVES: Final = frozenset(
    {
        *("EXPAND_DIMS", "GATHER", "RESHAPE", "SLICE", "SQUEEZE", "STRIDED_SLICE", "TILE"),
        "TRANSPOSE",
    }
)


class Hiding:
    """What hides values in a graph, and from what.

    Args:
        operators: All operators of the graph, in execution order.
        outputs: Indices of the graph's outputs.
        bits: Width of the activations.

    Attributes:
        makers: Tensor index -> the operator that computes it.
        readers: Tensor index -> the operators that read it.
        margins: Tensor index -> how far below the others a hidden value must be; only of tensors of
            which no more matters.
    """

    def __init__(self, operators: Iterable[Node], outputs: Iterable[int], bits: int) -> None:
        listed = list(operators)
        self._bits, self._outputs = bits, set(outputs)
        self.makers = {tensor.index: node for node in listed for tensor in node.outputs}
        self.readers: dict[int, list[Node]] = {}
        for node in listed:
            for index in {t.index for t in node.inputs if t is not None}:
                self.readers.setdefault(index, []).append(node)
        self.margins: dict[int, float] = {}
        for node in reversed(listed):
            for tensor in node.outputs:
                if (margin := self._needed(tensor)) is not None:
                    self.margins[tensor.index] = margin

    def only_masks(self, tensor: Tensor) -> bool:
        """Whether a tensor is read, once it was moved, by sums before a softmax or a maximum."""
        return tensor.index not in self._outputs and all(
            self.only_masks(reader.outputs[0])
            if moves(reader)
            else reader.name in SUMS and reader.outputs[0].index in self.margins
            for reader in self.readers.get(tensor.index, ())
        )

    def _needed(self, tensor: Tensor) -> float | None:
        """Return how far below the scores a hidden value must be; None where all values matter."""
        needed: list[float | None] = [None] if tensor.index in self._outputs else []
        for reader in self.readers.get(tensor.index, ()):
            if reader.name in _SOFT:
                # Together, all but one get less than one step of the output.
                needed.append(math.log(1 << self._bits) + math.log(max(tensor.shape[-1:] or (1,))))
            elif reader.name in _HARD:
                needed.append(0.0)
            elif moves(reader) or reader.name in SELECTS | SUMS | {PAD}:
                needed.append(self.margins.get(reader.outputs[0].index))
            else:
                needed.append(None)
        known = [margin for margin in needed if margin is not None]
        return max(known, default=None) if len(known) == len(needed) else None


def moves(node: Node) -> bool:
    """Whether an operator moves the values of a single computed input to a single output."""
    return node.name in _MOVES and len(computed(node)) == len(real_inputs(node)) == 1


def computed(node: Node) -> list[Tensor]:
    """Return the real inputs of an operator that are not stored."""
    return [tensor for _, tensor in real_inputs(node) if not tensor.constant]


def with_constants(model: ModelT, constants: Mapping[tuple[int, int], Array]) -> ModelT:
    """Give operators of the first graph constants of their own.

    Args:
        model: A model; it is not changed.
        constants: Operator index and number of its input -> the values.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not constants:
        return model
    model = clone(model)
    graph = model.subgraphs[0]
    for (place, number), values in constants.items():
        op = graph.operators[place]
        tensor = copy.copy(graph.tensors[op.inputs[number]])
        data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
        model.buffers.append(schema.BufferT(data=data))
        tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
        op.inputs = np.array(op.inputs, np.int32)
        op.inputs[number] = len(graph.tensors) - 1
    return model

"""Bring what masks write near the scores that they mask, which else would have no codes left.

A mask puts -1e9 or less in the place of what a softmax is not to see, or adds it. In one scale with
that, all scores are zero. What is far enough below every score is as good: together, such values
get less of the softmax than one step of its output. A maximum needs none of that distance.

  SELECT(mask, scores, -1e9)     the constant is raised
  scores + mask * -1e9           the factor and the range of the product are lessened
  SELECT(mask, scores - 1e9, scores)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.writer.precisions import FLOAT, real_inputs
from edgekit.quantization.writer.scales import parameters_of
from edgekit.records import Array, Ranges
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import clone, finite
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_SOFT: Final = frozenset({"LOG_SOFTMAX", "SOFTMAX"})
_HARD: Final = frozenset({"ARG_MAX", "MAX_POOL_2D", "REDUCE_MAX"})
_SELECTS: Final = frozenset({"SELECT", "SELECT_V2"})
_SUMS: Final = frozenset({"ADD", "SUB"})
_MOVES: Final = frozenset(
    {
        *("EXPAND_DIMS", "GATHER", "RESHAPE", "SLICE", "SQUEEZE", "STRIDED_SLICE", "TILE"),
        "TRANSPOSE",
    }
)


def with_near_masks(model: ModelT, ranges: Ranges, bits: int) -> tuple[ModelT, Ranges]:
    """Return a float graph whose masks are near what they mask, with its ranges.

    Args:
        model: A float model; it is not changed.
        ranges: Ranges of its activations.
        bits: Width of the activations.

    Returns:
        `model` and `ranges` themselves where no mask is far.
    """
    search = _Search(model, ranges, bits)
    search.run()
    if not search.low and not search.constants:
        return model, ranges
    ranges = replace(ranges, low={**ranges.low, **search.low}, high={**ranges.high, **search.high})
    return _with_constants(model, search.constants), ranges


class _Search:
    """Masks of a graph, in execution order.

    Attributes:
        low: Tensor name -> lower end of its range, where it is another one.
        high: Likewise, the upper end.
        constants: Operator index and number of its input -> the values of a constant.
    """

    def __init__(self, model: ModelT, ranges: Ranges, bits: int) -> None:
        self._model, self._bits = model, bits
        self._known = ranges
        self.low: dict[str, float] = {}
        self.high: dict[str, float] = {}
        self.constants: dict[tuple[int, int], Array] = {}
        self._nodes = [node for node in nodes(model) if node.graph == 0]
        self._outputs = set(model.subgraphs[0].outputs.tolist())
        self._makers = {tensor.index: node for node in self._nodes for tensor in node.outputs}
        self._readers: dict[int, list[Node]] = {}
        for node in self._nodes:
            for index in {t.index for t in node.inputs if t is not None}:
                self._readers.setdefault(index, []).append(node)
        # Tensor -> how far below the scores a hidden value must be; only where no more matters.
        self._margins: dict[int, float] = {}
        for node in reversed(self._nodes):
            for tensor in node.outputs:
                if (margin := self._needed(tensor)) is not None:
                    self._margins[tensor.index] = margin
        # Masked tensor -> the ends of the scores in it that no mask hides.
        self._bare: dict[int, tuple[float, float]] = {}

    def run(self) -> None:
        """Find the masks, and what is to be changed."""
        for node in self._nodes:
            if node.name in _SELECTS and len(node.inputs) == 3:
                self._select(node)
            elif node.name in _SUMS and node.option("fusedActivationFunction", 0) == 0:
                self._sum(node)
            elif _moves(node) and (masked := _computed(node)[0]).index in self._bare:
                self._keep(node.outputs[0], self._bare[masked.index], self._ends(masked))

    def _select(self, node: Node) -> None:
        """Raise the constant that a SELECT writes over scores, or pass on masked ones."""
        given = [(number, tensor) for number, tensor in real_inputs(node) if number]
        margin = self._margins.get(node.outputs[0].index)
        bare = [ends for _, t in given if not t.constant and (ends := self._bare_ends(t))]
        computed = [tensor for _, tensor in given if not tensor.constant]
        if margin is None or not bare or len(bare) < len(computed):
            return
        low, high = _around(bare)
        if len(computed) == 2:
            if any(tensor.index in self._bare for tensor in computed):
                within = _around([self._ends(tensor) for tensor in computed])
                self._keep(node.outputs[0], (low, high), within)
            return
        number, hidden = next((number, tensor) for number, tensor in given if tensor.constant)
        values, floor = self._values(hidden), low - margin
        if values.min(initial=0.0) < floor:
            raised = np.maximum(values, np.float32(floor))
            self.constants[node.index, number] = raised
            self._keep(node.outputs[0], (low, high), (floor, max(high, float(raised.max()))))

    def _sum(self, node: Node) -> None:
        """Raise what is added to scores, or lower what is subtracted from them."""
        margin = self._margins.get(node.outputs[0].index)
        sign = -1.0 if node.name == "SUB" else 1.0
        for scores, number in ((0, 1), (1, 0)) if node.name == "ADD" else ((0, 1),):
            given, term = node.inputs[scores], node.inputs[number]
            if margin is None or given is None or term is None or given.constant:
                continue
            bare, ends = self._bare_ends(given), self._term_ends(term, sign)
            if bare is None or ends is None or ends[1] > margin:
                continue  # what reaches far above zero moves scores, too
            least = bare[0] - bare[1] - margin  # it hides even the highest score
            if term.constant and ends[0] < least:
                values = sign * self._values(term)
                self.constants[node.index, number] = sign * np.maximum(values, np.float32(least))
            elif term.constant or not self._cut(term, sign, max(least, ends[0])):
                continue
            if ends[0] < least:
                low, high = bare
                self._keep(node.outputs[0], bare, (low - margin, high + max(ends[1], 0.0)))
                return

    def _cut(self, term: Tensor, sign: float, least: float) -> bool:
        """End the range of a computed term early, back to what computes it; False if it may not.

        Of several sums that read it, the one counts that needs the most of it.
        """
        chain = [term]
        while (maker := self._makers.get(chain[-1].index)) is not None and _moves(maker):
            chain.append(_computed(maker)[0])
        if any(t.index in self._outputs or not self._only_masks(t) for t in chain):
            return False
        # The factor is lessened, too: kernels do not saturate what is beyond 32 bits.
        if maker is None or not self._lessen(maker, least):
            return False
        for tensor in chain:
            if tensor.name not in self._known.low:
                continue
            low, high = self._known.low[tensor.name], self._known.high[tensor.name]
            if sign > 0:
                low = min(least, self.low.get(tensor.name, least))
            else:
                high = max(-least, self.high.get(tensor.name, -least))
            self.low[tensor.name], self.high[tensor.name] = low, high
        return True

    def _lessen(self, maker: Node, least: float) -> bool:
        """Lessen the constant of a product so that one step of the other factor hides a score."""
        inputs, computed = real_inputs(maker), _computed(maker)
        if maker.name != "MUL" or len(computed) != 1 or computed[0].name not in self._known.low:
            return False
        number, factor = next((number, tensor) for number, tensor in inputs if tensor.constant)
        most = -least / parameters_of(*self._ends(computed[0]), self._bits).scale
        values = self._values(factor)
        before = self.constants.get((maker.index, number))
        most = max(most, 0.0 if before is None else float(np.abs(before).max()))
        self.constants[maker.index, number] = np.clip(values, np.float32(-most), np.float32(most))
        return True

    def _only_masks(self, tensor: Tensor) -> bool:
        """Whether a tensor is read, once it was moved, by sums before a softmax or a maximum."""
        return all(
            self._only_masks(reader.outputs[0])
            if _moves(reader)
            else reader.name in _SUMS and reader.outputs[0].index in self._margins
            for reader in self._readers.get(tensor.index, ())
        )

    def _needed(self, tensor: Tensor) -> float | None:
        """Return how far below the scores a hidden value must be; None where all values matter."""
        needed: list[float | None] = [None] if tensor.index in self._outputs else []
        for reader in self._readers.get(tensor.index, ()):
            if reader.name in _SOFT:
                # Together, all but one get less than one step of the output.
                needed.append(math.log(1 << self._bits) + math.log(max(tensor.shape[-1:] or (1,))))
            elif reader.name in _HARD:
                needed.append(0.0)
            elif _moves(reader) or reader.name in _SELECTS | _SUMS:
                needed.append(self._margins.get(reader.outputs[0].index))
            else:
                needed.append(None)
        known = [margin for margin in needed if margin is not None]
        return max(known, default=None) if len(known) == len(needed) else None

    def _bare_ends(self, tensor: Tensor) -> tuple[float, float] | None:
        if tensor.index in self._bare:
            return self._bare[tensor.index]
        return self._ends(tensor) if tensor.name in self._known.low else None

    def _term_ends(self, tensor: Tensor, sign: float) -> tuple[float, float] | None:
        """Return the ends of what is added: of a term, or of what is subtracted with minus."""
        if tensor.constant and tensor.dtype == FLOAT:
            values = self._values(tensor)
            low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        elif tensor.name in self._known.low:
            low, high = self._known.low[tensor.name], self._known.high[tensor.name]
        else:
            return None
        return (low, high) if sign > 0 else (-high, -low)

    def _values(self, tensor: Tensor) -> Array:
        return finite(self._model, self._model.subgraphs[0].tensors[tensor.index])

    def _ends(self, tensor: Tensor) -> tuple[float, float]:
        low, high = self._known.low[tensor.name], self._known.high[tensor.name]
        return self.low.get(tensor.name, low), self.high.get(tensor.name, high)

    def _keep(self, tensor: Tensor, bare: tuple[float, float], ends: tuple[float, float]) -> None:
        if tensor.name in self._known.low:
            self._bare[tensor.index] = bare
            self.low[tensor.name], self.high[tensor.name] = ends


def _moves(node: Node) -> bool:
    """Whether an operator moves the values of a single computed input to a single output."""
    return node.name in _MOVES and len(_computed(node)) == len(real_inputs(node)) == 1


def _around(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ends), max(high for _, high in ends)


def _computed(node: Node) -> list[Tensor]:
    return [tensor for _, tensor in real_inputs(node) if not tensor.constant]


def _with_constants(model: ModelT, constants: Mapping[tuple[int, int], Array]) -> ModelT:
    """Give operators constants of their own."""
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

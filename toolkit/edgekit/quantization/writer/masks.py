"""Bring what masks write near the scores that they mask, which else would have no codes left.

A mask puts -1e9 or less in the place of what a softmax is not to see, or adds it. In one scale with
that, all scores are zero. What is far enough below every score is as good: together, such values
get less of the softmax than one step of its output. A maximum needs none of that distance.

  SELECT(mask, scores, -1e9)     the constant is raised
  scores + mask * -1e9           the factor and the range of the product are lessened
  scores + (mask * 1e9 - 1e9)    it is (mask - 1) * 1e9 (`with_factors_last`)
  scores + SELECT(mask, 0, -1e9)
  scores + (one mask + another)
  SELECT(mask, scores - 1e9, scores)
  PADV2(scores, -1e9)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.quantization.writer.hidden import (
    PAD,
    SELECTS,
    SUMS,
    Hiding,
    computed,
    moves,
    with_constants,
)
from edgekit.quantization.writer.mask_terms import with_factors_last
from edgekit.quantization.writer.precisions import FLOAT, real_inputs
from edgekit.quantization.writer.scales import parameters_of
from edgekit.records import Array, Ranges
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import finite
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


def with_near_masks(
    model: ModelT, ranges: Ranges, bits: int
) -> tuple[ModelT, Ranges, frozenset[str]]:
    """Return a float graph whose masks are near what they mask, with its ranges.

    Args:
        model: A float model; it is not changed.
        ranges: Ranges of its activations.
        bits: Width of the activations.

    Returns:
        The graph and its ranges, `model` and `ranges` themselves where no mask is far; and the
        names of the tensors that hold masks to add, to which two codes are enough.
    """
    asked, known = model, ranges
    model, ranges = with_factors_last(model, ranges, bits)
    search = _Search(model, ranges, bits)
    search.run()
    if not search.low and not search.constants:
        return asked, known, frozenset()
    ranges = replace(ranges, low={**ranges.low, **search.low}, high={**ranges.high, **search.high})
    return with_constants(model, search.constants), ranges, frozenset(search.terms)


class _Search:
    """Masks of a graph, in execution order.

    Attributes:
        low: Tensor name -> lower end of its range, where it is another one.
        high: Likewise, the upper end.
        constants: Operator index and number of its input -> the values of a constant.
        terms: Names of the computed tensors that are added to scores, and of what they are made of.
    """

    def __init__(self, model: ModelT, ranges: Ranges, bits: int) -> None:
        self._model, self._bits = model, bits
        self._known = ranges
        self.low: dict[str, float] = {}
        self.high: dict[str, float] = {}
        self.constants: dict[tuple[int, int], Array] = {}
        self.terms: set[str] = set()
        self._nodes = [node for node in nodes(model) if node.graph == 0]
        self._hiding = Hiding(self._nodes, model.subgraphs[0].outputs.tolist(), bits)
        # Operator that selects among constants -> how low it has to reach.
        self._least: dict[int, float] = {}
        # Masked tensor -> the ends of the scores in it that no mask hides.
        self._bare: dict[int, tuple[float, float]] = {}

    def run(self) -> None:
        """Find the masks, and what is to be changed."""
        for node in self._nodes:
            if node.name in SELECTS and len(node.inputs) == 3:
                self._select(node, [entry for entry in real_inputs(node) if entry[0]])
            elif node.name == PAD:
                self._select(node, real_inputs(node))
            elif node.name in SUMS and node.option("fusedActivationFunction", 0) == 0:
                self._sum(node)
            elif moves(node) and (masked := computed(node)[0]).index in self._bare:
                self._keep(node.outputs[0], self._bare[masked.index], self._ends(masked))

    def _select(self, node: Node, given: Sequence[tuple[int, Tensor]]) -> None:
        """Raise the constant that is written over or around scores, or pass on masked ones."""
        margin = self._hiding.margins.get(node.outputs[0].index)
        bare = [ends for _, t in given if not t.constant and (ends := self._bare_ends(t))]
        scores = [tensor for _, tensor in given if not tensor.constant]
        if margin is None or not bare or len(bare) < len(scores):
            return
        low, high = _around(bare)
        if len(scores) == 2:
            if any(tensor.index in self._bare for tensor in scores):
                within = _around([self._ends(tensor) for tensor in scores])
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
        margin = self._hiding.margins.get(node.outputs[0].index)
        sign = -1.0 if node.name == "SUB" else 1.0
        for scores, number in ((0, 1), (1, 0)) if node.name == "ADD" else ((0, 1),):
            given, term = node.inputs[scores], node.inputs[number]
            if margin is None or given is None or term is None or given.constant:
                continue
            bare, ends = self._bare_ends(given), self._term_ends(term, sign)
            if bare is None or ends is None or ends[1] > margin:
                continue  # what reaches far above zero moves scores, too
            if bare[0] <= ends[0] / 10 and self._hiding.only_masks(given):
                continue  # one mask is added to another
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
        while (maker := self._hiding.makers.get(chain[-1].index)) is not None and moves(maker):
            chain.append(computed(maker)[0])
        if maker is None or not all(self._hiding.only_masks(tensor) for tensor in chain):
            return False
        if not self._bound(maker, sign, least):
            return False
        self.terms.update(tensor.name for tensor in chain)
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

    def _bound(self, maker: Node, sign: float, least: float) -> bool:
        """Let a term be computed of smaller constants: kernels saturate within 32 bits only."""
        inputs, factors = real_inputs(maker), computed(maker)
        if maker.name in SELECTS and not factors:
            self._least[maker.index] = least = min(least, self._least.get(maker.index, least))
            for number, tensor in inputs:
                values = np.maximum(sign * self._values(tensor), np.float32(least))
                self.constants[maker.index, number] = sign * values
            return True
        if maker.name == "ADD" and maker.option("fusedActivationFunction", 0) == 0:
            # Each of two masks hides by itself.
            return len(factors) == 2 and all(self._cut(part, sign, least) for part in factors)
        if maker.name != "MUL" or len(factors) != 1 or factors[0].name not in self._known.low:
            return False
        # One step of the other factor hides a score.
        number, factor = next((number, tensor) for number, tensor in inputs if tensor.constant)
        most = -least / parameters_of(*self._ends(factors[0]), self._bits).scale
        values = self._values(factor)
        before = self.constants.get((maker.index, number))
        most = max(most, 0.0 if before is None else float(np.abs(before).max()))
        self.constants[maker.index, number] = np.clip(values, np.float32(-most), np.float32(most))
        return True

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


def _around(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ends), max(high for _, high in ends)

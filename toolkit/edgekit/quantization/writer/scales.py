"""Choose the quantization parameters of every activation.

An operator that copies codes needs one scale for its inputs and outputs. Where it has a single
input, that one's scale is passed on to the output, operator by operator; where it has several
(CONCATENATION, MAXIMUM), the range of the output is passed back to the inputs and, through
operators that copy, to what computes them. Codes are requantized instead where a kernel prescribes
the scale of an input, and where others read that input, too, whose values would be clipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgekit.numerics import affine_parameters
from edgekit.quantization.writer.constants import NARROWEST
from edgekit.quantization.writer.operators import OPERATORS, Parameters
from edgekit.quantization.writer.precisions import real_inputs, real_outputs
from edgekit.quantization.writer.recurrent import cell_parameters
from edgekit.records import Array
from edgekit.targets.node import Node
from edgekit.tflite.lstm import STATE_INPUTS


def parameters_of(low: float, high: float, bits: int) -> Parameters:
    """Return the parameters of a range; symmetric with 16 bits, whose kernels have no zero point.

    >>> parameters_of(-1.0, 1.0, 16).zero_point
    0
    """
    if high - low <= NARROWEST:
        low, high = min(low, -NARROWEST / 2), max(high, NARROWEST / 2)
    if bits == 8:
        return Parameters(bits, *affine_parameters(low, high, bits))
    largest = np.float32(max(abs(low), abs(high)))
    return Parameters(bits, float(largest / np.float32((1 << (bits - 1)) - 1)), 0)


def parameters_of_values(values: Array, bits: int) -> Parameters:
    """Return the parameters of a constant that is no weight, from its extremes."""
    return parameters_of(float(values.min(initial=0.0)), float(values.max(initial=0.0)), bits)


class Scales:
    """The parameters of the activations around operators of one precision.

    Args:
        operators: The operators with this precision, in execution order.
        bits: Its width of activations.
        ranges: Tensor index -> smallest and largest value.
        outputs: Indices of the graph's outputs.

    Attributes:
        chosen: Indices of the operators.
        bits: As given.
        own: Tensor index -> parameters in which these operators compute or read it.
    """

    def __init__(
        self,
        operators: Sequence[Node],
        *,
        bits: int,
        ranges: Mapping[int, tuple[float, float]],
        outputs: Iterable[int],
    ) -> None:
        self.chosen = frozenset(node.index for node in operators)
        self.bits = bits
        self._prescribed = {
            tensor.index: fixed
            for node in operators
            if (fixed := OPERATORS[node.name].prescribed(bits)) is not None
            for tensor in real_outputs(node)
        }
        self.own: dict[int, Parameters] = {
            index: parameters_of(low, high, bits) for index, (low, high) in ranges.items()
        }
        self.own.update(self._prescribed)
        # The outputs of a recurrent operator have the scale of its state, which it computes with,
        # and so have copies of them: only what joins them rounds them again.
        self._held: set[int] = set()
        for node in operators:
            if OPERATORS[node.name].recurrent:
                self._held.update(tensor.index for tensor in real_outputs(node))
                cell = node.inputs[STATE_INPUTS[1]]
                if cell is not None and cell.index in ranges:
                    self.own[cell.index] = cell_parameters(*ranges[cell.index])
            elif OPERATORS[node.name].scale == "same":
                inputs = {tensor.index for _, tensor in real_inputs(node)}
                if len(inputs) == 1 and inputs <= self._held:
                    self._held.update(tensor.index for tensor in real_outputs(node))
        self._copying = [node for node in operators if OPERATORS[node.name].scale == "same"]
        self._readers = Counter(outputs)
        for node in operators:
            self._readers.update({tensor.index for _, tensor in real_inputs(node)})
        kept: set[int] = set()
        self._forward(kept)
        self._backward(kept)
        self._forward(kept)

    def wanted(self, node: Node, tensor: int) -> Parameters:
        """Return the parameters in which an operator takes one of its inputs."""
        if OPERATORS[node.name].scale == "same":
            return self.own[real_outputs(node)[0].index]
        return self.own[tensor]

    def _forward(self, kept: set[int]) -> None:
        for node in self._copying:
            inputs = real_inputs(node)
            if len(inputs) != 1 or inputs[0][1].index not in self.own:
                continue
            for tensor in real_outputs(node):
                if tensor.index not in kept:
                    self.own[tensor.index] = self.own[inputs[0][1].index]

    def _backward(self, kept: set[int]) -> None:
        for node in reversed(self._copying):
            outputs = real_outputs(node)
            source = next((t.index for t in outputs if t.index in kept), outputs[0].index)
            if source not in self.own:
                continue
            passes = len(real_inputs(node)) > 1 or source in kept
            for _, tensor in real_inputs(node):
                index = tensor.index
                if tensor.constant or index in kept or index in {*self._prescribed, *self._held}:
                    continue
                if index not in self.own or (passes and self._may_get(index, source)):
                    self.own[index] = self.own[source]
                    kept.add(index)

    def _may_get(self, index: int, source: int) -> bool:
        """Whether a tensor may get another one's parameters: nobody else's values are clipped."""
        return self._readers[index] == 1 or self.own[source].covers(self.own[index])

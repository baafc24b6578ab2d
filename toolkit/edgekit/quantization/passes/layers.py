"""Operators with constant weights, whose channels passes rescale and shift.

A channel is an index of the last axis of an activation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array
from edgekit.tflite.graph import FLOAT32, constant, is_constant, operator_name

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

Floats = NDArray[np.float32]

NO_ACTIVATION: Final = 0
RELU: Final = 1
"""Codes of fused activations in the schema."""

PADDED: Final = 0
"""`Padding.SAME` of the schema."""
# So many weights of a channel take values so often, on average, where they were clustered.
_MANY_WEIGHTS: Final = 64
_EACH_USED: Final = 2
# Share of zeros beyond which weights were pruned.
_PRUNED: Final = 0.1
# Operator -> axis of its weights' output channels.
_KINDS: Final[Mapping[str, int]] = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


class ChannelGraph:
    """The first graph of a model that a pass changes.

    Args:
        model: A copy (`tflite.graph.clone`), which is changed in place.
        kept: Names of the outputs of operators that are not to be changed.
    """

    def __init__(self, model: ModelT, kept: frozenset[str] = frozenset()) -> None:
        self.model = model
        self.graph = model.subgraphs[0]
        self._kept = kept
        self.inputs = frozenset(self.graph.inputs.tolist())
        self.outputs = frozenset(self.graph.outputs.tolist())
        self.refresh()

    def refresh(self) -> None:
        """Look again at who reads and computes what, after operators were changed."""
        self._readers: dict[int, list[OperatorT]] = {}
        self._makers: dict[int, OperatorT] = {}
        for op in self.graph.operators:
            for index in dict.fromkeys(op.inputs.tolist()):
                self._readers.setdefault(index, []).append(op)
            for index in op.outputs.tolist():
                self._makers[index] = op

    def name(self, op: OperatorT) -> str:
        """Return the operator's name in the schema."""
        return operator_name(self.model, op)

    def is_kept(self, op: OperatorT) -> bool:
        """Whether an operator is not to be changed."""
        return any(self.graph.tensors[i].name in self._kept for i in op.outputs.tolist())

    def maker(self, tensor: int) -> OperatorT | None:
        """Return the operator that computes a tensor."""
        return self._makers.get(tensor)

    def readers(self, tensor: int) -> list[OperatorT]:
        """Return the operators that read a tensor."""
        return self._readers.get(tensor, [])

    def channels(self, tensor: int) -> int:
        """Return the size of a tensor's last axis; 0 where it has none."""
        shape = self.graph.tensors[tensor].shape
        return int(shape[-1]) if len(shape) else 0

    def values(self, tensor: int) -> Array | None:
        """Return the values of a float constant; None where it is none."""
        if tensor < 0:
            return None
        found = self.graph.tensors[tensor]
        if found.type != FLOAT32 or not is_constant(self.model, found) or found.sparsity:
            return None
        return constant(self.model, found)

    def replace_constant(self, op: OperatorT, position: int, values: Array) -> None:
        """Give an operator another constant input; other operators keep the one that was there."""
        from ai_edge_litert import schema_py_generated as schema

        values = np.ascontiguousarray(values, np.float32)
        self.model.buffers.append(schema.BufferT(data=values.reshape(-1).view(np.uint8)))
        tensor = copy.copy(self.graph.tensors[op.inputs[position]])
        tensor.buffer = len(self.model.buffers) - 1
        tensor.shape = np.array(values.shape, np.int32)
        index = int(op.inputs[position])
        if len(self.readers(index)) == 1:
            self.graph.tensors[index] = tensor
            return
        self.graph.tensors.append(tensor)
        op.inputs = np.array(op.inputs)  # arrays are shared with the original
        op.inputs[position] = len(self.graph.tensors) - 1
        self.refresh()

    def bypass(self, op: OperatorT, tensor: int) -> None:
        """Remove an operator; what read its output reads `tensor`, which becomes an output too."""
        (gone,) = op.outputs.tolist()
        self.graph.operators = [other for other in self.graph.operators if other is not op]
        for reader in self.readers(gone):
            reader.inputs = np.where(reader.inputs == gone, np.int32(tensor), reader.inputs)
        self.refresh()

    def layers(self) -> Iterator[Layer]:
        """Yield the operators with constant weights, in execution order."""
        for op in self.graph.operators:
            if (layer := self.layer(op)) is not None:
                yield layer

    def layer(self, op: OperatorT) -> Layer | None:
        """Return an operator as a layer; None where it is none, or is not to be changed."""
        axis = _KINDS.get(self.name(op))
        if axis is None or self.is_kept(op) or len(op.inputs) < 2:
            return None
        weights = self.values(int(op.inputs[1]))
        if weights is None or len(op.outputs) != 1:
            return None
        biased = len(op.inputs) > 2 and op.inputs[2] >= 0
        if biased and self.values(int(op.inputs[2])) is None:
            return None
        layer = Layer(self, op, axis)
        return None if layer.inputs is None else layer


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """An operator with constant weights.

    Attributes:
        graph: The graph.
        op: The operator.
        axis: Axis of its weights' output channels.
    """

    graph: ChannelGraph
    op: OperatorT
    axis: int

    @property
    def weights(self) -> Array:
        """Return its weights, in the shape of the tensor."""
        found = self.graph.values(int(self.op.inputs[1]))
        assert found is not None
        return found

    @property
    def output(self) -> int:
        """Return the tensor that it computes."""
        return int(self.op.outputs[0])

    @property
    def outputs(self) -> int:
        """Return its number of output channels."""
        return int(self.weights.shape[self.axis])

    @property
    def inputs(self) -> int | None:
        """Return its number of input channels; None where groups of them share none."""
        given, weights = self.graph.channels(int(self.op.inputs[0])), self.weights
        if self.axis == 3:
            return given if given and weights.shape[3] % given == 0 else None
        # A dense layer flattens what it reads; channels then repeat.
        dense = self.graph.name(self.op) == "FULLY_CONNECTED"
        width = int(weights.shape[-1])
        return width if width == given or (dense and given and width % given == 0) else None

    @property
    def activation(self) -> int:
        """Return the code of its fused activation."""
        return fused(self.op)

    @property
    def padded(self) -> bool:
        """Whether zeros may be added around what it reads."""
        if self.graph.name(self.op) == "FULLY_CONNECTED":
            return False
        window = self.weights.shape[1:3]
        return bool(self.op.builtinOptions.padding == PADDED and max(window) > 1)

    @property
    def rewritable(self) -> bool:
        """Whether it alone reads its weights, so that changing them costs no bytes."""
        return all(len(self.graph.readers(int(i))) == 1 for i in self.op.inputs[1:] if i >= 0)

    def scale_outputs(self, factors: Floats) -> None:
        """Multiply weights and bias of every output channel, `[outputs]`."""
        shape = [1] * 4 if self.axis == 3 else [-1] + [1] * (self.weights.ndim - 1)
        if self.axis == 3:
            shape[3] = -1
        self.graph.replace_constant(self.op, 1, self.weights * factors.reshape(shape))
        if (bias := self.bias) is not None:
            # A channel that a ReLU always closes may have a bias of any size.
            ends = np.finfo(np.float32)
            self.graph.replace_constant(
                self.op, 2, np.clip(np.float64(bias) * factors, ends.min, ends.max)
            )

    def scale_inputs(self, factors: Floats) -> None:
        """Multiply the weights of every input channel, `[k]`; `k` may repeat in a flat input."""
        self.graph.replace_constant(self.op, 1, self.weights * self._spread(factors))

    def can_add(self) -> bool:
        """Whether it has a bias to add to, all of its own."""
        return self.bias is not None

    def add(self, shift: Floats) -> None:
        """Add to the bias, `[outputs]`."""
        bias = self.bias
        assert bias is not None
        self.graph.replace_constant(self.op, 2, bias + shift)

    def response(self, shift: Floats) -> Floats:
        """Return what a shift of its input channels, `[k]`, adds to its outputs, `[outputs]`."""
        moved = self.weights.astype(np.float64) * self._spread(shift)
        others = tuple(axis for axis in range(moved.ndim) if axis != self.axis)
        return np.asarray(moved.sum(axis=others), np.float32)

    def largest_by_input(self, channels: int) -> Floats:
        """Return the largest magnitude of the weights that read each channel, `[channels]`."""
        magnitudes = np.abs(self.weights)
        if self.axis == 3:
            by_output = magnitudes.max(axis=(0, 1, 2))
            return np.asarray(by_output.reshape(channels, -1).max(axis=1))
        return np.asarray(magnitudes.reshape(-1, channels).max(axis=0))

    def largest_by_output(self) -> Floats:
        """Return the largest magnitude of each output channel's weights, `[outputs]`."""
        others = tuple(axis for axis in range(self.weights.ndim) if axis != self.axis)
        return np.asarray(np.abs(self.weights).max(axis=others))

    def takes(self, channels: int) -> bool:
        """Whether its inputs are so many channels, or repeat them, and can be multiplied.

        One channel stands for all of them: one factor keeps equal weights equal.
        """
        inputs = self.inputs
        if inputs is None or (self.axis == 3 and channels not in (1, inputs)) or inputs % channels:
            return False
        return self.rewritable and (channels == 1 or not self.clustered)

    @property
    def clustered(self) -> bool:
        """Whether its weights have few distinct values, which factors would make many."""
        first = np.take(self.weights, range(min(4, self.outputs)), axis=self.axis)
        return any(
            row.size >= _MANY_WEIGHTS and len(np.unique(row)) <= row.size // _EACH_USED
            for row in np.moveaxis(first, self.axis, 0)
        )

    @property
    def pruned(self) -> bool:
        """Whether many of its weights are zero, which other codes would fill."""
        weights = self.weights
        return bool(np.count_nonzero(weights) < (1 - _PRUNED) * weights.size)

    def _spread(self, factors: Floats) -> Floats:
        """Return factors of input channels in a shape that goes with the weights."""
        weights = self.weights
        if self.axis == 3:
            return np.repeat(factors, weights.shape[3] // len(factors))
        return np.tile(factors, weights.shape[-1] // len(factors))

    @property
    def bias(self) -> Array | None:
        """Return its bias, `[outputs]`; None where it has none."""
        return self.graph.values(int(self.op.inputs[2])) if len(self.op.inputs) > 2 else None


def fused(op: OperatorT) -> int:
    """Return the code of an operator's fused activation."""
    return int(getattr(op.builtinOptions, "fusedActivationFunction", NO_ACTIVATION))


def by_channel(graph: ChannelGraph, op: OperatorT) -> tuple[int, int, Floats] | None:
    """Return how an operator combines an activation with a constant of its channels.

    Returns:
        The activation, the place of the constant among the inputs, and its values `[channels]`;
        None where the constant is no such thing.
    """
    if len(op.inputs) != 2:
        return None
    for place in (1, 0):
        values, tensor = graph.values(int(op.inputs[place])), int(op.inputs[1 - place])
        channels = graph.channels(tensor)
        if values is None or graph.values(tensor) is not None or not channels:
            continue
        shape = graph.graph.tensors[tensor].shape.tolist()
        same = shape == graph.graph.tensors[op.outputs[0]].shape.tolist()
        if not same or values.size not in (1, channels):
            return None
        if values.size == channels and values.ndim and values.shape[-1] != channels:
            return None
        return tensor, place, np.broadcast_to(values.reshape(-1), (channels,))
    return None

"""Write layers as those that TFLite has operators for, each with an output of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

import numpy as np

from edgekit.training.qat.graph import Graph, Slot, Step
from edgekit.training.qat.insertion import can_compose
from edgekit.training.qat.layer_rules import CLIPPING, LINEAR, SMOOTH, activation_of, kind_of

# Operations of keras.ops on two tensors, or on one, that are layers or activations, too.
_PAIRS: Final = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_ACTIVATIONS: Final = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Silu": "silu",
    "HardSilu": "hard_silu",
}


def expand(graph: Graph, exclude: Collection[str]) -> Graph:
    """Write layers as those that TFLite has operators for; the function remains the same.

    Operations on tensors become layers, bidirectional layers two that are joined, separable
    convolutions two convolutions, normalizations of groups those of layers, and sums of many values
    sums of pairs. Activations that do more than
    clip are split off: TFLite has separate operators for them. The layer of an output keeps its
    name, by which compiled losses are matched.

    Args:
        graph: The graph.
        exclude: Names of layers that are left as they are.
    """
    for rewrite in (_layered, _both_ways, _separated, _in_groups, _paired, _split, _smoothed):
        graph = _Expansion(graph, rewrite, exclude).run()
    return graph


class _Expansion:
    """One rewriting of a graph; see `expand`."""

    def __init__(self, graph: Graph, rewrite: Any, exclude: Collection[str]) -> None:
        self.graph = graph
        self.shapes = dict(graph.shapes)
        self._rewrite = rewrite
        self._exclude = exclude
        # Layers that are called several times remain one layer.
        self._made: dict[tuple[int, str], Any] = {}

    def run(self) -> Graph:
        """Return the graph with every step rewritten."""
        steps: list[Step] = []
        for step in self.graph.steps:
            kept = step.layer.name in self._exclude
            steps += [step] if kept else self._rewrite(step, self)
        return replace(self.graph, steps=tuple(steps), shapes=self.shapes)

    def between(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of a new value."""
        self.shapes[len(self.shapes)] = shape
        return len(self.shapes) - 1

    def made(self, layer: Any, name: str, kind: Any, config: Any, *, step: Step) -> Any:
        """Return the layer that stands for another, made once, with its name and kind of weights.

        Args:
            layer: The layer it stands for.
            name: Its name.
            kind: Its class.
            config: Its other arguments.
            step: The step of its first call, whose first input has its input's shape.
        """
        key = id(layer), name
        if key not in self._made:
            made = kind.from_config({**config, "name": name})
            made.build(self.shapes[step.inputs[0]])
            self._made[key] = made
        return self._made[key]


def _layered(step: Step, _: _Expansion) -> list[Step]:
    """Return an operation on tensors as a layer, whose name its TFLite operators carry."""
    import keras

    name = type(step.layer).__name__
    if isinstance(step.layer, keras.layers.Layer) or step.options:
        return [step]
    one, two = Slot(0), Slot(1)
    if name in _PAIRS and step.arguments == (one, two):
        layer = getattr(keras.layers, name)(name=step.layer.name)
    elif name in _ACTIVATIONS and step.arguments == (one,):
        layer = keras.layers.Activation(_ACTIVATIONS[name], name=step.layer.name)
    else:
        return [step]
    return [replace(step, layer=layer, arguments=None)]


def _both_ways(step: Step, expansion: _Expansion) -> list[Step]:
    """Return a bidirectional layer as a forward and a backward one, whose outputs are joined."""
    import keras

    of, layer = keras.layers, step.layer
    joins = {"concat": of.Concatenate, "sum": of.Add, "mul": of.Multiply}
    if type(layer) is not of.Bidirectional or layer.merge_mode not in joins:
        return [step]
    halves = layer.forward_layer, layer.backward_layer
    calls = [replace(step, layer=half) for half in halves]
    if any(type(half) not in (of.LSTM, of.GRU) for half in halves) or not all(
        can_compose(call, expansion.graph) for call in calls
    ):
        return [step]
    shape = expansion.shapes[step.output]
    shape = (*shape[:-1], halves[0].units)
    steps, values = [], []
    for half in halves:
        name = f"{layer.name}_{half.name}"
        made = expansion.made(layer, name, type(half), half.get_config(), step=step)
        made.set_weights(half.get_weights())
        values.append(expansion.between(shape))
        steps.append(replace(step, layer=made, output=values[-1]))
    if layer.return_sequences:
        # No layer of Keras does this.
        flipped = keras.ops.flip(keras.KerasTensor(shape), axis=1)
        flip = flipped._keras_history.operation  # noqa: SLF001  the only way to a named operation
        flip.name = f"{layer.name}_flip"
        steps.append(Step(flip, (values[1],), expansion.between(shape), {}))
        values[1] = steps[-1].output
    join = joins[layer.merge_mode](name=layer.name)
    return [*steps, Step(join, tuple(values), step.output, {})]


def _separated(step: Step, expansion: _Expansion) -> list[Step]:
    """Return a separable convolution as a depthwise and a pointwise one."""
    import keras

    of = keras.layers
    layer = step.layer
    forms = {
        of.SeparableConv1D: (of.DepthwiseConv1D, of.Conv1D),
        of.SeparableConv2D: (of.DepthwiseConv2D, of.Conv2D),
    }
    if type(layer) not in forms:
        return [step]
    first, second = forms[type(layer)]
    shared = {"data_format": layer.data_format}
    depthwise = expansion.made(
        layer,
        f"{layer.name}_depthwise",
        first,
        {
            "kernel_size": layer.kernel_size,
            "strides": layer.strides,
            "padding": layer.padding,
            "dilation_rate": layer.dilation_rate,
            "depth_multiplier": layer.depth_multiplier,
            "use_bias": False,
            **shared,
        },
        step=step,
    )
    shape = tuple(depthwise.compute_output_shape(expansion.shapes[step.inputs[0]]))
    middle = expansion.between(shape)
    after = Step(None, (middle,), step.output, {})
    pointwise = expansion.made(
        layer,
        layer.name,
        second,
        {
            "filters": layer.filters,
            "kernel_size": 1,
            "use_bias": layer.use_bias,
            "activation": layer.activation,
            **shared,
        },
        step=after,
    )
    spatial, *others = layer.get_weights()
    depthwise.set_weights([spatial])
    pointwise.set_weights(others)
    before = replace(step, layer=depthwise, output=middle)
    return [before, replace(after, layer=pointwise)]


def _in_groups(step: Step, expansion: _Expansion) -> list[Step]:
    """Return a normalization of groups as one of layers, whose tensors have at most four axes.

    Scale and shift become a depthwise convolution of one tap, which has a scale per channel.
    """
    import keras

    of, layer = keras.layers, step.layer
    shape = expansion.shapes[step.output]
    affine = {3: of.DepthwiseConv1D, 4: of.DepthwiseConv2D}.get(len(shape))
    if (
        type(layer) is not of.GroupNormalization
        or affine is None
        or None in shape[1:]
        or layer.axis not in (-1, len(shape) - 1)
    ):
        return [step]
    sizes = [int(size or 1) for size in shape[1:]]
    apart = int(np.prod(sizes[:-1])), layer.groups, sizes[-1] // layer.groups
    names = [f"{layer.name}_{part}" for part in ("groups", "normalized", "together")]
    values = [expansion.between((shape[0], *apart)) for _ in range(2)]
    values.append(expansion.between(shape))
    steps = [
        Step(of.Reshape(apart, name=names[0]), step.inputs, values[0], {}),
        Step(None, (values[0],), values[1], {}),
        Step(of.Reshape(sizes, name=names[2]), (values[1],), values[2], {}),
        Step(None, (values[2],), step.output, {}),
    ]
    config = {"axis": [1, 3], "scale": False, "center": False, "epsilon": layer.epsilon}
    normalized = expansion.made(layer, names[1], of.LayerNormalization, config, step=steps[1])
    steps[1] = replace(steps[1], layer=normalized)
    config = {"kernel_size": 1}
    channels = expansion.made(layer, layer.name, affine, config, step=steps[3])
    scale = np.asarray(layer.gamma) if layer.scale else np.ones(sizes[-1], np.float32)
    shift = np.asarray(layer.beta) if layer.center else np.zeros(sizes[-1], np.float32)
    channels.set_weights([scale.reshape(channels.kernel.shape), shift])
    steps[3] = replace(steps[3], layer=channels)
    return steps


def _paired(step: Step, expansion: _Expansion) -> list[Step]:
    """Return a sum or product of many values as sums or products of two."""
    import keras

    layer, n = step.layer, len(step.inputs)
    if type(layer) not in (keras.layers.Add, keras.layers.Multiply) or n <= 2:
        return [step]
    steps: list[Step] = []
    value = step.inputs[0]
    for position, other in enumerate(step.inputs[1:], start=1):
        last = position == n - 1
        name = layer.name if last else f"{layer.name}_{position}_of_{n - 1}"
        shape = expansion.shapes[step.output]
        output = step.output if last else expansion.between(shape)
        steps.append(Step(type(layer)(name=name), (value, other), output, {}))
        value = output
    return steps


def _split(step: Step, expansion: _Expansion) -> list[Step]:
    """Return a layer with weights and its activation apart."""
    import keras

    if kind_of(step.layer) != "weighted" or activation_of(step.layer) in CLIPPING:
        return [step]
    name, activation = step.layer.name, activation_of(step.layer)
    last = step.output in expansion.graph.outputs
    config = {**step.layer.get_config(), "activation": "linear"}
    linear = expansion.made(
        step.layer, f"{name}{LINEAR}" if last else name, type(step.layer), config, step=step
    )
    linear.set_weights(step.layer.get_weights())
    after = keras.layers.Activation(
        step.layer.activation, name=name if last else f"{name}_{activation}"
    )
    between = expansion.between(expansion.shapes[step.output])
    return [
        replace(step, layer=linear, output=between),
        Step(after, (between,), step.output, {}),
    ]


def _smoothed(step: Step, expansion: _Expansion) -> list[Step]:
    """Return x * sigmoid(x) as the two operators that TFLite has for it."""
    import keras

    layer = step.layer
    if type(layer) is not keras.layers.Activation or activation_of(layer) != SMOOTH:
        return [step]
    middle = expansion.between(expansion.shapes[step.output])
    sigmoid = keras.layers.Activation("sigmoid", name=f"{layer.name}_sigmoid")
    product = keras.layers.Multiply(name=layer.name)
    return [
        Step(sigmoid, step.inputs, middle, {}),
        Step(product, (step.inputs[0], middle), step.output, {}),
    ]

"""Fold batch normalization into the layer before it, as in the TFLite graph, or after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from edgekit.records import Array
from edgekit.training.qat.graph import Graph, Step

# Layers that commute with positive factors of the channels.
_HOMOGENEOUS: Final = frozenset(
    {
        *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "Dropout"),
        *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "SpatialDropout1D"),
        *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "SpatialDropout2D", "ZeroPadding1D"),
        *("ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D"),
    }
)
# Standard deviations to each side of its mean that a normalized channel is taken to fill.
_DEVIATIONS: Final = 3.0
# The least range of a channel, and of the weights that take it, relative to the largest.
_LEAST: Final = 1e-3


def fold(graph: Graph, *, for_integers: bool = False) -> Graph:
    """Fold every batch normalization with its running statistics.

    Jacob et al. 2018, equation (14): w * gamma / sqrt(var + eps). Batch statistics are not used:
    for a trained model they are noise, and inference does not have them (Krishnamoorthi 2018,
    section 3.2.2, freezes them during training for that reason). Where no convolution precedes, the
    normalization is folded into the dense layer after it, or becomes a depthwise convolution of
    one tap. A normalization that is not of the last axis, or where neither is possible, is left.

    Args:
        graph: The graph.
        for_integers: Whether biases also move as the converter moves them (that of a dense layer
            without an activation, before other dense layers, into theirs), and channels of a
            normalization that becomes a layer of its own are equalized.
    """
    import keras

    folded: dict[int, Step] = {}
    # Layers that are called several times remain one layer.
    made: dict[tuple[int, int], Any] = {}
    # Normalizations that became layers of their own -> the range of each channel.
    alone: dict[int, Array] = {}
    for step in graph.steps:
        rank = len(graph.shapes[step.output])
        if (
            not isinstance(step.layer, keras.layers.BatchNormalization)
            or step.layer.axis not in (-1, rank - 1)
            or "mask" in step.options
        ):
            folded[step.output] = step
            continue
        scale, shift = _affine(step.layer)
        producer = folded.get(step.inputs[0])
        if producer and _takes(producer) and graph.only_consumer(producer.output) is step:
            del folded[producer.output]
            key = id(producer.layer), id(step.layer)
            if key not in made:
                made[key] = _scaled(producer, graph, scale, shift)
            folded[step.output] = replace(producer, layer=made[key], output=step.output)
        else:
            key = id(step.layer), 0
            if key not in made:
                made[key] = _alone(step, graph, scale, shift)
                alone[id(made[key])] = _reach(step.layer)
            folded[step.output] = replace(step, layer=made[key], options={})
    graph = replace(graph, steps=tuple(folded.values()))
    if for_integers:
        graph = _equalized(graph, alone)
    return _forward(graph, biases=for_integers)


def _takes(step: Step) -> bool:
    """Whether a normalization after the step can be folded into its kernel."""
    import keras

    of = keras.layers
    kinds = (
        *(of.Conv1D, of.Conv2D, of.Dense, of.DepthwiseConv1D, of.DepthwiseConv2D),
        *(of.Conv1DTranspose, of.Conv2DTranspose),
    )
    return type(step.layer) in kinds and step.layer.activation is keras.activations.linear


def _affine(layer: Any) -> tuple[Array, Array]:
    """Return scale and shift of a normalization, `[channels]` each."""
    mean, variance = (np.asarray(v) for v in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma)
    shift = -mean * scale
    return scale, shift + np.asarray(layer.beta) if layer.center else shift


def _scaled(step: Step, graph: Graph, scale: Array, shift: Array) -> Any:
    """Return the preceding layer with the normalization in its kernel and bias."""
    config = {**step.layer.get_config(), "use_bias": True}
    layer = type(step.layer).from_config(config)
    layer.build(graph.shapes[step.inputs[0]])
    kernel, *bias = step.layer.get_weights()
    # A depthwise kernel ends in [inputs, multiplier], a transposed one in [outputs, inputs], all
    # others in [outputs].
    inner: tuple[int, ...] = kernel.shape[-1:]
    if "depthwise_initializer" in config:
        inner = kernel.shape[-2:]
    elif type(step.layer).__name__.endswith("Transpose"):
        inner = (kernel.shape[-2], 1)
    layer.set_weights([kernel * scale.reshape(inner), shift + scale * bias[0] if bias else shift])
    return layer


def _alone(step: Step, graph: Graph, scale: Array, shift: Array) -> Any:
    """Return a normalization as a depthwise convolution, which TFLite quantizes per channel.

    Vectors have no such convolution: their normalization is returned as it is.
    """
    import keras

    shape = graph.shapes[step.inputs[0]]
    of = keras.layers
    kind = {3: of.DepthwiseConv1D, 4: of.DepthwiseConv2D}.get(len(shape))
    if kind is None:
        return step.layer
    layer = kind(1, name=step.layer.name)
    layer.build(shape)
    layer.set_weights([scale.reshape(*[1] * (len(shape) - 2), -1, 1), shift])
    return layer


def _reach(layer: Any) -> Array:
    """Return how far from zero each channel of a normalization reaches, `[channels]`."""
    ones = np.ones(layer.moving_mean.shape, np.float32)
    gamma = np.asarray(layer.gamma) if layer.scale else ones
    beta = np.asarray(layer.beta) if layer.center else 0.0 * ones
    return np.asarray(np.abs(beta) + _DEVIATIONS * np.abs(gamma))


def _equalized(graph: Graph, alone: Mapping[int, Array]) -> Graph:
    """Move factors of channels from normalizations into the kernels that take them.

    The tensor between has one scale, so that a single wide channel costs all others their codes.
    The function remains the same. Nagel et al. 2019, "Data-free quantization through weight
    equalization and bias correction", equation (11), with the channel's range for that of the
    first kernel.
    """
    import keras

    of = keras.layers
    replaced: dict[int, Step] = {}
    called = [id(each.layer) for each in graph.steps]
    for step in graph.steps:
        if id(step.layer) not in alone or not hasattr(step.layer, "kernel"):
            continue
        value = step.output
        while (taker := graph.only_consumer(value)) and type(taker.layer).__name__ in _HOMOGENEOUS:
            value = taker.output
        takers = [replaced.get(taker.output, taker) for taker in graph.consumers(value)]
        if (
            value in graph.outputs
            or not takers
            or not all(type(each.layer) in (of.Conv1D, of.Conv2D, of.Dense) for each in takers)
            or any(getattr(each.layer, "groups", 1) > 1 for each in takers)
            or any(called.count(id(each.layer)) > 1 for each in (step, *graph.consumers(value)))
        ):
            continue
        kernels = [np.abs(np.asarray(each.layer.kernel)) for each in takers]
        taken = np.max([k.max(axis=(*range(k.ndim - 2), k.ndim - 1)) for k in kernels], axis=0)
        reach = alone[id(step.layer)]
        factors = np.sqrt(_raised(reach) / _raised(taken))
        factors /= np.exp(np.log(factors).mean())
        kernel, shift = step.layer.get_weights()
        scaled = kernel / factors[:, None], shift / factors
        replaced[step.output] = replace(step, layer=_with(step, graph, scaled))
        for each in takers:
            kernel, *others = each.layer.get_weights()
            layer = _with(each, graph, (kernel * factors[:, None], *others))
            replaced[each.output] = replace(each, layer=layer)
    return replace(graph, steps=tuple(replaced.get(s.output, s) for s in graph.steps))


def _raised(values: Array) -> Array:
    return np.asarray(np.maximum(values, _LEAST * max(float(values.max()), 1e-30)))


def _with(step: Step, graph: Graph, weights: Sequence[Array]) -> Any:
    """Return a copy of a step's layer with other weights."""
    layer = type(step.layer).from_config(step.layer.get_config())
    layer.build(graph.shapes[step.inputs[0]])
    layer.set_weights(list(weights))
    return layer


def _forward(graph: Graph, *, biases: bool) -> Graph:
    """Move normalizations of vectors into the dense layers after them, if all can take them.

    So move biases of dense layers, as in the TFLite graph: the value between two dense layers is
    then the one without the bias, and so is its range.
    """
    for step in graph.steps:
        if not _moves_on(step, graph, biases=biases):
            continue
        scale, shift = _moved(step)
        takers = graph.consumers(step.output)
        before = step.inputs if scale is not None else (step.output,)
        replaced = {
            taker.output: replace(
                taker, layer=_shifted(taker, graph, scale, shift), inputs=before[:1]
            )
            for taker in takers
        }
        if scale is None:
            replaced[step.output] = replace(step, layer=_without_bias(step, graph))
        steps = [
            replaced.get(each.output, each)
            for each in graph.steps
            if scale is None or each is not step
        ]
        return _forward(replace(graph, steps=tuple(steps)), biases=biases)
    return graph


def _moves_on(step: Step, graph: Graph, *, biases: bool) -> bool:
    """Whether a step is, or ends in, what the dense layers after it can take."""
    import keras

    of = keras.layers
    if isinstance(step.layer, of.BatchNormalization):
        if len(graph.shapes[step.output]) != 2:
            return False
    elif not (
        biases
        and type(step.layer) is of.Dense
        and step.layer.use_bias
        and step.layer.activation is keras.activations.linear
    ):
        return False
    takers = graph.consumers(step.output)
    called = [id(each.layer) for each in graph.steps]
    return (
        bool(takers)
        and step.output not in graph.outputs
        and all(type(taker.layer) is of.Dense for taker in takers)
        and all(called.count(id(each.layer)) == 1 for each in (step, *takers))
    )


def _moved(step: Step) -> tuple[Array | None, Array]:
    """Return the scale (None for 1) and the shift that move into the layers after a step."""
    import keras

    if isinstance(step.layer, keras.layers.BatchNormalization):
        return _affine(step.layer)
    return None, np.asarray(step.layer.bias)


def _shifted(step: Step, graph: Graph, scale: Array | None, shift: Array) -> Any:
    """Return a dense layer that takes its input before it is scaled and shifted."""
    config = {**step.layer.get_config(), "use_bias": True}
    layer = type(step.layer).from_config(config)
    layer.build(graph.shapes[step.inputs[0]])
    kernel, *bias = step.layer.get_weights()
    shifted = shift @ kernel
    scaled = kernel if scale is None else scale[:, None] * kernel
    layer.set_weights([scaled, shifted + bias[0] if bias else shifted])
    return layer


def _without_bias(step: Step, graph: Graph) -> Any:
    layer = type(step.layer).from_config({**step.layer.get_config(), "use_bias": False})
    layer.build(graph.shapes[step.inputs[0]])
    layer.set_weights(step.layer.get_weights()[:1])
    return layer

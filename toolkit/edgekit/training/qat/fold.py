"""Fold batch normalization into the convolution before it, as in the TFLite graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import Array
from edgekit.training.qat.graph import Graph, Step


def fold(graph: Graph) -> Graph:
    """Fold every batch normalization with its running statistics.

    Jacob et al. 2018, equation (14): w * gamma / sqrt(var + eps). Batch statistics are not used:
    for a trained model they are noise, and inference does not have them (Krishnamoorthi 2018,
    section 3.2.2, freezes them during training for that reason). Where no convolution precedes, the
    normalization becomes a 1x1 depthwise convolution.

    Raises:
        ModelError: A normalization can be converted in neither way.
    """
    import keras

    folded: dict[int, Step] = {}
    for step in graph.steps:
        if not isinstance(step.layer, keras.layers.BatchNormalization):
            folded[step.output] = step
            continue
        scale, shift = _affine(step, len(graph.shapes[step.output]))
        producer = folded.get(step.inputs[0])
        if producer and _takes(producer) and graph.only_consumer(producer.output) is step:
            del folded[producer.output]
            layer = _scaled(producer, graph, scale, shift)
            folded[step.output] = replace(producer, layer=layer, output=step.output)
        else:
            folded[step.output] = replace(step, layer=_alone(step, graph, scale, shift))
    return replace(graph, steps=tuple(folded.values()))


def _takes(step: Step) -> bool:
    """Whether a normalization after the step can be folded into its kernel."""
    import keras

    kinds = (
        keras.layers.Conv1D,
        keras.layers.Conv2D,
        keras.layers.Dense,
        keras.layers.DepthwiseConv2D,
    )
    return type(step.layer) in kinds and step.layer.activation is keras.activations.linear


def _affine(step: Step, rank: int) -> tuple[Array, Array]:
    """Return scale and shift of a normalization, `[channels]` each."""
    layer = step.layer
    if layer.axis not in (-1, rank - 1):
        raise ModelError(
            f"Layer {layer.name} cannot be folded.",
            found=f"It normalizes axis {layer.axis}.",
            hint="Normalize the last axis, the channels.",
        )
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
    # A depthwise kernel ends in [inputs, multiplier], all others in [outputs].
    inner = kernel.shape[2:] if "depthwise_initializer" in config else kernel.shape[-1:]
    layer.set_weights([kernel * scale.reshape(inner), shift + scale * bias[0] if bias else shift])
    return layer


def _alone(step: Step, graph: Graph, scale: Array, shift: Array) -> Any:
    """Return a normalization as a depthwise convolution, which TFLite quantizes per channel."""
    import keras

    shape = graph.shapes[step.inputs[0]]
    if len(shape) != 4:
        raise ModelError(
            f"Layer {step.layer.name} cannot be folded.",
            found=f"No convolution or dense layer stands before it, and its input is {shape}.",
            hint="Put it right after a layer with weights, before the activation.",
        )
    layer = keras.layers.DepthwiseConv2D(1, name=step.layer.name)
    layer.build(shape)
    layer.set_weights([scale.reshape(1, 1, -1, 1), shift])
    return layer

"""Networks for spectrograms and for finding anomalies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgekit.training.zoo.parts import convolution, head, normalized


def ds_cnn(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    stem: int = 64,
    kernel: Sequence[int] = (10, 4),
    blocks: Sequence[int] = (64, 64, 64, 64),
    strides: Sequence[int] = (1, 1, 1, 1),
    dropout: float = 0.4,
) -> Any:
    """Build a DS-CNN: a convolution with stride 2, then depthwise separable ones.

    Zhang et al., "Hello Edge: keyword spotting on microcontrollers", arXiv 1711.07128 (their
    small DS-CNN); in the form of Banbury et al., "MLPerf Tiny benchmark", arXiv 2106.07597,
    which has 24,908 weights for 49x10x1 inputs and 12 words. (The 38.6 quoted for it is Zhang's
    kilobytes of memory, weights and activations.) As there, the convolutions keep a bias.

    Args:
        input_shape: `[frames, bands, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        stem: Channels of the first convolution.
        kernel: Its size in frames and bands.
        blocks: Channels of each depthwise separable convolution.
        strides: Stride of each.
        dropout: Share of features dropped before the last layer, in training.
    """
    import keras

    if len(blocks) != len(strides):
        raise ValueError(f"{len(blocks)} blocks and {len(strides)} strides.")
    spectrogram = keras.Input(input_shape, name="spectrogram")
    height, width = kernel
    features = convolution(
        spectrogram, stem, name="stem", kernel=(height, width), strides=2, use_bias=True
    )
    for number, (channels, stride) in enumerate(zip(blocks, strides, strict=True), 1):
        name = f"block{number}_depthwise"
        features = keras.layers.DepthwiseConv2D(3, strides=stride, padding="same", name=name)(
            features
        )
        features = normalized(features, name=name)
        features = convolution(
            features, channels, name=f"block{number}_pointwise", kernel=1, use_bias=True
        )
    features = keras.layers.GlobalAveragePooling2D(name="mean")(features)
    return keras.Model(spectrogram, head(features, outputs, task, dropout=dropout), name="ds_cnn")


def autoencoder(
    input_shape: tuple[int, ...],
    outputs: int,  # noqa: ARG001  every builder has it; here the output is the input again
    task: str,  # noqa: ARG001  likewise: it is reconstruction
    *,
    width: int = 128,
    code: int = 8,
    depth: int = 4,
) -> Any:
    """Build a dense autoencoder: a large reconstruction error indicates an anomaly.

    The anomaly detector of Banbury et al., "MLPerf Tiny benchmark", arXiv 2106.07597: 269,992
    parameters for inputs of 640 values.

    Args:
        input_shape: Shape of a sample; more than one axis is flattened and restored.
        outputs: Ignored.
        task: Ignored.
        width: Units of the hidden layers.
        code: Units of the bottleneck.
        depth: Hidden layers on each side of it.
    """
    import keras

    sample = keras.Input(input_shape, name="sample")
    flat = len(input_shape) == 1
    features = sample if flat else keras.layers.Flatten(name="flatten")(sample)
    sizes = [
        *((f"encoder{number}", width) for number in range(1, depth + 1)),
        ("code", code),
        *((f"decoder{number}", width) for number in range(1, depth + 1)),
    ]
    for name, units in sizes:
        features = normalized(keras.layers.Dense(units, name=name)(features), name=name)
    features = keras.layers.Dense(math.prod(input_shape), name="output")(features)
    if not flat:
        features = keras.layers.Reshape(input_shape, name="reshape")(features)
    return keras.Model(sample, features, name="autoencoder")

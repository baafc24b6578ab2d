"""Networks for images, `[height, width, channels]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.training.zoo.parts import convolution, head, topped


def cnn(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    widths: Sequence[Sequence[int]] = ((16,), (32, 32), (64, 64)),
    dropout: float = 0.2,
) -> Any:
    """Build stages of 3x3 convolutions, batch normalization and ReLU, pooled by 2 between.

    Args:
        input_shape: `[height, width, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        widths: For each stage the output channels of its convolutions. A narrow first stage
            keeps training and inference cheap: most of the time is spent at full resolution.
        dropout: Share of features dropped before the last layer, in training.
    """
    import keras

    image = keras.Input(input_shape, name="image")
    features = image
    for stage, channels in enumerate(widths, 1):
        if stage > 1:
            features = keras.layers.MaxPooling2D(name=f"pool{stage - 1}")(features)
        for position, width in enumerate(channels, 1):
            features = convolution(features, width, name=f"conv{stage}_{position}")
    features = keras.layers.GlobalAveragePooling2D(name="mean")(features)
    return keras.Model(image, head(features, outputs, task, dropout=dropout), name="cnn")


def resnet8(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    width: int = 16,
) -> Any:
    """Build a ResNet with three residual blocks, the image classifier of MLPerf Tiny.

    He et al., "Deep residual learning for image recognition", arXiv 1512.03385; reduced to one
    block per stage by Banbury et al., "MLPerf Tiny benchmark", arXiv 2106.07597. With 32x32x3
    inputs and 10 classes it has the published 78,666 parameters; as there, the convolutions keep a
    bias although batch normalization follows (folding removes it).

    Args:
        input_shape: `[height, width, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        width: Channels of the first stage; the next two have twice and four times as many.
    """
    import keras

    image = keras.Input(input_shape, name="image")
    features = convolution(image, width, name="stem", use_bias=True)
    for stage, channels in enumerate((width, 2 * width, 4 * width), 1):
        strides = 1 if stage == 1 else 2
        name = f"block{stage}"
        branch = convolution(
            features, channels, name=f"{name}_conv1", strides=strides, use_bias=True
        )
        branch = convolution(
            branch, channels, name=f"{name}_conv2", use_bias=True, activation=False
        )
        if strides > 1:
            features = keras.layers.Conv2D(
                channels, 1, strides=strides, padding="same", name=f"{name}_shortcut"
            )(features)
        features = keras.layers.Add(name=f"{name}_add")([features, branch])
        features = keras.layers.ReLU(name=f"{name}_relu")(features)
    features = keras.layers.GlobalAveragePooling2D(name="mean")(features)
    return keras.Model(image, head(features, outputs, task), name="resnet8")


def mobilenet_v1(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    alpha: float = 1.0,
    dropout: float = 0.001,
) -> Any:
    """Build MobileNetV1: thirteen depthwise separable convolutions.

    Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision
    applications", arXiv 1704.04861. With `alpha=0.25`, 96x96x3 and two classes it is the person
    detector of MLPerf Tiny: 219,058 parameters, which are the published 221,794 without the
    2,736 biases that the batch normalization after them cancels.

    Args:
        input_shape: `[height, width, channels]`, each side at least 32.
        outputs: Classes or values.
        task: Decides the last activation.
        alpha: Width multiplier of every layer.
        dropout: Share of features dropped before the last layer, in training.
    """
    import keras

    body = keras.applications.MobileNet(
        input_shape=input_shape, alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    return topped(body, outputs, task, dropout=dropout, name="mobilenet_v1")


def mobilenet_v2(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    alpha: float = 1.0,
    dropout: float = 0.0,
) -> Any:
    """Build MobileNetV2: inverted residuals with linear bottlenecks.

    Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", arXiv 1801.04381.

    Args:
        input_shape: `[height, width, channels]`, each side at least 32.
        outputs: Classes or values.
        task: Decides the last activation.
        alpha: Width multiplier, any positive number: there are no pretrained weights to match.
        dropout: Share of features dropped before the last layer, in training.
    """
    import keras

    body = keras.applications.MobileNetV2(
        input_shape=input_shape, alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    return topped(body, outputs, task, dropout=dropout, name="mobilenet_v2")

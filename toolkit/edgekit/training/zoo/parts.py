"""Building blocks of the architectures."""

from __future__ import annotations

from typing import Any

from edgekit.evaluation.tasks import CLASSIFICATION, MULTI_LABEL

MOMENTUM = 0.9
"""Momentum of the running means of batch normalization.

Keras's 0.99 (0.999 in its applications) needs thousands of steps to forget the initial statistics;
training on a small data set has some hundreds of steps in all.
"""


def convolution(
    features: Any,
    filters: int,
    *,
    name: str,
    kernel: int | tuple[int, int] = 3,
    strides: int | tuple[int, int] = 1,
    use_bias: bool = False,
    activation: bool = True,
) -> Any:
    """Apply a 2-D convolution, batch normalization and ReLU: one operator in the TFLite graph."""
    import keras

    features = keras.layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=use_bias, name=name
    )(features)
    return normalized(features, name=name, activation=activation)


def normalized(features: Any, *, name: str, activation: bool = True) -> Any:
    """Apply batch normalization and ReLU after the layer called `name`."""
    import keras

    features = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(features)
    return keras.layers.ReLU(name=f"{name}_relu")(features) if activation else features


def head(features: Any, outputs: int, task: str, *, dropout: float = 0.0) -> Any:
    """Apply the last layer: a softmax over classes, sigmoids of labels, or linear values.

    A regression ends in a plain dense layer, so that `fit.train` can fold the unit of the
    targets into its weights.
    """
    import keras

    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    activation = {CLASSIFICATION.name: "softmax", MULTI_LABEL.name: "sigmoid"}.get(task)
    return keras.layers.Dense(outputs, activation=activation, name="output")(features)


def topped(body: Any, outputs: int, task: str, *, dropout: float, name: str) -> Any:
    """Put the zoo's last layer on a network of `keras.applications` without its top."""
    import keras

    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return keras.Model(body.input, head(body.output, outputs, task, dropout=dropout), name=name)

"""Networks for windows of sensor readings, `[steps, channels]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.evaluation.tasks import REGRESSION
from edgekit.training.zoo.parts import head, normalized


def cnn1d(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    filters: Sequence[int] = (24, 24, 24),
    kernel: int = 5,
    places: int = 15,
    narrow: int = 12,
    dense: int = 24,
    dropout: float = 0.1,
) -> Any:
    """Build a separable 1-D CNN: of classes the mean over time, of values what came when.

    The blocks of Howard et al., "MobileNets", arXiv 1704.04861, along one axis. A movement may be
    anywhere in the window: the mean over time does not care where, and needs no weights. A value
    belongs to the window's end and the course up to it: a regression keeps places in time, which a
    dense layer weighs, and has no batch normalization, whose statistics are noise on the levels
    that tell the value. Chosen by scores on whole groups of the training splits of
    `benchmarks/sensors.py`. The layers are two-dimensional, as TFLite has no others.

    Args:
        input_shape: `[steps, channels]`.
        outputs: Classes or values.
        task: Decides the last activation, and the layers before it.
        filters: Channels of each convolution.
        kernel: Length of each in steps.
        places: Means over time that a regression keeps, at most.
        narrow: Channels of each.
        dense: Units of the hidden dense layer of a regression.
        dropout: Share of features dropped before it, in training.
    """
    import keras

    if not filters:
        raise ValueError("No filters.")
    values = task == REGRESSION.name
    steps, channels = input_shape
    window = keras.Input(input_shape, name="window")
    features = keras.layers.Reshape((steps, 1, channels), name="rows")(window)

    def convolved(layer: Any, features: Any) -> Any:
        layer.use_bias = values
        features = layer(features)
        if values:
            return keras.layers.ReLU(name=f"{layer.name}_relu")(features)
        return normalized(features, name=layer.name)

    def along(width: int, length: int, name: str) -> Any:
        return keras.layers.Conv2D(width, (length, 1), padding="same", name=name)

    features = convolved(along(filters[0], kernel, "stem"), features)
    for number, width in enumerate(filters[1:], 1):
        name = f"block{number}"
        depthwise = keras.layers.DepthwiseConv2D(
            (kernel, 1), padding="same", name=f"{name}_depthwise"
        )
        features = convolved(depthwise, features)
        features = convolved(along(width, 1, f"{name}_pointwise"), features)
    if values:
        features = convolved(along(narrow, 1, "narrow"), features)
        features = keras.layers.AveragePooling2D(
            (-(-steps // places), 1), padding="same", name="places"
        )(features)
        features = keras.layers.Flatten(name="flatten")(features)
        features = keras.layers.Dropout(dropout, name="dropout")(features)
        features = keras.layers.Dense(dense, activation="relu", name="dense")(features)
    else:
        features = keras.layers.GlobalAveragePooling2D(name="mean")(features)
    return keras.Model(window, head(features, outputs, task), name="cnn1d")


def cnn1d_dense(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    filters: Sequence[int] = (32, 32, 32),
    kernel: int = 5,
    narrow: int = 16,
    dense: int = 32,
    dropout: float = 0.3,
) -> Any:
    """Build a 1-D CNN: convolutions along time, one pooling by 2, a narrow one, a dense layer.

    Args:
        input_shape: `[steps, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        filters: Channels of each convolution at full resolution.
        kernel: Their length in steps.
        narrow: Channels of the convolution after the pooling; it keeps the dense layer small.
        dense: Units of the hidden dense layer.
        dropout: Share of features dropped before it, in training.
    """
    import keras

    window = keras.Input(input_shape, name="window")
    features = window
    for position, width in enumerate(filters, 1):
        features = keras.layers.Conv1D(
            width, kernel, padding="same", activation="relu", name=f"conv{position}"
        )(features)
    features = keras.layers.MaxPooling1D(name="pool")(features)
    features = keras.layers.Conv1D(narrow, 3, padding="same", activation="relu", name="narrow")(
        features
    )
    features = keras.layers.Flatten(name="flatten")(features)
    features = keras.layers.Dropout(dropout, name="dropout")(features)
    features = keras.layers.Dense(dense, activation="relu", name="dense")(features)
    return keras.Model(window, head(features, outputs, task), name="cnn1d")


def tcn(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    filters: int = 16,
    kernel: int = 3,
    dilations: Sequence[int] = (1, 2, 4, 8, 16),
    dropout: float = 0.1,
) -> Any:
    """Build a temporal convolutional network: residual blocks of dilated causal convolutions.

    Bai et al., "An empirical evaluation of generic convolutional and recurrent networks for
    sequence modeling", arXiv 1803.01271, figure 1, with batch instead of weight normalization,
    which lowering folds. The last step is read; it sees the `1 + 2 (kernel - 1) sum(dilations)`
    steps up to it.

    Args:
        input_shape: `[steps, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        filters: Channels of every convolution.
        kernel: Their length in steps.
        dilations: Distance of the steps that a block's two convolutions see, for each block.
        dropout: Share of channels dropped after each convolution, in training.
    """
    import keras

    window = features = keras.Input(input_shape, name="window")
    for number, dilation in enumerate(dilations, 1):
        kept = features
        for half in (1, 2):
            name = f"block{number}_conv{half}"
            features = keras.layers.Conv1D(
                filters,
                kernel,
                padding="causal",
                dilation_rate=dilation,
                use_bias=False,
                name=name,
            )(features)
            features = normalized(features, name=name)
            features = keras.layers.SpatialDropout1D(dropout, name=f"{name}_dropout")(features)
        if kept.shape[-1] != filters:
            kept = keras.layers.Conv1D(filters, 1, name=f"block{number}_shortcut")(kept)
        features = keras.layers.Add(name=f"block{number}_add")([features, kept])
        features = keras.layers.ReLU(name=f"block{number}_relu")(features)
    features = keras.layers.Cropping1D((input_shape[0] - 1, 0), name="crop")(features)
    features = keras.layers.Flatten(name="last")(features)
    return keras.Model(window, head(features, outputs, task), name="tcn")


def lstm(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    units: Sequence[int] = (32,),
    dropout: float = 0.2,
) -> Any:
    """Build an LSTM over the steps; the last layer reads its last output.

    Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997, with the
    forget gate of Gers et al., Neural Computation 12(10), 2000.

    Args:
        input_shape: `[steps, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        units: Units of each layer, one on top of the other.
        dropout: Share of features dropped before the last layer, in training.
    """
    return _recurrent("LSTM", input_shape, outputs, task, units=units, dropout=dropout)


def gru(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    units: Sequence[int] = (32,),
    dropout: float = 0.2,
) -> Any:
    """Build a GRU over the steps; the last layer reads its last output.

    Cho et al., "Learning phrase representations using RNN encoder-decoder", arXiv 1406.1078.

    Args:
        input_shape: `[steps, channels]`.
        outputs: Classes or values.
        task: Decides the last activation.
        units: Units of each layer, one on top of the other.
        dropout: Share of features dropped before the last layer, in training.
    """
    return _recurrent("GRU", input_shape, outputs, task, units=units, dropout=dropout)


def _recurrent(
    kind: str,
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    units: Sequence[int],
    dropout: float,
) -> Any:
    import keras

    if not units:
        raise ValueError("No units.")
    window = features = keras.Input(input_shape, name="window")
    for number, width in enumerate(units, 1):
        features = getattr(keras.layers, kind)(
            width, return_sequences=number < len(units), name=f"{kind.lower()}{number}"
        )(features)
    last = head(features, outputs, task, dropout=dropout)
    return keras.Model(window, last, name=kind.lower())

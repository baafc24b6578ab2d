"""Keras models with every operator that edgekit writes in integers, made where TensorFlow is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.worker import Session

NAMES = (
    "cnn",
    "residual",
    "squeeze_excite",
    "dense_block",
    "two_concatenations",
    "attention",
    "transposed",
    "shared",
    "padded",
    "causal",
    "mean",
    "softmax",
    "tanh",
    "sigmoid",
    "relus",
    "nearest",
    "bilinear",
    "hard_swish",
    "hard_sigmoid",
    "leaky_relu",
    "prelu",
    "elu",
    "gelu",
    "slice",
    "split",
    "gather",
    "embedding",
    "matmul",
    "matmul_constant",
    "stack",
    "unstack",
    "permute",
    "maximum",
    "clip",
    "abs",
    "exp",
    "sqrt",
    "rsqrt",
    "square",
    "divide",
    "log",
    "sum",
    "reduce_max",
    "negative",
    "sine",
    "tile",
    "where",
    "mirror",
    "rescaling",
    "separable",
    "grouped",
    "dilated",
    "dense",
    "dead_channel",
    "lstm",
    "gru",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
)


def lower_all(session: Session, folder: Path) -> list[str]:
    """Write the float graph of every model to `<folder>/<name>.tflite`; return the names."""
    import keras

    for name, make in models().items():
        keras.utils.set_random_seed(7)
        model = make()
        _vary(model)
        session.load(model)
        session.lower(folder / f"{name}.tflite")
    return list(models())


def models() -> dict[str, Callable[[], Any]]:
    """Return functions that make the models, by name."""
    from keras import applications, layers, ops

    def conv(x: Any, filters: int = 8, **options: Any) -> Any:
        return layers.Conv2D(filters, 3, padding="same", **options)(x)

    def positive(x: Any) -> Any:
        return ops.abs(conv(x)) + 0.5

    def cnn(x: Any) -> Any:
        x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = conv(layers.ReLU()(layers.BatchNormalization()(x)), 16)
        x = layers.Flatten()(layers.AveragePooling2D(2)(layers.MaxPooling2D()(x)))
        return layers.Dense(10, activation="softmax")(layers.Dense(12, activation="relu")(x))

    def residual(x: Any) -> Any:
        x = conv(x)
        x = layers.ReLU()(layers.Add()([x, conv(x, activation="relu")]))
        y = conv(x)
        z = layers.Subtract()([layers.Add()([x, y]), y])
        return layers.GlobalAveragePooling2D()(layers.Multiply()([z, x]))

    def squeeze_excite(x: Any) -> Any:
        x = conv(x, activation="swish")
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = layers.Conv2D(4, 1, activation="swish")(y)
        return layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(y)])

    def dense_block(x: Any) -> Any:
        x = conv(x)
        for _ in range(3):
            y = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.Concatenate()([x, conv(y, 4)])
        return layers.GlobalMaxPooling2D()(x)

    def two_concatenations(x: Any) -> Any:
        a, b, c = conv(x), conv(x) * 3, conv(x) * 9
        return [
            layers.Concatenate()([a, b]),
            layers.Concatenate()([b, c, ops.sigmoid(a)]),
            layers.ReLU()(b),
        ]

    def attention(x: Any) -> Any:
        y = layers.MultiHeadAttention(2, 4)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        y = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
        return layers.LayerNormalization()(layers.Add()([y, x]))

    def transposed(x: Any) -> Any:
        x = layers.Conv2DTranspose(6, 2, strides=2, use_bias=False)(conv(x))
        return layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)

    def shared(x: Any) -> Any:
        layer = layers.Conv2D(4, 3, padding="same")
        return layers.Concatenate()([layer(x), layer(x * 3.0)])

    def padded(x: Any) -> Any:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)))(conv(x, activation="relu"))
        return layers.MaxPooling2D(3, 2)(layers.Conv2D(4, 3)(x))

    def causal(x: Any) -> Any:
        x = layers.Conv1D(8, 3, activation="relu")(x)
        x = layers.Conv1D(8, 3, dilation_rate=2, padding="causal")(x)
        return layers.GlobalMaxPooling1D()(x)

    def of(function: Callable[[Any], Any], *shape: int, dtype: str = "float32") -> Any:
        return lambda: _model(function, shape or (8, 8, 4), dtype)

    def application(kind: Any, **options: Any) -> Any:
        return lambda: kind(weights=None, input_shape=(64, 64, 3), classes=10, **options)

    table = np.random.default_rng(0).normal(size=(1, 8, 3)).astype(np.float32)
    return {
        "cnn": of(cnn, 16, 16, 3),
        "residual": of(residual),
        "squeeze_excite": of(squeeze_excite),
        "dense_block": of(dense_block),
        "two_concatenations": of(two_concatenations),
        "attention": of(attention, 6, 8),
        "transposed": of(transposed),
        "shared": of(shared),
        "padded": of(padded),
        "causal": of(causal, 20, 4),
        "mean": of(lambda x: [ops.mean(conv(x), (1, 2)), ops.mean(conv(x), -1, keepdims=True)]),
        "softmax": of(lambda x: layers.Softmax()(conv(x))),
        "tanh": of(lambda x: ops.tanh(conv(x))),
        "sigmoid": of(lambda x: ops.sigmoid(conv(x))),
        "relus": of(lambda x: [ops.relu(x), ops.relu6(x), ops.relu(ops.concatenate([x, x], 1))]),
        "nearest": of(lambda x: layers.UpSampling2D()(conv(x))),
        "bilinear": of(lambda x: layers.UpSampling2D(interpolation="bilinear")(conv(x))),
        "hard_swish": of(lambda x: ops.hard_silu(conv(x))),
        "hard_sigmoid": of(lambda x: ops.hard_sigmoid(conv(x))),
        "leaky_relu": of(lambda x: layers.LeakyReLU(negative_slope=0.2)(conv(x))),
        "prelu": of(lambda x: layers.PReLU(shared_axes=[1, 2])(conv(x))),
        "elu": of(lambda x: layers.ELU()(conv(x))),
        "gelu": of(lambda x: ops.gelu(conv(x), approximate=False)),
        "slice": of(lambda x: [conv(x)[:, 1:, ::2], conv(x)[:, 0]]),
        "split": of(lambda x: [ops.relu(y) for y in ops.split(conv(x), 2, axis=-1)]),
        "gather": of(lambda x: ops.take(conv(x), [0, 3, 2], axis=-1)),
        "embedding": of(
            lambda x: layers.Dense(4)(ops.mean(layers.Embedding(50, 8)(x), 1)), 6, dtype="int32"
        ),
        "matmul": of(
            lambda x: ops.matmul(layers.Dense(5)(x), ops.transpose(layers.Dense(5)(x), (0, 2, 1))),
            *(6, 8),
        ),
        "matmul_constant": of(lambda x: ops.matmul(x, table), 6, 8),
        "stack": of(lambda x: ops.stack([layers.Dense(4)(x), layers.Dense(4)(x)], axis=1), 8),
        "unstack": of(lambda x: layers.Add()(ops.unstack(layers.Dense(4)(x), axis=1)), 3, 8),
        "permute": of(lambda x: layers.Permute((3, 1, 2))(conv(x))),
        "maximum": of(lambda x: [ops.maximum(conv(x), conv(x)), ops.minimum(conv(x), x[..., :1])]),
        "clip": of(lambda x: ops.clip(conv(x), -0.3, 0.7)),
        "abs": of(lambda x: ops.abs(conv(x))),
        "exp": of(lambda x: ops.exp(conv(x))),
        "sqrt": of(lambda x: ops.sqrt(positive(x))),
        "rsqrt": of(lambda x: ops.rsqrt(positive(x))),
        "square": of(lambda x: ops.square(conv(x))),
        "divide": of(lambda x: conv(x) / positive(x)),
        "log": of(lambda x: ops.log(positive(x))),
        "sum": of(lambda x: ops.sum(conv(x), axis=(1, 2))),
        "reduce_max": of(lambda x: ops.max(conv(x), axis=(1, 2))),
        "negative": of(lambda x: -conv(x)),
        "sine": of(lambda x: layers.Flatten()(ops.sin(layers.Reshape((16, 32))(ops.cos(conv(x)))))),
        "tile": of(lambda x: ops.tile(layers.Dense(4)(x), (1, 3)), 8),
        "where": of(lambda x: ops.where(x > 0, conv(x, 4), conv(x, 4))),
        "mirror": of(lambda x: ops.pad(conv(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")),
        "rescaling": of(lambda x: conv(layers.Rescaling(1 / 127.5, -1)(x))),
        "separable": of(lambda x: layers.SeparableConv2D(8, 3, depth_multiplier=2)(ops.relu(x))),
        "grouped": of(lambda x: layers.Conv2D(8, 3, groups=2)(conv(x))),
        "dilated": of(lambda x: layers.DepthwiseConv2D(3, dilation_rate=2)(conv(x))),
        "dense": of(lambda x: layers.Dense(5, use_bias=False)(layers.Dense(6)(x)), 4, 8),
        "dead_channel": of(_dead),
        "lstm": of(lambda x: layers.Dense(3)(layers.LSTM(6)(x)), 9, 4),
        "gru": of(lambda x: layers.Dense(3)(layers.GRU(6, unroll=True)(x)), 5, 4),
        "mobilenet": application(applications.MobileNet, alpha=0.25),
        "mobilenet_v2": application(applications.MobileNetV2, alpha=0.35),
        "mobilenet_v3": application(applications.MobileNetV3Small, alpha=0.75),
    }


def _model(function: Callable[[Any], Any], shape: tuple[int, ...], dtype: str) -> Any:
    import keras

    x = keras.Input(shape, name="x", dtype=dtype)
    return keras.Model(x, function(x))


def _dead(x: Any) -> Any:
    """Return a convolution with a channel of zeros, whose bias is large for its input."""
    from keras import layers

    layer = layers.Conv2D(4, 3)
    y = layer(x)
    kernel, bias = layer.get_weights()
    kernel[..., 1] = 0.0
    bias[1] = 5.0
    layer.set_weights([kernel, bias])
    layer.fixed = True
    return layers.ReLU()(y)


def _vary(model: Any) -> None:
    """Give normalizations and biases values that training would give them."""
    from keras import layers

    rng = np.random.default_rng(3)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.3, size))
            layer.moving_variance.assign(rng.uniform(0.5, 2, size))
        elif isinstance(layer, layers.PReLU):
            layer.alpha.assign(rng.uniform(0.05, 0.4, layer.alpha.shape))
        elif getattr(layer, "bias", None) is not None and not hasattr(layer, "fixed"):
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))

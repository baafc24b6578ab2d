"""Train small models of every kind of layer for quantization, and print the results as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from qat_kinds import EXCLUDED, GRAPHS, LAYERS

from edgekit.data import open_data
from edgekit.errors import EdgekitError
from edgekit.numerics.affine import affine_parameters
from edgekit.quantization import learned, make, read_float_graph
from edgekit.records import Plan, Ranges
from edgekit.tflite.graph import FLOAT32, is_constant, quantized, read
from edgekit.tflite.graph import INT8 as INT8_CODES
from edgekit.tflite.nodes import nodes
from edgekit.training import qat
from edgekit.worker.inprocess import InProcess

INT8 = Plan(variant="int8", mode="int8")
L, ops = keras.layers, keras.ops
RANDOM = np.random.default_rng(0)


def arrays(samples: Any) -> tuple[Any, Any]:
    batch = samples.read(np.arange(min(samples.n, 320)))
    (values,) = batch.inputs.values()
    return np.asarray(values, np.float32), batch.targets


DIGITS = open_data("digits")
(X, Y), (X_TEST, Y_TEST) = arrays(DIGITS.train), arrays(DIGITS.test)


def ended(image: Any, x: Any) -> Any:
    if len(x.shape) > 2:
        x = L.Flatten(name="flat")(x)
    return keras.Model(image, L.Dense(10, activation="softmax", name="classes")(x))


def picture(*middle: Any) -> Callable[[], Any]:
    """A model of pictures with layers in its middle."""

    def make() -> Any:
        image = keras.Input((8, 8, 1), name="image")
        x = L.Conv2D(8, 3, padding="same", name="stem")(image)
        for layer in middle:
            x = layer(x)
        return ended(image, x)

    return make


def series(*middle: Any) -> Callable[[], Any]:
    def make() -> Any:
        rows = keras.Input((8, 8), name="rows")
        x = L.Conv1D(12, 3, padding="same", activation="relu", name="stem")(rows)
        for layer in middle:
            x = layer(x)
        return ended(rows, x)

    return make


def pair(join: Callable[[Any], Any]) -> Callable[[], Any]:
    def make() -> Any:
        image = keras.Input((8, 8, 1), name="image")
        x = L.Conv2D(6, 3, activation="relu", name="stem")(image)
        one, two = L.Conv2D(6, 3, name="one")(x), L.Conv2D(6, 3, activation="relu", name="two")(x)
        return ended(image, join([one, two]))

    return make


def shared() -> Any:
    rows = keras.Input((8, 8), name="rows")
    top, bottom = L.Cropping1D((0, 4), name="top")(rows), L.Cropping1D((4, 0), name="bottom")(rows)
    inside = keras.Input((4, 8))
    y = L.BatchNormalization()(L.Conv1D(16, 3, name="inner")(inside))
    encoder = keras.Model(inside, L.Flatten()(L.ReLU(name="clip")(y)), name="encoder")
    x = L.Subtract(name="apart")([encoder(top), encoder(L.UpSampling1D(1)(bottom))])
    return ended(rows, L.Concatenate()([x, encoder(bottom)]))


def two_ended() -> Any:
    image, extra = keras.Input((8, 8, 1), name="image"), keras.Input((8, 8), name="extra")
    x = L.Conv2D(8, 3, activation="relu", name="stem")(image)
    both = L.Concatenate()([L.Flatten()(x), L.Flatten()(extra)])
    x = L.Dense(32, activation="relu", name="hidden")(both)
    out = L.Dense(10, activation="softmax", name="classes")(x)
    return keras.Model([image, extra], [out, L.Dense(1, name="size")(x)])


def words() -> Any:
    ids = keras.Input((64,), dtype="int32", name="ids")
    x = L.Embedding(17, 8, name="table")(ids)
    return ended(ids, L.Dense(16, activation="relu", name="hidden")(x))


def attention() -> Any:
    rows = keras.Input((8, 8), name="rows")
    x = L.Dense(16, name="stem")(rows)
    n = L.LayerNormalization(name="norm")(x)
    x = L.Add(name="sum")([x, L.MultiHeadAttention(2, 8, name="attention")(n, n)])
    x = L.Dense(16, activation="gelu", name="mlp")(x)
    return ended(rows, L.GlobalAveragePooling1D(name="mean")(x))


def attending(**options: Any) -> Callable[[], Any]:
    """A model that attends to the other half of its input."""

    def make() -> Any:
        rows = keras.Input((8, 8), name="rows")
        x = L.Dense(16, use_bias=False, name="stem")(rows)
        top = L.Cropping1D((0, 3), name="top")(x)
        other = L.Dense(12, activation="relu", name="other")(x)
        y = L.MultiHeadAttention(2, 8, name="attention", **options)(top, other)
        return ended(rows, L.LayerNormalization(scale=False, name="norm")(y))

    return make


def biased_apart() -> Any:
    """A dense layer whose bias the converter moves into one of the layers after it."""
    rows = keras.Input((8, 8), name="rows")
    x = L.Dense(24, name="stem")(L.Flatten()(rows))
    y = L.Dense(16, activation="relu", name="one")(x)
    return ended(rows, L.Concatenate()([y, L.ReLU(name="two")(x)]))


def outlying() -> Any:
    """A normalization after ReLU, of which one channel is 40 times as wide as the others."""
    image = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    x = L.MaxPooling2D(2)(L.BatchNormalization(name="it")(x))
    model = ended(image, L.Conv2D(16, 3, padding="same", activation="relu", name="after")(x))
    for name, axis, factor in (("it", 0, 40.0), ("after", 2, 1 / 40.0)):
        first, *others = model.get_layer(name).get_weights()
        np.moveaxis(first, axis, 0)[3] *= factor
        model.get_layer(name).set_weights([first, *others])
    return model


def causal() -> Any:
    rows = keras.Input((8, 8), name="rows")
    x = L.Dense(16, name="stem")(rows)
    y = L.MultiHeadAttention(2, 8, use_bias=False, name="attention")(x, x, use_causal_mask=True)
    return ended(rows, L.Add(name="sum")([x, y]))


def masked() -> Any:
    ids = keras.Input((64,), dtype="int32", name="ids")
    x = L.Embedding(17, 8, mask_zero=True, name="table")(ids)
    x = L.MultiHeadAttention(1, 8, name="attention")(x, x)
    return ended(ids, L.Dense(8, activation="relu", name="hidden")(x))


def operations() -> Any:
    rows = keras.Input((8, 8), name="rows")
    x = L.Flatten()(rows)
    a, b = L.Dense(16, name="a")(x), L.Dense(16, name="b")(x)
    y = ops.silu(a) * b + a
    return ended(rows, ops.abs(y - b))


def split() -> Any:
    """Layers with several outputs."""
    rows = keras.Input((8, 8), name="rows")
    x, state, _ = L.LSTM(12, return_state=True, return_sequences=True, name="memory")(rows)
    x = L.Flatten()(L.Conv1D(8, 3, activation="relu", name="conv")(x))
    return ended(rows, L.Concatenate()([x, L.Dense(8, activation="relu", name="side")(state)]))


KINDS: dict[str, Callable[[], Any]] = {
    "preparation": lambda: ended(
        image := keras.Input((8, 8, 1), name="image"),
        L.Conv2D(8, 3, padding="same", activation="relu", name="stem")(
            L.Rescaling(2.0, -1.0, name="rescaling")(
                L.RandomTranslation(0.1, 0.1, name="shift")(image)
            )
        ),
    ),
    "preparation fused": lambda: ended(
        image := keras.Input((8, 8, 1), name="image"),
        L.Conv2D(8, 3, activation="relu", name="stem")(
            L.GaussianNoise(0.01)(L.Rescaling(2.0, -1.0, name="rescaling")(image))
        ),
    ),
    "normalization": lambda: ended(
        image := keras.Input((8, 8, 1), name="image"),
        L.Conv2D(8, 3, padding="same", activation="relu", name="stem")(
            L.Resizing(6, 6, name="resizing")(
                L.Normalization(mean=0.3, variance=0.14, name="normalization")(image)
            )
        ),
    ),
    "separable 2d": picture(L.SeparableConv2D(12, 3, activation="relu", name="it")),
    "separable 1d": series(L.SeparableConv1D(12, 3, depth_multiplier=2, name="it")),
    "transposed 2d": picture(
        L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu", name="it"),
        L.AveragePooling2D(2),
    ),
    "transposed 1d": series(L.Conv1DTranspose(6, 3, strides=2, name="it")),
    "transposed normalized": picture(L.Conv2DTranspose(6, 2, name="it"), L.BatchNormalization()),
    "grouped": picture(L.Conv2D(8, 3, groups=2, activation="relu", name="it")),
    "depthwise": picture(L.DepthwiseConv2D(3, depth_multiplier=3, name="it"), L.ReLU()),
    "depthwise 1d": series(L.DepthwiseConv1D(3, depth_multiplier=2, name="it")),
    "prelu": picture(L.PReLU(shared_axes=[1, 2], name="it")),
    "leaky relu": picture(L.LeakyReLU(name="it")),
    **{
        name: picture(L.Activation(name, name="it"), L.MaxPooling2D(2))
        for name in ("silu", "hard_silu", "gelu", "sigmoid", "tanh", "leaky_relu")
    },
    "fused gelu": series(L.Dense(12, activation="gelu", name="it")),
    "elu": picture(L.Conv2D(8, 3, activation="elu", name="it")),
    "upsampling": picture(L.MaxPooling2D(2), L.UpSampling2D(2, name="it"), L.Cropping2D(1)),
    "upsampling bilinear": picture(
        L.MaxPooling2D(2), L.UpSampling2D(2, interpolation="bilinear", name="it")
    ),
    "global max": picture(L.ReLU(), L.GlobalMaxPooling2D(name="it"), L.Dense(16, name="after")),
    "add": pair(lambda values: L.Add(name="it")([*values, values[0]])),
    "subtract": pair(L.Subtract(name="it")),
    "multiply": pair(L.Multiply(name="it")),
    "maximum": pair(L.Maximum(name="it")),
    "concatenate": pair(L.Concatenate(name="it")),
    "operations": operations,
    "layer normalization": series(L.LayerNormalization(name="it"), L.Dense(12, name="after")),
    "group normalization": picture(L.GroupNormalization(2, name="it"), L.ReLU()),
    "normalized after": picture(L.ReLU(), L.BatchNormalization(name="it"), L.Conv2D(8, 3)),
    "normalized unevenly": outlying,
    "normalized series": series(L.BatchNormalization(name="it"), L.Conv1D(8, 3)),
    "normalized vector": series(
        L.Flatten(), L.Dense(24, activation="relu"), L.BatchNormalization(name="it"), L.Dense(16)
    ),
    "attention": attention,
    "embedding": words,
    "shared": shared,
    "two ends": two_ended,
    "biased apart": biased_apart,
    "attention causal": causal,
    "attention crossed": attending(),
    "attention dropped": attending(dropout=0.2),
    "attention masked": masked,
    "group normalization series": series(L.GroupNormalization(-1, center=False, name="it")),
    "lstm": series(L.LSTM(12, name="it")),
    "lstm sequences": series(
        L.LSTM(12, return_sequences=True, dropout=0.1, recurrent_dropout=0.1, name="it"),
        L.LSTM(8, use_bias=False, return_sequences=True, name="more"),
        L.Dense(6, activation="relu", name="after"),
    ),
    "lstm joined": lambda: ended(
        rows := keras.Input((8, 8), name="rows"),
        L.Concatenate()([L.LSTM(12, name="it")(rows), L.Flatten()(L.Dense(4)(rows))]),
    ),
    "gru": series(L.GRU(12, name="it")),
    "gru sequences": series(
        L.GRU(10, dropout=0.1, go_backwards=True, return_sequences=True, name="it"),
        L.GRU(8, reset_after=False, use_bias=False, return_sequences=True, name="more"),
        L.Dense(6, activation="relu", name="after"),
    ),
    "bidirectional": series(
        L.Bidirectional(L.LSTM(8, return_sequences=True), name="it"),
        L.Bidirectional(L.GRU(6), merge_mode="sum", name="more"),
    ),
    "states": split,
}


def shaped(values: Any, model: Any) -> Any:
    if model.inputs[0].dtype == "int32":
        return np.rint(values.reshape(len(values), -1) * 16).astype(np.int32)
    found = [values.reshape(len(values), *(i.shape[1:])) for i in model.inputs]
    return found[0] if len(found) == 1 else found


def initialized(model: Any) -> Any:
    """The model with random weights, but for the outputs' layers, which are solved for.

    One forward pass instead of training. Biases and statistics of normalizations are random, too:
    those of a new model (0 and 1) would hide what becomes of them.
    """
    for layer in model._flatten_layers(include_self=False):
        for weight in getattr(layer, "_trainable_variables", []):
            if len(weight.shape) == 1 or weight.name == "bias":
                noise = RANDOM.normal(0.0, 0.1, weight.shape)
                weight.assign(np.asarray(weight) + noise.astype(np.float32))
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, L.BatchNormalization):
            layer.moving_mean.assign(RANDOM.normal(0.1, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(RANDOM.uniform(0.3, 2.0, layer.moving_variance.shape))
    for name, target in {"classes": 8.0 * np.eye(10)[Y] - 4.0, "size": Y[:, None] / 10.0}.items():
        if name not in model.output_names:
            continue
        layer = model.get_layer(name)
        values = keras.Model(model.inputs, layer.input)(shaped(X, model), training=False)
        rows = np.concatenate([values, np.ones((len(Y), 1))], axis=1, dtype=np.float64)
        ridge = 0.01 * np.trace(rows.T @ rows) / rows.shape[1] * np.eye(rows.shape[1])
        solved = np.linalg.solve(rows.T @ rows + ridge, rows.T @ target)
        layer.set_weights([solved[:-1].astype(np.float32), solved[-1].astype(np.float32)])
    return model


def fitted(model: Any) -> Any:
    """The model, trained in one step."""
    losses: Any = ["sparse_categorical_crossentropy", "mse"][: len(model.outputs)]
    targets: Any = [Y, Y[:, None] / 10.0][: len(model.outputs)]
    # Tracing costs more than this step does.
    model.compile(keras.optimizers.SGD(1e-4), losses, run_eagerly=True, jit_compile=False)
    model.fit(shaped(X, model), targets, batch_size=len(X), verbose=0)
    return model


def run(data: bytes, model: Any) -> list[Any]:
    """The outputs of a file, in the order of the model's."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner()
    values = shaped(X_TEST, model)
    values = values if isinstance(values, list) else [values]
    names = [i.name for i in model.inputs]
    rows = []
    for sample in zip(*values, strict=True):
        found = runner(**{n: v[None] for n, v in zip(names, sample, strict=True)})
        rows.append([found[name][0] for name in model.output_names])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def other_scales(data: bytes, ranges: Ranges) -> list[str]:
    """Activations whose parameters are none of the trained ones, nor prescribed by a kernel."""
    ends = zip(ranges.low.values(), ranges.high.values(), strict=True)
    known = [(1 / 256, -128), (1 / 128, 0), *(affine_parameters(*pair) for pair in ends)]
    model = read(data)
    found = []
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        if tensor.type != INT8_CODES or is_constant(model, tensor) or not quantized(tensor):
            continue
        scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
        if not any(np.isclose(scale, s, rtol=1e-5) and zero_point == z for s, z in known):
            found.append(tensor.name)
    return found


def without_range(graph: bytes, ranges: Ranges) -> list[str]:
    """Inputs that could not be integers in the file."""
    parsed = read(graph).subgraphs[0]
    inputs = [parsed.tensors[index] for index in parsed.inputs]
    return [i.name for i in inputs if i.type == FLOAT32 and i.name not in ranges.low]


def tried(folder: Path, model: Any, exclude: tuple[str, ...] = (), bits: int = 8) -> dict[str, Any]:
    started = time.monotonic()
    names = model.output_names
    initialized(model)
    (before, *_) = keras.tree.flatten(model(shaped(X_TEST, model), training=False))
    before = np.asarray(before).argmax(axis=1)
    prepared = qat.prepare(model, data=shaped(X[:64], model), exclude=exclude, weight_bits=bits)
    assert prepared.output_names == names, (prepared.output_names, names)
    fitted(prepared)
    left = qat.left_in_float(prepared)
    plain, trained = qat.finish(prepared)
    tensorflow = InProcess()
    tensorflow.load(plain)
    tensorflow.lower(folder / "float32.tflite")
    graph = (folder / "float32.tflite").read_bytes()
    placed = qat.place(graph, trained, left)
    data = make(
        replace(INT8, rules=placed.rules),
        read_float_graph(graph),
        observe=lambda _: learned(placed.ranges),
    ).data
    values = prepared(shaped(X_TEST, model), training=False)
    expected = [np.asarray(value) for value in keras.tree.flatten(values)]
    found = run(data, plain)
    computing = [
        (node.name, node.outputs[0].dtype)
        for node in nodes(read(data))
        # A sign has no kernel of integers.
        if node.graph == 0 and node.name not in ("QUANTIZE", "DEQUANTIZE", "NEG")
    ]
    # Between two classes that are as likely, the rounding of the output decides.
    best = np.sort(expected[0], axis=1)
    clear = best[:, -1] - best[:, -2] > 0.02
    right = [(values.argmax(axis=1) == Y_TEST).astype(float) for values in (expected[0], found[0])]
    return {
        "left": [name for name, kind in left.items() if kind != qat.FUSED],
        "right": [each.tolist() for each in right],
        "agreement": float(
            np.mean((expected[0].argmax(1) == found[0].argmax(1))[clear]) if clear.any() else 1.0
        ),
        "kept": float(np.mean((before == found[0].argmax(1))[clear]) if clear.any() else 1.0),
        "difference": max(
            float(np.mean(np.abs(a - b))) for a, b in zip(expected, found, strict=True)
        ),
        "other scales": other_scales(data, placed.ranges),
        "without range": without_range(graph, placed.ranges),
        "float": [name for name, dtype in computing if dtype == "float32"],
        "integer": [name for name, dtype in computing if dtype == "int8"],
        "seconds": time.monotonic() - started,
    }


def attempt(*arguments: Any) -> dict[str, Any]:
    try:
        return tried(*arguments)
    except EdgekitError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    folder, *chosen = sys.argv[1:]
    assert set(KINDS) == {*LAYERS, *GRAPHS}
    keras.utils.set_random_seed(0)
    results = {}
    for name in chosen:
        kind = name.removesuffix(" excluded")
        exclude = () if kind == name else (EXCLUDED[kind],)
        results[name] = attempt(Path(folder), KINDS[kind](), exclude)
    print(json.dumps(results))

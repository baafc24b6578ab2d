"""Train for quantization and print the results as JSON: run by test_qat.py."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgekit.data import bind, open_data
from edgekit.errors import EdgekitError
from edgekit.numerics.affine import affine_parameters
from edgekit.numerics.sparsity import Constant
from edgekit.quantization import (
    QuantizedModel,
    learned,
    make,
    observe,
    read_float_graph,
)
from edgekit.records import Plan, Ranges
from edgekit.tflite.graph import INT8 as INT8_CODES
from edgekit.tflite.graph import constant, is_constant, operator_name, quantized, read, write
from edgekit.tflite.int4_weights import narrow_weights
from edgekit.tflite.nodes import nodes
from edgekit.tflite.signature import signature
from edgekit.training import clustering, pruning, qat
from edgekit.training.kernels import kernels_of
from edgekit.training.qat.layers import QuantizedWeights
from edgekit.worker.inprocess import InProcess

FOLDER = Path(sys.argv[1])
TRAINED = keras.models.load_model(sys.argv[2], compile=False)
DIGITS = open_data("digits")
INT8 = Plan(variant="int8", mode="int8")
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
layers = keras.layers


def arrays(samples: Any) -> tuple[Any, Any]:
    batch = samples.read(np.arange(samples.n))
    (values,) = batch.inputs.values()
    return np.asarray(values, np.float32), batch.targets


X, Y = arrays(DIGITS.train)
X_TEST, Y_TEST = arrays(DIGITS.test)


def loss(model: Any) -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=model.name == "mixed")


def train(model: Any, *, bits: int = 8, data: Any = None, epochs: int = 2) -> Any:
    prepared = qat.prepare(model, weight_bits=bits, data=data)
    prepared.compile(
        keras.optimizers.Adam(5e-4),
        {prepared.output_names[0]: loss(prepared)},
    )
    # Made by the first step, its variables have TensorFlow trace that step twice.
    prepared.optimizer.build(prepared.trainable_weights)
    prepared.fit(shaped(X, model), Y, epochs=epochs, verbose=0)
    return prepared


def shaped(values: Any, model: Any) -> Any:
    return values.reshape(len(values), *model.input_shape[1:])


def lowered(model: Any) -> bytes:
    tensorflow = InProcess()
    tensorflow.load(model)
    tensorflow.lower(FOLDER / "float32.tflite")
    return (FOLDER / "float32.tflite").read_bytes()


def made(plan: Plan, graph: bytes, ranges: Ranges) -> QuantizedModel:
    return make(plan, read_float_graph(graph), observe=lambda _: learned(ranges))


def int8_of(prepared: Any) -> tuple[Any, bytes, Ranges]:
    plain, trained = qat.finish(prepared)
    graph = lowered(plain)
    placed = qat.place(graph, trained, qat.left_in_float(prepared))
    assert not placed.rules
    return plain, made(INT8, graph, placed.ranges).data, placed.ranges


def classes(data: bytes, model: Any) -> Any:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    found = []
    for sample in shaped(X_TEST, model):
        interpreter.set_tensor(source, sample[None])
        interpreter.invoke()
        found.append(int(interpreter.get_tensor(sink)[0].argmax()))
    return np.array(found)


def predicted(model: Any) -> Any:
    return model.predict(shaped(X_TEST, model), verbose=0).argmax(axis=1)


def other_scales(data: bytes, ranges: Ranges) -> list[str]:
    """Activations whose parameters are none of the trained ones, nor prescribed by a kernel."""
    ends = zip(ranges.low.values(), ranges.high.values(), strict=True)
    known = [(1 / 256, -128), (1 / 128, 0), *(affine_parameters(*pair) for pair in ends)]
    model = read(data)
    found = []
    for tensor in model.subgraphs[0].tensors:
        if tensor.type != INT8_CODES or is_constant(model, tensor) or not quantized(tensor):
            continue
        scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
        if not any(np.isclose(scale, s, rtol=1e-5) and zero_point == z for s, z in known):
            found.append(tensor.name)
    return found


def codes_in(prepared: Any) -> list[list[int]]:
    """The trained codes, sorted, layer by layer."""
    return [
        np.sort(layer.grid()[0], axis=None).tolist()
        for layer in prepared.layers
        if isinstance(layer, QuantizedWeights)
    ]


def codes_of(data: bytes) -> list[list[int]]:
    model = read(data)
    graph = model.subgraphs[0]
    return [
        np.sort(constant(model, graph.tensors[op.inputs[1]]), axis=None).tolist()
        for op in graph.operators
        if operator_name(model, op) in WEIGHTED
    ]


def digits() -> dict[str, Any]:
    prepared = train(TRAINED, data=X[:320])
    prepared.save(FOLDER / "prepared.keras")
    again = keras.models.load_model(FOLDER / "prepared.keras")
    plain, data, ranges = int8_of(again)
    found, learned = classes(data, TRAINED), predicted(prepared)

    graph = lowered(TRAINED)
    bound = bind(DIGITS, *signature(read(graph)))
    calibrated = observe(read(graph), bound.calibrate).ranges()
    after = made(INT8, graph, calibrated).data
    gain = (found == Y_TEST).astype(float) - (classes(after, TRAINED) == Y_TEST)
    return {
        "agreement": float(np.mean(found == learned)),
        "accuracy": float(np.mean(found == Y_TEST)),
        "gain": [float(gain.mean()), float(1.96 * gain.std() / np.sqrt(len(gain)))],
        "reloaded": bool((predicted(again) == learned).all()),
        "same codes": codes_of(data) == codes_in(prepared),
        "other scales": other_scales(data, ranges),
        "ranges": len(ranges.low),
        "plain": [type(layer).__name__ for layer in plain.layers],
        "untouched": [len(TRAINED.layers), len(TRAINED.layers[1]._inbound_nodes)],
        "output": prepared.output_names,
    }


def mixed() -> Any:
    """Every kind of layer, a nested model, and a value that a concatenation shares."""
    image = keras.Input((8, 8, 1), name="image")
    stem = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    stem = layers.ReLU(6.0)(layers.BatchNormalization()(stem))
    branch = layers.Conv2D(8, 3, padding="same", activation="relu")(stem)
    x = layers.Conv2D(16, 1)(layers.Concatenate()([stem, branch]))
    x = layers.ReLU()(layers.Add()([x, layers.Conv2D(16, 1)(stem)]))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(4)(layers.UpSampling2D(2)(x))
    gate = layers.Dense(16, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(gate)])
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, strides=2)(x)))
    inside = keras.Input(x.shape[1:])
    pooled = layers.MaxPooling2D(2)(layers.Conv2D(16, 1, activation="relu")(inside))
    x = layers.Flatten()(keras.Model(inside, pooled, name="block")(x))
    x = layers.Dense(48, activation="relu")(layers.Dropout(0.1)(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="mixed")


def paired() -> Any:
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="stem")(image)
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, name="first")(x))
    x = layers.Conv2D(12, 3, activation="relu", name="second")(layers.ReLU(name="clip")(x))
    inside = keras.Input(x.shape[1:])
    block = keras.Model(inside, layers.Conv2D(16, 1, name="inner")(inside), name="block")
    x = layers.Flatten()(layers.MaxPooling2D(2)(block(x)))
    x = layers.Dense(24, activation="relu", name="hidden")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="logits")(x))


def temporal() -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Conv1D(16, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling1D(2),
            layers.Conv1D(24, 3, activation="relu", padding="same"),
            layers.AveragePooling1D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="temporal",
    )


def trained_in_float(model: Any) -> Any:
    model.compile(keras.optimizers.Adam(3e-3), loss(model))
    model.optimizer.build(model.trainable_weights)
    model.fit(shaped(X, model), Y, epochs=12, verbose=0)
    return model


def partly(model: Any) -> dict[str, Any]:
    """Some layers stay float: a pair in a row, one in a nested model, and the last."""
    prepared = qat.prepare(model, data=X[:320], exclude=["first", "second", "block", "logits"])
    kept = qat.left_in_float(prepared)
    plain, trained = qat.finish(prepared)
    graph = lowered(plain)
    placed = qat.place(graph, trained, kept)
    ranges = placed.ranges
    data = made(replace(INT8, rules=placed.rules), graph, ranges).data
    found = [n for n in nodes(read(data)) if n.name in WEIGHTED]
    return {
        "kept": [name for name, kind in kept.items() if kind != qat.FUSED],
        "rounded": [layer.name for layer in prepared.layers if "_range" in layer.name],
        "dtypes": [node.input(1).dtype for node in found],
        "agreement": float(np.mean(classes(data, model) == predicted(prepared))),
        "other scales": other_scales(data, ranges),
    }


def many_kinds() -> Any:
    """Every layer with a kernel that is clustered, and one that stays float."""
    rows = keras.Input((8, 8), name="rows")
    x = layers.Dense(16, activation="relu", name="stem")(rows)
    x = layers.MultiHeadAttention(2, 8, name="attention")(x, x)
    x = layers.SeparableConv1D(16, 3, activation="relu", name="separable")(x)
    x = layers.Conv1DTranspose(16, 3, activation="relu", name="transposed")(x)
    x = layers.Conv1D(16, 3, activation="gelu", name="plain")(x)
    x = layers.LSTM(16, return_sequences=True, name="memory")(x)
    x = layers.GRU(16, return_sequences=True, name="loop")(x)
    x = layers.SimpleRNN(16, name="island")(x)
    return keras.Model(rows, layers.Dense(10, activation="softmax", name="classes")(x))


def kept() -> dict[str, Any]:
    """Codes of the file of a model that was pruned and clustered before."""
    model = many_kinds()
    pruning.prune(model, 0.5, scope="layer")
    clustering.cluster(model, 8)
    prepared = qat.prepare(model, data=X[:64].reshape(64, 8, 8))
    # Tracing costs more than these few steps do.
    prepared.compile(keras.optimizers.SGD(0.1), loss(model), run_eagerly=True)
    callbacks = [
        *clustering.keeping_callbacks(qat.unrounded_layers(prepared)),
        pruning.pruning_callback(Constant(0.0)),
    ]
    before = [kernel.read() for kernel in kernels_of(prepared)]
    prepared.fit(X[:128].reshape(128, 8, 8), Y[:128], verbose=0, callbacks=callbacks)
    moved = [
        bool((kernel.read() != values).any())
        for kernel, values in zip(kernels_of(prepared), before, strict=True)
    ]
    left = qat.left_in_float(prepared)
    prepared.save(FOLDER / "kept.keras")
    plain, trained = qat.finish(keras.models.load_model(FOLDER / "kept.keras"))
    graph = lowered(plain)
    placed = qat.place(graph, trained, left)
    data = made(replace(INT8, rules=placed.rules), graph, placed.ranges).data
    parsed = read(data)
    codes = [
        constant(parsed, tensor)
        for subgraph in parsed.subgraphs
        for tensor in subgraph.tensors
        if is_constant(parsed, tensor) and tensor.type == INT8_CODES and np.prod(tensor.shape) >= 64
    ]
    # What a loop starts with is no kernel.
    codes = [values for values in codes if np.ptp(values)]
    island = [np.asarray(kernel) for kernel in plain.get_layer("island").weights[:2]]
    return {
        "distinct": [len(np.unique(values)) for values in codes],
        "zeros": [float(np.mean(values == 0)) for values in codes],
        "island": [len(np.unique(values)) for values in island],
        "island zeros": [float(np.mean(values == 0)) for values in island],
        "left": left,
        "moved": all(moved),
    }


def built(model: Any, bits: int) -> dict[str, Any]:
    prepared = train(model, bits=bits)
    _, data, ranges = int8_of(prepared)
    narrow = write(narrow_weights(read(data)))
    learned = predicted(prepared)
    return {
        "float": float(np.mean(predicted(model) == Y_TEST)),
        "accuracy": float(np.mean(learned == Y_TEST)),
        "agreement": float(np.mean(classes(data, model) == learned)),
        "narrow agreement": float(np.mean(classes(narrow, model) == learned)),
        "narrow": sorted(
            {
                (node.name, tensor.dtype)
                for node in nodes(read(narrow))
                if node.name in WEIGHTED and (tensor := node.input(1))
            }
        ),
        "bytes": [len(data), len(narrow)],
        "other scales": other_scales(data, ranges),
    }


def error_of(model: Any, **options: Any) -> str:
    try:
        qat.prepare(model, **options)
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refused() -> dict[str, str]:
    series = keras.Input((8, 8))
    nothing = keras.Model(series, layers.SimpleRNN(4, name="memory")(series))
    try:
        qat.finish(qat.prepare(TRAINED))
    except EdgekitError as error:
        unset = str(error)
    return {
        "nothing": error_of(nothing),
        "bits": error_of(TRAINED, weight_bits=3),
        "unset": unset,
    }


keras.utils.set_random_seed(0)
MIXED = trained_in_float(mixed())
print(
    json.dumps(
        {
            "digits": digits(),
            "mixed": built(MIXED, 8),
            "narrow mixed": built(MIXED, 4),
            "narrow temporal": built(trained_in_float(temporal()), 4),
            "partly": partly(trained_in_float(paired())),
            "kept": kept(),
            "refused": refused(),
        }
    )
)

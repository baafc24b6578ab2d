"""What the tests of lowering ask of the TensorFlow process beside its own requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.lowering import lower
from edgekit.records import Batch, Source
from edgekit.tflite import read
from edgekit.worker import InProcess, Session


def stock(session: Session, path: Path) -> bytes:
    """Convert a Keras file as TensorFlow's documentation says."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(path, compile=False)
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def adopt_any(session: Session, model: object) -> Source:
    """Load an object in this very process."""
    return InProcess().load(model)


def make_unsupported(session: Session, folder: Path) -> None:
    """Save a model with an operator that TFLite lacks."""
    import keras

    x = keras.Input((3, 3), name="matrix")
    keras.Model(x, keras.ops.linalg.det(x)).save(folder / "determinant.keras")


def make_long(session: Session, folder: Path) -> None:
    """Save a recurrent model with more steps than are unrolled."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((200, 2), name="sequence")
    keras.Model(x, keras.layers.GRU(3, name="gru")(x)).save(folder / "long.keras")


def make_recurrent(session: Session, folder: Path) -> None:
    """Save recurrent models of every kind, on sequences `x` of 9 steps."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    x = keras.Input((9, 4), name="x")
    z = keras.Input((9, 4), name="z")

    def sequence(units: int, **options: Any) -> Any:
        return layers.LSTM(units, return_sequences=True, **options)

    shared = layers.LSTM(5, name="shared")
    _, hidden, cell = layers.LSTM(5, return_state=True, name="encoder")(x)
    one = keras.ops.ones_like(hidden)
    fixed = keras.Input((9, 4), batch_size=1, name="x")
    long = keras.Input((40, 4), name="x")
    loud = keras.Model(long, sequence(4, name="loud")(long))
    loud.set_weights(_loud(loud.get_weights()))
    models = {
        "lstm": keras.Model(x, layers.LSTM(8, name="lstm")(x)),
        "wide": keras.Model(x, layers.LSTM(32, name="lstm")(x)),
        "both_ways": keras.Model(x, layers.Bidirectional(sequence(8), name="both")(x)),
        "stacked": keras.Model(x, layers.LSTM(3)(sequence(6)(x))),
        "backwards": keras.Model(x, sequence(8, go_backwards=True, use_bias=False)(x)),
        "shared": keras.Model([x, z], layers.Add()([shared(x), shared(z)])),
        "loud": loud,
        "remembering": keras.Model(fixed, layers.LSTM(8, stateful=True)(fixed)),
        "each": keras.Model(
            x, layers.TimeDistributed(layers.LSTM(3))(layers.Reshape((3, 3, 4))(x))
        ),
        "masked": keras.Model(x, layers.LSTM(8)(layers.Masking()(x))),
        "gru": keras.Model(x, layers.GRU(8, name="gru")(x)),
        "simple": keras.Model(x, layers.SimpleRNN(8)(x)),
        "hard": keras.Model(x, layers.LSTM(8, recurrent_activation="hard_sigmoid")(x)),
        "cells": keras.Model(x, layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])(x)),
        "translating": keras.Model([x, z], sequence(5)(z, initial_state=[hidden, cell])),
        "started": keras.Model(x, layers.LSTM(5)(x, initial_state=[one, one])),
    }
    for name, model in models.items():
        model.save(folder / f"{name}.keras")


def _loud(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Weights with which the cell state exceeds 10, where TensorFlow's converter clips it."""
    kernel, recurrent, bias = (np.zeros_like(values) for values in weights)
    bias[:] = 3.0
    bias[12:] = 0.0
    kernel[0, 8:12], kernel[0, 12:] = 3.0, -0.2
    return [kernel, recurrent, bias]


def stock_single(session: Session, path: Path, mode: str) -> bytes:
    """Convert a Keras file, with batch size 1, by TensorFlow's converter."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(path, compile=False)
    inputs = [keras.Input(x.shape[1:], batch_size=1, dtype=x.dtype) for x in model.inputs]
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, model(inputs)))
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def traced(session: Session, path: Path, folder: Path) -> dict[str, Any]:
    """Count how often a model is traced until it is lowered, and lower it in the other way too."""
    source = session.load(path)
    calls = 0

    def counting(tensors: Any) -> Any:
        nonlocal calls
        calls += 1
        return loaded.call(tensors)

    loaded = session.loaded
    session._loaded = replace(loaded, call=counting)
    session.trace()
    session.input_scaling()
    ours = session.lower(folder / "once.tflite").path
    session.reference({x.name: np.zeros((2, *x.shape[1:]), x.dtype) for x in source.inputs})
    again = lower(loaded.call, source, loaded.model, folder / "again.tflite").path
    return {"calls": calls, "once": _tensors(ours), "again": _tensors(again)}


def _tensors(path: Path) -> list[tuple[str, bytes]]:
    """Return the names of computed tensors, in order, and the constants, in any."""
    model = read(path)
    contents = [
        (tensor.name, b"" if content is None else content.tobytes())
        for tensor in model.subgraphs[0].tensors
        for content in (model.buffers[tensor.buffer].data,)
    ]
    constants = sorted(("", content) for _, content in contents if content)
    return [*(entry for entry in contents if not entry[1]), *constants]


def make_stateful(session: Session, folder: Path) -> None:
    """Save models that carry something from one call to the next."""
    import keras
    import tensorflow as tf

    @keras.saving.register_keras_serializable("stateful")
    class Counter(keras.layers.Layer):
        def build(self, _: Any) -> None:
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:
            self.count.assign_add(1.0)
            return x * self.count

    keras.utils.set_random_seed(0)
    x = keras.Input((3, 2), batch_size=1, name="x")
    recurrent = keras.layers.LSTM(4, stateful=True, name="memory")(x)
    keras.Model(x, keras.layers.Dense(2, name="y")(recurrent)).save(folder / "stateful_lstm.keras")
    x = keras.Input((3,), name="x")
    keras.Model(x, Counter(name="counter")(x)).save(folder / "stateful_counter.keras")

    class Sums(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = tf.Variable(tf.zeros([1, 3]), name="total")

        @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.float32, name="x")])
        def add(self, x: Any) -> Any:
            return {"y": self.total.assign_add(x)}

    sums = Sums()
    tf.saved_model.save(sums, folder / "sums", signatures=sums.add)


def adopt(session: Session, folder: Path) -> dict[str, Any]:
    """Lower a live model in this very process; return what was seen."""
    import os
    import sys

    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="y")(x), name="live")
    batch = Batch(inputs={"x": np.eye(4, dtype=np.float32)})
    read, write = os.pipe()
    kept = os.dup(2)
    os.dup2(write, 2)
    os.close(write)
    try:
        with InProcess() as here:
            source = here.load(model)
            here.lower(folder / "live.tflite")
            reference = here.start_reference(batch.inputs)()
            weights = here.loaded.model.count_params()
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    return {
        "source": source,
        "reference": reference,
        "weights": weights,
        "said": said.decode(),
        "expected": model(batch.inputs["x"]).numpy(),
        "untouched": "call" not in vars(model.layers[-1]),
    }


def make_batch_dependent(session: Session, folder: Path) -> None:
    """Save models whose answers depend on the batch: its mean, a fixed size, a state."""
    import keras
    import tensorflow as tf

    x = keras.Input((2,), name="x")
    mixed = keras.ops.subtract(x, keras.ops.mean(x, axis=0, keepdims=True))
    keras.Model(x, mixed).save(folder / "mixing.keras")

    class Fixed(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((1, 2), tf.float32, name="x")])  # type: ignore[untyped-decorator]  # as above
        def double(self, x: Any) -> Any:
            return {"y": 2 * tf.ensure_shape(x, (1, 2))}

    fixed = Fixed()
    tf.saved_model.save(fixed, str(folder / "fixed"), signatures=fixed.double)

    keras.utils.set_random_seed(0)
    steps = keras.Input((3, 2), batch_size=1, name="steps")
    recurrent = keras.layers.LSTM(2, stateful=True, name="memory")(steps)
    keras.Model(steps, recurrent).save(folder / "stateful.keras")


def make_refused(session: Session, folder: Path) -> None:
    """Save models with operations that TFLite lacks, and one exported as it is in training."""
    import keras
    import tensorflow as tf

    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(3, name="y")(x)
    keras.Model(x, keras.ops.argmax(y, axis=-1)).save(folder / "largest.keras")
    x = keras.Input((3, 3), name="x")
    inner = keras.Model(x, keras.ops.linalg.inv(keras.ops.erf(x)), name="inner")
    x = keras.Input((3, 3), name="x")
    keras.Model(x, keras.layers.Flatten()(inner(x))).save(folder / "nested.keras")
    x = keras.Input((4, 4, 1), name="x")
    flipped = keras.layers.RandomFlip(name="flip")(x)
    flipping = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(flipped)))
    flipping.export(folder / "flipping", verbose=False)
    flipping.save(folder / "flipping.keras")
    archive = keras.export.ExportArchive()
    archive.track(flipping)
    archive.add_endpoint(
        "serve",
        lambda x: flipping(x, training=False),
        input_signature=[tf.TensorSpec((None, 4, 4, 1), tf.float32)],
    )
    archive.write_out(folder / "still", verbose=False)

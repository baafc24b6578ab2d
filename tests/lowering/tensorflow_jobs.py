"""What the tests of lowering ask of the TensorFlow process beside its own requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def calibrated(path: Path, inputs: list[np.ndarray]) -> bytes:
    """Write min/max ranges over samples into a float graph, as TensorFlow itself does."""
    from tensorflow.lite.python.optimize import calibrator

    quantity = len(inputs[0])
    samples = [[array[i : i + 1] for array in inputs] for i in range(quantity)]
    return bytes(calibrator.Calibrator(path.read_bytes()).calibrate(lambda: iter(samples)))


def stock(path: Path) -> bytes:
    """Convert a Keras file as TensorFlow's documentation says."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(path, compile=False)
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def forget_entry_points(hidden: bool) -> None:
    """Behave like a TensorFlow that has moved its quantizer, or no longer."""
    from edgekit.lowering import tf_quantizer

    if hidden:
        tf_quantizer._kept = tf_quantizer._entry_points

        def missing() -> Any:
            raise ImportError("moved")

        tf_quantizer._entry_points = missing
    else:
        tf_quantizer._entry_points = tf_quantizer._kept


def make_unsupported(folder: Path) -> None:
    """Save a model with an operator that TFLite lacks."""
    import keras

    x = keras.Input((3, 3), name="matrix")
    keras.Model(x, keras.ops.linalg.det(x)).save(folder / "determinant.keras")


def make_long(folder: Path) -> None:
    """Save a recurrent model with more steps than are unrolled."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((200, 2), name="sequence")
    keras.Model(x, keras.layers.LSTM(3, name="lstm")(x)).save(folder / "long.keras")


def adopt(folder: Path) -> dict[str, Any]:
    """Lower and quantize a live model in this very process; return what was seen."""
    import os
    import sys

    import keras

    from edgekit.records import Batch, Plan
    from edgekit.worker import InProcess

    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="y")(x), name="live")
    batch = Batch(inputs={"x": np.eye(4, dtype=np.float32)})
    read, write = os.pipe()
    kept = os.dup(2)
    os.dup2(write, 2)
    os.close(write)
    try:
        with InProcess(model) as session:
            source = session.load()
            lowered = session.lower(folder / "live.tflite", batch)
            graph = calibrated(folder / "live.tflite", [batch.inputs["x"]])
            data = session.quantize(graph, Plan(variant="int8", mode="int8"))
            weights = session.call("tensorflow_jobs:count", model=model)
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    return {
        "source": source,
        "lowered": lowered,
        "size": len(data),
        "weights": weights,
        "said": said.decode(),
        "expected": model(batch.inputs["x"]).numpy(),
        "untouched": "call" not in vars(model.layers[-1]),
    }


def count(model: Any) -> int:
    """Number of weights of the model in hand."""
    return int(model.count_params())

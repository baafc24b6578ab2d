"""Make the models that remember: what they compute depends on what they were given before.

    .venv/bin/python tests/golden/make_stateful_models.py

Written into stateful/ beside this file. stream.tflite keeps its last four inputs in a resource
variable, as streaming models for key words do; lstm.tflite and lstm_batch2.tflite are fused LSTMs,
which keep their state in variable tensors. The weights are random and large, so that memory shows.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf_keras

HERE = Path(__file__).parent / "stateful"


class Stream(tf.Module):
    """Looks at the last four inputs of eight values."""

    def __init__(self) -> None:
        super().__init__()
        weights = np.random.default_rng(0).normal(size=(32, 2))
        self.last = tf.Variable(tf.zeros([1, 4, 8]), name="last")
        self.weights = tf.constant(weights, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, 8], tf.float32, name="x")])
    def step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.last.assign(tf.concat([self.last[:, 1:], x[:, None]], 1))
        return {"p": tf.nn.softmax(tf.reshape(self.last, [1, 32]) @ self.weights)}


def stream() -> bytes:
    model = Stream()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(model, folder, signatures=model.step)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def lstm(batch: int) -> bytes:
    tf_keras.utils.set_random_seed(0)
    large = tf_keras.initializers.RandomNormal(stddev=1.0, seed=0)
    layers = [
        tf_keras.Input((3, 8), batch_size=batch, name="x"),
        tf_keras.layers.LSTM(6, kernel_initializer=large, recurrent_initializer=large),
        tf_keras.layers.Dense(2, activation="softmax", kernel_initializer=large),
    ]
    return tf.lite.TFLiteConverter.from_keras_model(tf_keras.Sequential(layers)).convert()


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    (HERE / "stream.tflite").write_bytes(stream())
    (HERE / "lstm.tflite").write_bytes(lstm(1))
    (HERE / "lstm_batch2.tflite").write_bytes(lstm(2))

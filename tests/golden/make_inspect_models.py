"""Make the small files that inspection is tested on.

    python tests/golden/make_inspect_models.py ../shared/data/baselines

The speech model is the trained baseline; the other files are about structure, not about numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent / "inspect"


def convert(function: Any, *, shapes: list[tuple[int, ...]], mode: str = "float32") -> bytes:
    concrete = tf.function(function).get_concrete_function(*[tf.TensorSpec(s) for s in shapes])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "sparse":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if mode == "int8":
        samples = np.random.default_rng(0)

        def representative() -> Iterator[list[np.ndarray]]:
            for _ in range(8):
                yield [samples.normal(size=shape).astype(np.float32) for shape in shapes]

        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def loop() -> tf.Module:
    """A module whose function multiplies by a matrix three times, in a loop the file keeps."""

    class Loop(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = tf.Variable(tf.linalg.diag(tf.constant([0.5, 2.0, 1.0, 0.25])) + 0.125)

        @tf.function
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            return tf.while_loop(
                lambda step, _: step < 3,
                lambda step, value: (step + 1, tf.matmul(value, self.matrix)),
                (tf.constant(0), x),
            )[1]

    return Loop()


def several() -> keras.Model:
    """Two inputs, two outputs, a transposed convolution, a PReLU and a bilinear resize."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3), name="image")
    extra = keras.Input((3,), name="extra")
    x = keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(image)
    x = keras.layers.SeparableConv2D(8, 3, name="sep")(x)
    x = keras.layers.PReLU(shared_axes=[1, 2], name="slope")(x)
    big = keras.layers.UpSampling2D(2, interpolation="bilinear", name="big")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Concatenate(name="joined")([x, extra])
    return keras.Model([image, extra], [big, keras.layers.Dense(2, name="logits")(x)])


def main(baselines: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    speech = keras.models.load_model(baselines / "fsdd_dscnn.keras")
    both = several()
    kernel = np.zeros((64, 64), np.float32)
    kernel[::8] = np.linspace(-1, 1, 512, dtype=np.float32).reshape(8, 64)
    files = {
        "speech_int8": convert(speech, shapes=[(1, 61, 40, 1)], mode="int8"),
        "speech_float16": convert(speech, shapes=[(1, 61, 40, 1)], mode="float16"),
        "several_float32": convert(
            lambda image, extra: both([image, extra]), shapes=[(1, 8, 8, 3), (1, 3)]
        ),
        "loop_float32": convert(loop(), shapes=[(1, 4)]),
        "sparse_float32": convert(lambda x: tf.matmul(x, kernel), shapes=[(1, 64)], mode="sparse"),
    }
    for name, content in files.items():
        (FOLDER / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Make the models of tests/golden/evaluate: `python tests/golden/make_evaluate_models.py DATA`.

DATA is the folder with the trained baselines and their data sets. The autoencoder is trained
here, on scikit-learn's handwritten digits without the fours, which are its anomalies. All files
come from TensorFlow's own converter, so that what evaluates them is judged on foreign files.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

HERE = Path(__file__).parent / "evaluate"


def convert(model: Any, calibration: np.ndarray | None = None, **settings: Any) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:
        converter.representative_dataset = lambda: ([row[None]] for row in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    for name, value in settings.items():
        owner = converter.target_spec if name == "supported_types" else converter
        setattr(owner, name, value)
    return bytes(converter.convert())


def convert_function(function: Callable[..., Any], *shapes: tuple[int | None, ...]) -> bytes:
    signature = [
        tf.TensorSpec(shape, tf.float32, name) for shape, name in zip(shapes, "ab", strict=False)
    ]
    module = tf.Module()
    module.serve = tf.function(function, input_signature=signature)
    concrete = module.serve.get_concrete_function()
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert())


def models(data: Path) -> Iterator[tuple[str, bytes]]:
    default = [tf.lite.Optimize.DEFAULT]
    raw = gzip.decompress((data / "fashion_mnist/train-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, 300 * 784, 16).reshape(-1, 28, 28, 1) / np.float32(255)
    fashion = keras.saving.load_model(data / "baselines/fashion_mnist_cnn.keras")
    yield "fashion_dynamic", convert(fashion, optimizations=default)
    yield (
        "fashion_int8",
        convert(
            fashion,
            images,
            optimizations=default,
            inference_input_type=tf.int8,
            inference_output_type=tf.int8,
        ),
    )
    turbofan = keras.saving.load_model(data / "baselines/cmapss_cnn1d.keras")
    cycles = np.loadtxt(data / "cmapss_fd001/train_FD001.txt.gz")
    sensors = cycles[:, [c + 4 for c in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)]]
    low, high = sensors.min(axis=0), sensors.max(axis=0)
    scaled = (2 * (sensors - low) / (high - low) - 1).astype(np.float32)
    # Windows of one engine only: the last row is 29 cycles after the first.
    starts = np.flatnonzero(cycles[29:, 1] - cycles[:-29, 1] == 29)[::50]
    windows = np.stack([scaled[start : start + 30] for start in starts])
    yield (
        "turbofan_float16",
        convert(turbofan, optimizations=default, supported_types=[tf.float16]),
    )
    yield "turbofan_int8", convert(turbofan, windows, optimizations=default)

    digits, target = load_digits(return_X_y=True)
    digits = (digits / 16).astype(np.float32)
    normal = digits[:1200][target[:1200] != 4]
    keras.utils.set_random_seed(0)
    layers = [(32, "relu"), (8, "relu"), (32, "relu"), (64, "sigmoid")]
    autoencoder = keras.Sequential(
        [keras.Input((64,)), *(keras.layers.Dense(n, activation=kind) for n, kind in layers)]
    )
    autoencoder.compile("adam", "mse")
    autoencoder.fit(normal, normal, batch_size=32, epochs=60, verbose=0)
    yield "autoencoder_float32", convert(autoencoder)
    yield "autoencoder_int8", convert(autoencoder, normal[:200], optimizations=default)
    single = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1, activation="sigmoid")])
    single.compile("adam", "binary_crossentropy")
    single.fit(digits[:1200], target[:1200] == 8, epochs=60, verbose=0)
    yield "is_eight_sigmoid", convert(single)

    yield (
        "two_in_two_out",
        convert_function(lambda a, b: {"total": a + b, "product": a * b}, (1, 3), (1, 3)),
    )
    yield "batch_of_4", convert_function(lambda a: {"double": a * 2}, (4, 3))
    yield "free_batch", convert_function(lambda a: {"double": a * 2}, (None, 3))
    yield "logarithm", convert_function(lambda a: {"log": tf.math.log(a)}, (1, 3))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for name, content in models(Path(sys.argv[1])):
        (HERE / f"{name}.tflite").write_bytes(content)
        print(f"{name}.tflite {len(content)} B")


if __name__ == "__main__":
    main()

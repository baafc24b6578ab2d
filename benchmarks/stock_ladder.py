"""Make six files with the stock TFLiteConverter, as a user would without edgekit.

python benchmarks/stock_ladder.py MODEL.keras CALIBRATION.npy FOLDER
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

model = tf.keras.models.load_model(sys.argv[1], compile=False)
samples = np.load(sys.argv[2])
folder = Path(sys.argv[3])
loaded = time.perf_counter()


def representative() -> Iterator[list[np.ndarray]]:
    for sample in samples:
        yield [sample[None]]


def converter() -> tf.lite.TFLiteConverter:
    made = tf.lite.TFLiteConverter.from_keras_model(model)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    return made


seconds = {}


def save(name: str, made: tf.lite.TFLiteConverter) -> None:
    begun = time.perf_counter()
    (folder / f"{name}.tflite").write_bytes(made.convert())
    seconds[name] = time.perf_counter() - begun


save("float32", tf.lite.TFLiteConverter.from_keras_model(model))

half = converter()
half.target_spec.supported_types = [tf.float16]
save("float16", half)

save("dynamic", converter())

floats = converter()
floats.representative_dataset = representative
floats.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
save("int8-float32io", floats)

integers = converter()
integers.representative_dataset = representative
integers.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
integers.inference_input_type = tf.int8
integers.inference_output_type = tf.int8
save("int8", integers)

wide = converter()
wide.representative_dataset = representative
wide.target_spec.supported_ops = [
    tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
]
save("int16x8", wide)

(folder / "seconds.json").write_text(json.dumps({"total": time.perf_counter() - loaded, **seconds}))

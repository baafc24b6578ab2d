"""Make the small models and samples with which the runner is tested.

    EDGEKIT_DATA=../shared/data .venv/bin/python tests/golden/make_runner_models.py

Written into runner/ beside this file: the two trained baselines for speech and for turbofan life,
quantized with int8, uint8 and int16 interfaces; a dense autoencoder trained here on scikit-learn's
digits; a model of three inputs and two outputs that only adds and looks up; a detector and a
segmenter of red, green and blue, which need no training; thirty turbofan windows.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import edgekit_runner

HERE = Path(__file__).parent / "runner"
DATA = Path(os.environ["EDGEKIT_DATA"])
SENSORS = [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21]
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LOG_MEL = {
    "kind": "log-mel",
    "sample_rate": 8000,
    "samples": 8000,
    "frame": 256,
    "hop": 128,
    "bands": 40,
    "low_hz": 60,
    "high_hz": 3900,
    "floor": 1e-6,
    "mean": -10.013707160949707,
    "std": 4.966107368469238,
}


def main() -> None:
    """Write all of it."""
    HERE.mkdir(exist_ok=True)
    speech = keras.models.load_model(DATA / "baselines/fsdd_dscnn.keras")
    write("fsdd_int8", quantize(speech, spoken_digits(), tf.int8))
    manifest = {
        "schema": 1,
        "model": "fsdd_dscnn",
        "variant": "int8",
        "data": {"name": "fsdd", "task": "classification"},
        "labels": LABELS,
        "preprocessing": LOG_MEL,
    }
    (HERE / "fsdd_int8.json").write_text(json.dumps(manifest, indent=1) + "\n")

    turbofan = keras.models.load_model(DATA / "baselines/cmapss_cnn1d.keras")
    windows, test_windows, test_targets = turbofan_windows()
    write("cmapss_uint8", quantize(turbofan, windows[::100], tf.uint8))
    write("cmapss_int16", quantize(turbofan, windows[::100], tf.int16))
    np.savez_compressed(HERE / "cmapss.npz", x_test=test_windows[:30], y_test=test_targets[:30])
    whole = turbofan.predict(test_windows, verbose=0).ravel()
    print("turbofan rmse, 100 engines:", 125 * np.sqrt(np.mean((whole - test_targets) ** 2)))

    write("digits_autoencoder", quantize(autoencoder(), zeros_and_ones() / 16, None))
    write("pair", pair())
    write("detector", detector())
    write("segmenter", segmenter())


def quantize(model: keras.Model, samples: np.ndarray, interface: tf.DType | None) -> bytes:
    """Convert at batch 1; `interface` None keeps float weights."""
    fixed = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="samples")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(fixed, model(fixed)))
    if interface is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([s[None].astype(np.float32)] for s in samples)
        converter.inference_input_type = converter.inference_output_type = interface
        operators = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        if interface == tf.int16:
            operators = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [operators]
    return converter.convert()


def spoken_digits() -> np.ndarray:
    """Return features `[180, 61, 40, 1]` of every fifteenth training clip."""
    stored = np.load(DATA / "fsdd/fsdd.npz")
    audio, offsets = stored["audio"], stored["offsets"]
    clips = np.flatnonzero(stored["index"] >= 5)[::15]
    return np.stack(
        [edgekit_runner.log_mel(audio[offsets[k] : offsets[k + 1]], LOG_MEL) for k in clips]
    )


def turbofan_windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training windows `[n, 30, 14]`, test windows `[100, 30, 14]` and their targets."""

    def read(name: str) -> np.ndarray:
        with gzip.open(DATA / "cmapss_fd001" / name) as stream:
            return np.loadtxt(stream)

    train, test = read("train_FD001.txt.gz"), read("test_FD001.txt.gz")
    columns = [4 + sensor for sensor in SENSORS]
    low, high = train[:, columns].min(0), train[:, columns].max(0)

    def scaled(rows: np.ndarray) -> np.ndarray:
        values = (rows[:, columns] - low) / (high - low) * 2 - 1
        short = max(0, 30 - len(values))
        return np.concatenate([np.repeat(values[:1], short, 0), values]).astype(np.float32)

    windows = []
    for unit in np.unique(train[:, 0]):
        values = scaled(train[train[:, 0] == unit])
        windows += [values[end - 30 : end] for end in range(30, len(values) + 1)]
    last = [scaled(test[test[:, 0] == unit])[-30:] for unit in np.unique(test[:, 0])]
    life = np.minimum(125, np.loadtxt(DATA / "cmapss_fd001/RUL_FD001.txt")) / 125
    return np.stack(windows), np.stack(last), life.astype(np.float32)


def zeros_and_ones() -> np.ndarray:
    """Return the normal samples of the anomaly test: scikit-learn's handwritten 0 and 1."""
    digits = load_digits()
    return digits.data[digits.target < 2].astype(np.float32)


def autoencoder() -> keras.Model:
    """Train 64-16-8-16-64 on the first 260 normal samples, pixels divided by 16."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, "relu") for width in (16, 8, 16)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(64)])
    model.compile("adam", "mse")
    normal = zeros_and_ones()[:260] / 16
    model.fit(normal, normal, epochs=150, batch_size=32, verbose=0)
    return model


def pair() -> bytes:
    """Return a model: (left + right, table[index]) for float `[1, 3]` and int32 `[1]` inputs."""
    left = keras.Input(batch_shape=(1, 3), name="left")
    right = keras.Input(batch_shape=(1, 3), name="right")
    index = keras.Input(batch_shape=(1,), dtype="int32", name="index")
    table = keras.layers.Embedding(4, 2, name="table", weights=[np.arange(8.0).reshape(4, 2)])
    outputs = {"total": keras.layers.Add()([left, right]), "entry": table(index)}
    model = keras.Model([left, right, index], outputs)
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def write(stem: str, content: bytes) -> None:
    """Write one model."""
    path = HERE / f"{stem}.tflite"
    path.write_bytes(content)
    print(f"{path.name}: {len(content)} bytes")


def colourfulness(pixels: tf.Tensor) -> tf.Tensor:
    """How much red, green and blue each pixel has beyond the other two: `[1, h, w, 3]`, 0 to 1."""
    value = tf.cast(pixels, tf.float32) / 255
    return tf.nn.relu(2 * value - tf.reduce_sum(value, -1, keepdims=True))


def detector() -> bytes:
    """Boxes around the 8 x 8 cells of a 32 x 48 picture that are red, green or blue."""
    rows, columns = np.mgrid[0:4, 0:6]
    centres = [
        (rows + 0.5) / 4,
        (columns + 0.5) / 6,
        np.full((4, 6), 1 / 4),
        np.full((4, 6), 1 / 6),
    ]
    anchors = np.stack(centres, -1).reshape(24, 4).astype(np.float32)
    numbers = {"max_detections": 10, "max_classes_per_detection": 1, "num_classes": 3}
    floats = {"nms_score_threshold": 0.1, "nms_iou_threshold": 0.5}
    floats |= {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    words = ['name: "TFLite_Detection_PostProcess"']
    words += [f'attr {{ key: "{key}" value {{ i: {value} }} }}' for key, value in numbers.items()]
    words += [f'attr {{ key: "{key}" value {{ f: {value} }} }}' for key, value in floats.items()]
    words += ['attr { key: "use_regular_nms" value { b: false } }']

    @tf.function(experimental_implements=" ".join(words))
    def post_process(boxes: tf.Tensor, scores: tf.Tensor, anchors: tf.Tensor) -> tuple:
        del boxes, scores, anchors  # the converter puts the operator here
        lists = tf.constant(0.0, tf.float32, (1, 10))
        return tf.constant(0.0, tf.float32, (1, 10, 4)), lists, lists, tf.constant([0.0])

    @tf.function(input_signature=[tf.TensorSpec((1, 32, 48, 3), tf.uint8, name="picture")])
    def detect(picture: tf.Tensor) -> tuple:
        cells = tf.nn.avg_pool2d(colourfulness(picture), 8, 8, "VALID")
        scores = tf.pad(tf.reshape(cells, (1, 24, 3)), [[0, 0], [0, 0], [1, 0]])
        return post_process(tf.zeros((1, 24, 4)), scores, tf.constant(anchors))

    return convert(detect)


def segmenter() -> bytes:
    """Scores `[1, 32, 48, 4]` of nothing, red, green and blue."""

    @tf.function(input_signature=[tf.TensorSpec((1, 32, 48, 3), tf.uint8, name="picture")])
    def segment(picture: tf.Tensor) -> tf.Tensor:
        colours = colourfulness(picture)
        return tf.concat([tf.fill((1, 32, 48, 1), 0.25), colours], -1)

    return convert(segment)


def convert(function: tf.types.experimental.PolymorphicFunction) -> bytes:
    """Return a function as a float model."""
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.allow_custom_ops = True
    return converter.convert()


if __name__ == "__main__":
    main()

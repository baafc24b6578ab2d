"""Make the model that the runner carries inside itself, and write it into edgekit_runner.py.

    PYTHONPATH=toolkit:device_scripts .venv/bin/python tests/golden/make_selftest.py

A small convolutional network, trained on scikit-learn's handwritten digits and quantized to int8
by edgekit; one picture of each digit that the network has not seen; and the codes with which
TFLite's reference kernels, the same on every machine, answer them.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
import zlib
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from sklearn.datasets import load_digits

import edgekit
import edgekit_runner

SEEN = 1500


def main() -> None:
    """Train, quantize, pack, write."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    content = quantized(trained(images[:SEEN], digits.target[:SEEN]), images, digits.target)
    chosen = [SEEN + int(np.flatnonzero(digits.target[SEEN:] == k)[0]) for k in range(10)]
    levels = digits.images[chosen].astype(np.uint8).reshape(10, 64)
    codes = answers(content, levels)
    # Not trained to the end, so that the codes are not all at the ends of their range.
    print("largest code of each answer:", codes.max(1))
    assert (codes.argmax(1) == np.arange(10)).all()
    packed = zlib.compress(levels.tobytes() + codes.tobytes() + content, 9)
    text = base64.b85encode(packed).decode()
    lines = [text[at : at + 92] for at in range(0, len(text), 92)]
    block = "SELFTEST = (\n" + "".join(f'    "{line}"\n' for line in lines) + ")\n"
    place = Path(edgekit_runner.__file__)
    source = place.read_text(encoding="utf-8")
    fresh = re.sub(r"(?ms)^SELFTEST = \(\n.*?^\)\n", lambda _: block, source)
    place.write_text(fresh, encoding="utf-8")
    print(f"model {len(content)} bytes, {len(text)} characters in the runner")


def trained(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Return a trained network of some 700 weights."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="a"),
            keras.layers.Flatten(name="b"),
            keras.layers.Dense(10, activation="softmax", name="c"),
        ],
        name="d",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, epochs=12, batch_size=16, verbose=0)
    return model


def quantized(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return the int8 file."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits.npz"
        np.savez(
            data,
            x_train=images[:SEEN],
            y_train=labels[:SEEN],
            x_test=images[SEEN:],
            y_test=labels[SEEN:],
        )
        source = Path(folder) / "digits.keras"
        model.save(source)
        edgekit.quantize(source, data=str(data), modes=["int8"], output=folder, latency=False)
        found = [path for path in Path(folder).rglob("*.tflite") if "int8" in path.name]
        return found[0].read_bytes()


def answers(content: bytes, levels: np.ndarray) -> np.ndarray:
    """Return the codes `[10, 10]` of the reference kernels."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for picture in levels:
        codes = edgekit_runner.Tensor("", into).encode(
            (picture / 16).astype(np.float32).reshape(8, 8, 1)
        )
        interpreter.set_tensor(into["index"], codes)
        interpreter.invoke()
        found.append(interpreter.get_tensor(out["index"])[0])
    return np.stack(found)


if __name__ == "__main__":
    main()

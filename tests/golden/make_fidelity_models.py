"""Make the models of tests/golden/fidelity: `python tests/golden/make_fidelity_models.py`.

Weights are set by hand: each model computes what it should in float32, and its int8 file has lost a
part of it. `inputs` are what they are calibrated and tested on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent / "fidelity"


def inputs(name: str, n: int, seed: int) -> np.ndarray:
    """Samples `[n, 4]`; of `rare` one in a hundred is a fault, which column 1 tells."""
    rng = np.random.default_rng(seed)
    if name != "rare":
        return rng.uniform(-1, 1, (n, 4)).astype(np.float32)
    x = rng.uniform(0, 1000, (n, 4))
    x[:, 1] = np.where(np.arange(n) % 100 == 0, rng.uniform(0.8, 1, n), rng.uniform(0, 0.7, n))
    return x.astype(np.float32)


def models() -> dict[str, Any]:
    """Return a fault detector, a regression of uneven columns, boxes beside a score."""
    import keras

    def dense(kernel: list[list[float]], bias: list[float], **settings: Any) -> Any:
        layer = keras.layers.Dense(len(bias), **settings)
        layer.build((None, 4))
        layer.set_weights([np.array(kernel, np.float32), np.array(bias, np.float32)])
        return layer

    found = {}
    x = keras.Input((4,))
    # One scale for all columns of the input, which reach to 1000: column 1 becomes 0.
    rare = dense([[0], [80], [0], [0]], [-60], activation="sigmoid")(x)
    found["rare"] = keras.Model(x, rare)
    # One scale for all columns of the output, about 8: only the second is left.
    kernel = [[1, 0, 0], [0, 300, 0], [0, 0, 0.01], [0, 60, 0]]
    found["uneven"] = keras.Model(x, dense(kernel, [0, 1000, 0])(x))
    # Pixels and scores share the scale of the concatenation.
    boxes = dense((2 * np.eye(4)).tolist(), [0] * 4, activation="sigmoid")(x)
    score = dense([[4], [-4], [0], [0]], [0], activation="sigmoid")(x)
    head = keras.layers.Concatenate()([keras.layers.Rescaling(640.0)(boxes), score])
    found["head"] = keras.Model(x, head)
    return found


if __name__ == "__main__":
    import tensorflow as tf
    from make_evaluate_models import convert

    HERE.mkdir(exist_ok=True)
    for name, model in models().items():
        (HERE / f"{name}_float32.tflite").write_bytes(convert(model))
        quantized = convert(
            model, inputs(name, 400, seed=1), optimizations=[tf.lite.Optimize.DEFAULT]
        )
        (HERE / f"{name}_int8.tflite").write_bytes(quantized)

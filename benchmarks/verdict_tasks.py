"""Models of tasks beyond one class a sample, for the verdicts; see `verdict_models`.

The detector of the published weights tells its boxes as YOLO does, in pixels beside the scores. Its
truth is matched and averaged by edgekit's own rules, which tests hold to other libraries.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit_runner import Head, Rankings, anchors_of, as_boxes, check_head, match_boxes

REPOSITORY: Final = Path(__file__).resolve().parents[1]
DATA: Final = Path(os.environ.get("EDGEKIT_DATA") or REPOSITORY.parent / "shared" / "data")
DETECTOR: Final = REPOSITORY / "models/bccd/bccd.keras"
LABELS: Final = 5
WINDOW, PER_CLIP = 32, 8

Made = dict[str, Any]


def many_labels(folder: Path) -> Made:
    """Tell which of five patterns a picture holds, one of them rarely."""
    import keras
    from keras import layers

    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(LABELS, 16, 16, 1))

    def data(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = (rng.random((n, LABELS)) < (0.5, 0.4, 0.3, 0.3, 0.1)).astype(np.uint8)
        x = np.einsum("nl,lhwc->nhwc", y, patterns) + rng.normal(0, 5, (n, 16, 16, 1))
        return x.astype(np.float32), y

    (x, y), (xs, ys) = data(1200), data(600)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(LABELS, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy")
    model.fit(x, y, epochs=10, batch_size=32, verbose=0)
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=xs, y_test=ys)
    model.save(folder / "model.keras")
    return {"metric": "f1", "score": f1(model.predict(xs, verbose=0), {"y_test": ys}, folder)}


def grouped_anomalies(folder: Path) -> Made:
    """Rebuild windows of vibrations; a clip of eight windows is normal, or whistles faintly."""
    import keras
    from keras import layers

    rng = np.random.default_rng(0)

    def clips(n: int, whistling: np.ndarray) -> np.ndarray:
        t = np.arange(WINDOW * PER_CLIP)
        pitch, phase = rng.uniform(0.2, 0.4, (n, 1)), rng.uniform(0, 6, (n, 1))
        x = np.sin(pitch * t + phase) + rng.normal(0, 0.3, (n, len(t)))
        x += 0.25 * whistling[:, None] * np.sin(2.2 * t)
        return x.reshape(-1, WINDOW).astype(np.float32)

    flags = (np.arange(120) % 3 == 0).astype(np.int64)
    x, xs = clips(300, np.zeros(300)), clips(120, flags)
    model = keras.Sequential(
        [
            keras.Input((WINDOW,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(6, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(WINDOW),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), "mse")
    model.fit(x, x, epochs=20, batch_size=64, verbose=0)
    arrays = {"x_test": xs, "y_test": flags.repeat(PER_CLIP)}
    arrays["group_test"] = np.arange(120).repeat(PER_CLIP)
    np.savez(folder / "data.npz", x_train=x, **arrays)
    model.save(folder / "model.keras")
    score = roc_auc(model.predict(xs, verbose=0), arrays, folder)
    return {"metric": "roc_auc", "score": score}


def yolo_boxes(folder: Path) -> Made:
    """Find blood cells; boxes in pixels and scores share one output, as YOLO v8 has it."""
    import keras
    from keras import ops

    from edgekit.data import open_data, split_of
    from edgekit.training import load_config

    model = keras.models.load_model(DETECTOR)
    head = check_head(tomllib.loads(DETECTOR.with_suffix(".head.toml").read_text())["head"])
    anchors = anchors_of(head)
    v = np.array(head["variances"], np.float32)
    height, width = model.input_shape[1:3]
    pixels = np.array([width, height], np.float32)
    moved, grown = model.output["boxes"][..., :2], model.output["boxes"][..., 2:]
    centres = (moved * (v[:2] * anchors[:, 2:]) + anchors[:, :2]) * pixels
    sizes = ops.exp(grown * v[2:]) * (anchors[:, 2:] * pixels)
    joined = ops.concatenate([centres, sizes, model.output["scores"]], axis=-1)
    yolo = keras.Model(model.input, ops.transpose(joined, (0, 2, 1)))
    yolo.save(folder / "model.keras")
    (folder / "model.head.toml").write_text('[head]\nkind = "yolo"\nunit = "pixels"\n')
    config = load_config(DETECTOR.with_name("model.toml"))
    opened = open_data(config.data, preprocessing=config.preprocessing)
    arrays = {}
    for split in ("train", "test"):
        samples = split_of(opened, split)
        batch = samples.read(np.arange(samples.n))
        arrays[f"x_{split}"] = np.asarray(next(iter(batch.inputs.values())), np.float32)
        arrays[f"y_{split}"] = as_boxes(batch.targets)
    np.savez(folder / "data.npz", **arrays)
    outputs = yolo.predict(arrays["x_test"], verbose=0)
    return {"metric": "map", "score": mean_ap(outputs, arrays, folder)}


def f1(outputs: np.ndarray, arrays: Mapping[str, np.ndarray], folder: Path) -> float:
    """Return the macro F1 of sigmoids, by scikit-learn."""
    from sklearn.metrics import f1_score

    _ = folder
    return float(f1_score(arrays["y_test"], outputs > 0.5, average="macro"))


def roc_auc(outputs: np.ndarray, arrays: Mapping[str, np.ndarray], folder: Path) -> float:
    """Return the ROC AUC of the mean errors of clips, by scikit-learn."""
    from sklearn.metrics import roc_auc_score

    _ = folder
    errors = np.mean((outputs - arrays["x_test"]) ** 2, axis=1).reshape(-1, PER_CLIP).mean(axis=1)
    return float(roc_auc_score(arrays["y_test"][::PER_CLIP], errors))


def mean_ap(outputs: np.ndarray, arrays: Mapping[str, np.ndarray], folder: Path) -> float:
    """Return the mAP of what the head in the folder makes of one output."""
    table = check_head(tomllib.loads((folder / "model.head.toml").read_text())["head"])
    height, width = arrays["x_test"].shape[1:3]
    head = Head(table, [("output", (1, *outputs.shape[1:]))], (width, height))
    found = head({"output": outputs})
    hit, void = match_boxes(found, arrays["y_test"])
    return Rankings((found[..., 4], found[..., 5], hit, void, arrays["y_test"])).value()


MODELS: dict[str, Callable[[Path], Made]] = {
    "any number of labels": many_labels,
    "anomalies of clips": grouped_anomalies,
    "boxes as YOLO has them": yolo_boxes,
}
SCORES: dict[str, Callable[[np.ndarray, Mapping[str, np.ndarray], Path], float]] = {
    "f1": f1,
    "roc_auc": roc_auc,
    "map": mean_ap,
}

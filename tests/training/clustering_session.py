"""Cluster the demo's model and print the results as JSON: run by test_clustering.py."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.data import open_data
from edgekit.errors import EdgekitError
from edgekit.training.clustering import cluster, clustering_callback, distinct_of
from edgekit.training.pruning import prune, sparsity_of
from edgekit.worker import InProcess

FOLDER, DEMO = map(Path, sys.argv[1:])
DIGITS = open_data("digits")


def arrays(split: str) -> tuple[Any, Any]:
    samples = getattr(DIGITS, split)
    batch = samples.read(np.arange(samples.n))
    (values,) = batch.inputs.values()
    return np.asarray(values, np.float32), batch.targets


TRAIN, TEST = arrays("train"), arrays("test")


def demo() -> Any:
    return keras.models.load_model(DEMO, compile=False)


def accuracy(model: Any) -> float:
    return float(np.mean(model.predict(TEST[0], verbose=0).argmax(axis=1) == TEST[1]))


def kernels(model: Any) -> dict[str, Any]:
    return {v.path: v.numpy() for v in model.trainable_weights if v.name == "kernel"}


def fit(model: Any, optimizer: Any, callbacks: Sequence[Any], epochs: int = 2) -> None:
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    # Made by the first step, its variables have TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_weights)
    keras.utils.set_random_seed(0)
    model.fit(*TRAIN, batch_size=32, epochs=epochs, callbacks=callbacks, verbose=0)


def deflated(model: Any) -> int:
    path = FOLDER / "model.tflite"
    with InProcess() as tensorflow:
        tensorflow.load(model)
        tensorflow.lower(path)
    return len(zlib.compress(path.read_bytes(), 9))


def one_shot(initial: Any) -> dict[str, Any]:
    model = demo()
    report = cluster(model, 16, initial=initial)
    return {"distinct": dict(report.distinct), "accuracy": accuracy(model)}


def tuned(optimizer: Any, clusters: int = 16) -> dict[str, Any]:
    model = demo()
    callback = clustering_callback(clusters)
    fit(model, optimizer, [callback])
    model.save(FOLDER / "clustered.keras")
    loaded = keras.models.load_model(FOLDER / "clustered.keras")
    once = demo()
    cluster(once, clusters)
    return {
        "accuracy": accuracy(loaded),
        "distinct": dict(callback.clustering().distinct),
        "trained": any(
            not np.array_equal(kernel, kernels(once)[name])
            for name, kernel in kernels(loaded).items()
        ),
        "plain": loaded.get_config() == demo().get_config(),
        "deflated": [deflated(demo()), deflated(loaded)],
    }


def pruned() -> dict[str, Any]:
    model = demo()
    prune(model, 0.5)
    before, zeros = sparsity_of(model), {n: k == 0 for n, k in kernels(model).items()}
    callback = clustering_callback(16, exclude=["output"])
    fit(model, keras.optimizers.SGD(0.01, momentum=0.9), [callback], epochs=1)
    halfway = {name: np.unique(kernel, return_inverse=True)[1] for name, kernel in values(model)}
    # another training on the same model finds the same clusters
    fit(model, keras.optimizers.Adam(1e-3), [clustering_callback(16, exclude=["output"])], 1)
    after = dict(values(model))
    return {
        "before": before,
        "after": sparsity_of(model),
        "same zeros": all(
            np.array_equal(after[name] == 0, zeros[name]) for name in zeros if "output" not in name
        ),
        "tied": all(
            len(np.unique(after[name][codes == code])) == 1
            for name, codes in halfway.items()
            for code in np.unique(codes)
        ),
        "negative zeros": sum(int(np.sum((k == 0) & np.signbit(k))) for k in after.values()),
        "distinct": distinct_of(model),
        "left alone": dict(callback.clustering().left_alone),
    }


def values(model: Any) -> list[tuple[str, Any]]:
    return [(name, kernel) for name, kernel in kernels(model).items() if "output" not in name]


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


tf.config.experimental.enable_op_determinism()
answer = {
    "float": accuracy(demo()),
    "linear": one_shot("linear"),
    "density": one_shot("density"),
    "adam": tuned(keras.optimizers.Adam(1e-3)),
    "sgd": tuned(keras.optimizers.SGD(0.01, momentum=0.9)),
    "pruned": pruned(),
    "refusals": {
        "one": error_of(lambda: cluster(demo(), 1)),
        "none": error_of(lambda: cluster(demo(), 16, exclude=[".*"])),
        "layer": error_of(lambda: cluster(demo(), 16, exclude=["conv9"])),
    },
}
print(json.dumps(answer))

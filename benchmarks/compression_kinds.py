"""Compression of kinds of layers that the published models lack, and `qat` against int8 without it.

A separable CNN (SeparableConv2D), a transformer block (MultiHeadAttention, LayerNormalization,
Embedding of positions) and an LSTM, on 6,000 samples of Fashion-MNIST, a picture or its 28 rows,
and 2,000 for the test. Lines are made as those of `compression`, with three epochs. Training
is small enough for all to take ten minutes; `python -m benchmarks.compression_kinds KIND...` shows
the lines of some.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from benchmarks.compression import KEPT, Subject, Task, compress, lines

import edgekit
from edgekit.data import open_data

SAMPLES = {"train": 6000, "test": 2000}
EPOCHS = 8
LEARNING_RATE = 2e-3
TASKS = (
    Task("qat int8", "qat", mode="int8", bound="drop within its interval"),
    Task("qat int4 weights", "qat", {"bits": 4}, mode="int8"),
    Task("prune 50 %", "prune", {"sparsity": 0.5}, bound="drop <= 0.3"),
    Task("shrink half of the MACs", "shrink", {"share": 0.5}, bound="drop <= 1"),
    Task("cluster 16", "cluster", {"clusters": 16}, bound="drop <= 0.5"),
)


def measure(kinds: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Train what is missing, then score and time it."""
    subjects = [_subject(kind) for kind in kinds or tuple(KINDS)]
    for subject in subjects:
        compress(subject, _tasks(subject))
    return [line for subject in subjects for line in lines(subject, _tasks(subject))]


def _tasks(subject: Subject) -> list[Task]:
    # No layer of the LSTM has channels that shrink removes.
    return [task for task in TASKS if task.step != "shrink" or subject.name != "lstm"]


def _subject(kind: str) -> Subject:
    """Return a trained model; train it, and make its float32 and int8 files, if it is missing."""
    folder = KEPT / kind
    subject = Subject(
        name=kind,
        model=folder / f"{kind}.keras",
        data=str(folder / "data.npz"),
        made=folder / "quantized",
        learning_rate=LEARNING_RATE,
        epochs=3,
    )
    if not subject.made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _train(kind, subject)
        edgekit.quantize(
            subject.model,
            data=subject.data,
            modes=["float32", "int8"],
            output=subject.made,
            latency=False,
        )
    return subject


def _train(kind: str, subject: Subject) -> None:
    import keras

    dataset, arrays = open_data("fashion-mnist"), {}
    for split, count in SAMPLES.items():
        batch = getattr(dataset, split).read(np.arange(count))
        (pictures,) = batch.inputs.values()
        shape = (28, 28, 1) if kind == "separable" else (28, 28)
        arrays[f"x_{split}"] = np.asarray(pictures, np.float32).reshape(-1, *shape)
        arrays[f"y_{split}"] = batch.targets
    np.savez(subject.data, **arrays)
    keras.utils.set_random_seed(0)
    start = keras.Input(arrays["x_train"].shape[1:], name="x")
    features = keras.layers.Dropout(0.2)(KINDS[kind](start))
    last = keras.layers.Dense(10, activation="softmax", name="garment")(features)
    model = keras.Model(start, last, name=kind)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy")
    model.fit(arrays["x_train"], arrays["y_train"], batch_size=64, epochs=EPOCHS, verbose=0)
    model.save(subject.model)


def _separable(x: Any) -> Any:
    from keras import layers

    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    for number, (width, stride) in enumerate(((32, 1), (48, 2), (64, 1)), 1):
        x = layers.SeparableConv2D(
            width, 3, strides=stride, padding="same", use_bias=False, name=f"separable{number}"
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return layers.GlobalAveragePooling2D(name="mean")(x)


def _transformer(x: Any) -> Any:
    import keras
    from keras import layers

    steps, width = x.shape[1], 48
    places = layers.Embedding(steps, width, name="places")(
        keras.ops.arange(steps, dtype="int32")[None]
    )
    x = layers.Add(name="placed")([layers.Dense(width, name="entry")(x), places])
    attended = layers.MultiHeadAttention(3, 16, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm1")(layers.Add(name="kept1")([x, attended]))
    inner = layers.Dense(96, activation="relu", name="inner")(x)
    inner = layers.Dense(width, name="outer")(inner)
    x = layers.LayerNormalization(name="norm2")(layers.Add(name="kept2")([x, inner]))
    return layers.GlobalAveragePooling1D(name="mean")(x)


def _lstm(x: Any) -> Any:
    from keras import layers

    return layers.Dense(32, activation="relu", name="hidden")(layers.LSTM(48, name="lstm")(x))


KINDS = {"separable": _separable, "transformer": _transformer, "lstm": _lstm}


if __name__ == "__main__":
    measure(tuple(sys.argv[1:]))

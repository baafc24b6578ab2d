"""Build the zoo and print the results as JSON: run by test_training_runs.py."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit.data import bind, open_data
from edgekit.data.heads import head_beside
from edgekit.errors import DataError, EdgekitError
from edgekit.evaluation.scores import scored_output
from edgekit.evaluation.tasks import task_named
from edgekit.training import build, load_config
from edgekit.training.samples import specs_of
from edgekit.training.zoo.applications import APPLICATIONS

BUILT: dict[str, tuple[tuple[int, ...], int, Any]] = {
    "resnet8": ((32, 32, 3), 10, "classification"),
    "ds_cnn": ((49, 10, 1), 12, "classification"),
    "mobilenet_v1:0.25": ((96, 96, 3), 2, "classification"),
    "mobilenet_v2:0.33": ((96, 96, 1), 2, "classification"),
    "mobilenet_v2": ((96, 96, 3), 1000, "classification"),
    "autoencoder": ((640,), 0, "reconstruction"),
    "cnn1d": ((30, 14), 1, "regression"),
    "cnn1d_dense": ((30, 14), 1, "regression"),
    "tcn": ((30, 14), 1, "regression"),
    "lstm": ((128, 9), 6, "classification"),
    "gru": ((128, 9), 6, "multi-label"),
    "cnn": ((28, 28, 1), 10, "classification"),
    "unet": ((64, 48, 3), 4, "segmentation"),
    "ssd": ((100, 70, 3), 3, "detection"),
    "mobilenet_v3_small": ((32, 32, 3), 4, "classification"),
}
REFUSED: dict[str, tuple[Any, ...]] = {
    "option": ("cnn", (8, 8, 1), 10, {"width": [[4]]}),
    "axes": ("cnn", (30, 14), 10, {}),
    "small": ("mobilenet_v2", (8, 8, 3), 10, {}),
    "task": ("cnn", (8, 8, 1), 10, {"task": "reconstruction"}),
    "strides": ("ds_cnn", (49, 10, 1), 10, {"blocks": [8], "strides": [1, 1]}),
    "no filters": ("cnn1d", (30, 14), 10, {"filters": []}),
    "no units": ("lstm", (30, 14), 10, {"units": []}),
    "type": ("cnn", (8, 8, 1), 10, {"widths": 3}),
    "pooled away": ("cnn", (2, 2, 1), 10, {}),
}


def built(name: str, folder: str) -> dict[str, Any]:
    shape, outputs, task = BUILT[name]
    model = build(name, shape, outputs, task=task)
    model.save(f"{folder}/model.keras")
    loaded = keras.models.load_model(f"{folder}/model.keras")
    return {
        "parameters": model.count_params(),
        # as text: a file knows no tuples
        "same": json.dumps(loaded.get_config()) == json.dumps(model.get_config()),
        "output": list(model.output_shape),
        "last": model.layers[-1].get_config().get("activation"),
        "momentum": sorted(
            {layer.momentum for layer in model.layers if hasattr(layer, "momentum")}
        ),
    }


def refused(label: str) -> str:
    name, shape, outputs, options = REFUSED[label]
    try:
        build(name, shape, outputs, **options)
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"
    return "built"


def as_published(weights: Path) -> bool:
    """Whether the configuration beside published weights still builds their architecture."""
    config = load_config(weights.with_name("model.toml"))
    model = keras.models.load_model(weights)
    last = model.layers[-1].output
    again = build(
        config.architecture,
        model.input_shape[1:],
        last.shape[-1],
        task=config.task or "classification",
        **config.options,
    )
    told = (json.dumps(found.get_config()) for found in (again, model))
    return len(set(told)) == 1


def causal() -> list[int]:
    """The steps that change a tcn's answer: none beyond its receptive field."""
    model = build("tcn", (64, 2), 3, kernel=2, dilations=[1, 2, 4])
    x = np.random.default_rng(0).normal(size=(1, 64, 2)).astype(np.float32)
    changed = np.repeat(x, 64, axis=0)
    changed[np.arange(64), np.arange(64)] += 5.0
    answers = np.asarray(model(np.concatenate([x, changed]), training=False))
    return np.flatnonzero(np.abs(answers[1:] - answers[:1]).max(axis=1) > 0).tolist()


def score(weights: Path) -> float | None:
    """Score on the test split by the task's metric; None where the data is not here."""
    config = load_config(weights.with_name("model.toml"))
    model = keras.models.load_model(weights)
    head = head_beside(weights)
    try:
        opened = open_data(config.data, preprocessing=config.preprocessing, task=config.task)
    except DataError:
        return None
    opened = replace(opened, train=None, calibrate=None, head=None if head is None else head[0])
    bound = bind(opened, specs_of(model.inputs), specs_of(model.outputs, model.output))
    assert bound.test is not None
    assert bound.task is not None
    batch = bound.test.read(np.arange(bound.test.n))
    (inputs,) = batch.inputs.values()
    predicted = model.predict(np.asarray(inputs, np.float32), batch_size=64, verbose=0)
    outputs = predicted if isinstance(predicted, dict) else {"output": predicted}
    task = task_named(bound.task)
    columns = task.per_sample(scored_output(outputs, None, head=bound.head), batch)
    return task.metrics[0].value(task.complete(columns))


listed = sorted(name for name in dir(keras.applications) if name[0].isupper())
answer = {
    "built": {name: built(name, sys.argv[1]) for name in BUILT},
    "refused": {label: refused(label) for label in REFUSED},
    "as published": as_published(Path(next(p for p in sys.argv[2:] if "turbofan" in p))),
    "causal": causal(),
    "windows": {
        name: build(name, (128, 9), 6).count_params() for name in ("cnn1d", "tcn", "lstm", "gru")
    },
    "scores": {path: score(Path(path)) for path in sys.argv[2:]},
    "every application": listed == sorted(APPLICATIONS),
}
print(json.dumps(answer))

"""Fine-tune and print the results as JSON: run by test_finetuning.py."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit import sources
from edgekit.data import open_data
from edgekit.errors import ConversionError
from edgekit.recipe import Cluster, Prune
from edgekit.records import DataRequest
from edgekit.training import passes
from edgekit.training.clustering import distinct_of
from edgekit.training.finetuning import FineTuning, Tuning, teach
from edgekit.training.learner import after_each_step, learner_class
from edgekit.training.losses import compiled
from edgekit.training.sequence import inputs_of

FOLDER, DEMO = Path(sys.argv[1]), Path(sys.argv[2])
DIGITS = open_data("digits")
DIGITS_DATA = DataRequest(data="digits")
layers = keras.layers


def loaded(path: Path = DEMO) -> Any:
    return sources.load(path)


def distilled() -> dict[str, float]:
    """The loss of a model beside its own teacher, and beside a teacher that knows nothing."""
    found = loaded()
    place = FOLDER / "teacher.npy"
    tuning = Tuning(data=DIGITS_DATA, epochs=1)
    teach(found.model, found.source, tuning=tuning, destination=place)
    fine = FineTuning(found.model, found.source, replace(tuning, teacher=place))
    taught = np.load(place)
    batch = fine.training.read(np.arange(fine.training.n))
    inputs = inputs_of(batch)
    outputs = found.model(inputs, training=False)
    learner = fine._learner(found.model, taught)
    learner.compile(loss=fine._loss_of(found.model))

    def loss(targets: Any) -> float:
        return float(learner.compute_loss(inputs, targets, outputs))

    return {
        "rows": len(taught) - fine.training.n,
        "labels": loss(batch.targets),
        "own": loss((batch.targets, taught)),
        "ignorant": loss((batch.targets, np.full_like(taught, 0.1))),
        "trained": fine.train(found.model)["accuracy"],
    }


def worse() -> dict[str, Any]:
    found = loaded()
    weights = found.model.get_weights()
    tuning = Tuning(data=DIGITS_DATA, epochs=50, learning_rate=0.3, patience=2)
    told = []
    fine = FineTuning(found.model, found.source, tuning, told.append)
    before = fine.evaluate(found.model)
    after = fine.train(found.model)
    same = all(
        np.array_equal(a, b) for a, b in zip(weights, found.model.get_weights(), strict=True)
    )
    return {
        "same": same,
        "figures": [before, after],
        "epochs": max(progress.done for progress in told),
        "told": told[-1].detail,
    }


def diverged() -> str:
    found = loaded()
    tuning = Tuning(data=DIGITS_DATA, epochs=3, learning_rate=1e30)
    try:
        FineTuning(found.model, found.source, tuning).train(found.model)
    except ConversionError as error:
        return str(error)
    return ""


def repeated() -> bool:
    made = []
    for name in ("one", "other"):
        found = loaded()
        passes.prune(
            found.model,
            found.source,
            step=Prune(),
            tuning=Tuning(data=DIGITS_DATA, epochs=2),
            destination=FOLDER / f"{name}.keras",
        )
        made.append((FOLDER / f"{name}.keras").read_bytes())
    return made[0] == made[1]


def small(name: str, last: Any, dtype: Any = None) -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, strides=2, use_bias=False, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(10, activation=last, dtype="float32"),
        ],
        name=name,
    )


def losses() -> dict[str, Any]:
    """What is learned: by the compiled loss, and by what the outputs are."""
    found = {}
    for name, last, loss in (
        ("one-hot", "softmax", keras.losses.CategoricalCrossentropy()),
        ("hinge", None, keras.losses.MeanAbsoluteError()),
        ("uncompiled logits", None, None),
        ("uncompiled probabilities", "softmax", None),
    ):
        model = small("net", last)
        if loss is not None:
            model.compile("adam", loss, metrics=["accuracy"])
        path = FOLDER / f"{name}.keras"
        model.save(path)
        again = loaded(path)
        chosen, metrics = compiled(
            again.model, again.source, replace(DIGITS, task="classification")
        )
        fine = FineTuning(again.model, again.source, Tuning(data=DIGITS_DATA, epochs=0))
        used = fine._loss_of(again.model)
        is_object = isinstance(used, keras.losses.Loss)
        outputs = np.eye(10, dtype=np.float32)[[3, 5]] / 2
        found[name] = {
            "compiled": type(chosen).__name__,
            "metrics": metrics,
            "used": type(used).__name__ if is_object else used.__name__,
            "logits": used.get_config().get("from_logits") if is_object else None,
            "value": float(np.mean(used(np.array([3, 5]), outputs))),
        }
    return found


def of_each_task() -> dict[str, Any]:
    """Loss of an untrained model of each task as the passes compute it, by hand, and trained."""
    batch = DIGITS.train.read(np.arange(DIGITS.train.n))
    x = np.asarray(next(iter(batch.inputs.values())), np.float32)
    bright, digit = np.digitize(x[..., 0], [0.3, 0.7]), batch.targets
    ignored = np.where(np.arange(8)[:, None] < 2, 255, bright)
    labels = np.stack([digit % 2 == 0, digit > 4], axis=1).astype(np.int64)
    maps, head = layers.Conv2D, [layers.Flatten(), layers.Dense(2)]
    found = {}
    for name, targets, body, loss in (
        ("labels", labels, head, None),
        ("masks", ignored, [maps(3, 1)], None),
        ("compiled masks", ignored, [maps(3, 1, activation="softmax")], "sparse"),
        ("binary masks", (bright > 0) * 255, [maps(1, 1)], None),
        ("ignored binary masks", np.minimum(ignored, 1) - 2 * (ignored > 2), [maps(1, 1)], None),
        ("compiled binary masks", bright > 0, [maps(1, 1, activation="sigmoid")], "binary"),
    ):
        model = keras.Sequential([keras.Input((8, 8, 1)), *body], name=name.replace(" ", "_"))
        if loss:
            kind = "sparse_categorical" if loss == "sparse" else "binary"
            model.compile("adam", f"{kind}_crossentropy", metrics=["accuracy"])
        path, place = FOLDER / f"{model.name}.npz", FOLDER / f"{model.name}.npy"
        np.savez(path, x_train=x, y_train=targets)
        model.save(FOLDER / f"{model.name}.keras")
        again = loaded(FOLDER / f"{model.name}.keras")
        tuning = Tuning(data=DataRequest(data=str(path)), epochs=2, learning_rate=0.03)
        fine = FineTuning(again.model, again.source, tuning)
        held = fine.validation.read(np.arange(fine.validation.n))
        outputs = np.asarray(again.model(inputs_of(held), training=False), np.float64)
        before, by_hand = fine.evaluate(again.model), cross_entropy(outputs, held.targets, loss)
        trained = fine.train(again.model)
        teach(again.model, again.source, tuning=tuning, destination=place)
        taught = FineTuning(again.model, again.source, replace(tuning, teacher=place))
        found[name] = {
            "task": fine.dataset.task,
            "before": before,
            "by hand": by_hand,
            "trained": trained,
            "taught": taught.train(again.model),
        }
    return found


def cross_entropy(outputs: Any, targets: Any, loss: str | None) -> float:
    """The mean over units, or over pixels that count; outputs are logits unless a loss is named.

    Where none is named, masks are also compared by what they have in common.
    """
    single = outputs.shape[-1] == 1
    if single or outputs.ndim == 2:
        chances = outputs if loss else 1 / (1 + np.exp(-outputs))
        truth = targets[..., None] if single else targets
        right = np.where(truth == 1, chances, 1 - chances)
        missed = 0 if loss or not single else 1 - overlap(chances, truth == 1, truth >= 0)
        return float(-np.log(right)[truth >= 0].mean() + missed)
    powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    chances = outputs if loss else powers / powers.sum(axis=-1, keepdims=True)
    there = targets >= 0
    kinds = range(1, outputs.shape[-1])
    shared = [overlap(chances[..., kind], targets == kind, there) for kind in kinds]
    missed = 0 if loss else 1 - np.mean(shared)
    return float(-np.log(chances[there, targets[there]]).mean() + missed)


def overlap(chances: Any, truth: Any, there: Any) -> float:
    """Dice, with one pixel more on both sides of the fraction."""
    both = 2 * (chances * truth)[there].sum() + 1
    return float(both / ((chances + truth)[there].sum() + 1))


def changed_after_steps() -> dict[str, list[int]]:
    """How often a change was made by training, and by the calls after it."""
    found = {}
    for kind, more in ((keras.Model, ()), (learner_class(), (None,))):
        net = small("net", "softmax")
        model = kind(net.inputs, net.outputs, *more)
        model.compile("sgd", "sparse_categorical_crossentropy")
        count = tf.Variable(0)
        called = after_each_step(model, lambda count=count: count.assign_add(1))
        batch = DIGITS.train.read(np.arange(96))
        model.fit(inputs_of(batch), batch.targets, batch_size=32, epochs=2, verbose=0)
        trained = int(count)
        called()
        # A step that is compiled takes no further change.
        after_each_step(model, lambda count=count: count.assign_add(10))()
        found[type(model).__name__] = [trained, int(count) - trained]
    return found


def mixed() -> dict[str, Any]:
    model = small("mixed", "softmax", keras.DTypePolicy("mixed_bfloat16"))
    adopted = sources.adopt(model)
    passes.prune(
        adopted.model,
        adopted.source,
        step=Prune(),
        tuning=Tuning(data=DIGITS_DATA, epochs=2),
        destination=FOLDER / "mixed.keras",
    )
    again = keras.models.load_model(FOLDER / "mixed.keras")
    kernel = again.layers[0].kernel
    return {
        "policy": again.layers[0].dtype_policy.name,
        "stored": str(kernel.dtype),
        "zeros": float(np.mean(np.asarray(kernel) == 0)),
    }


def clustered() -> dict[str, Any]:
    """A palette survives lowering only where normalization is in the kernel already."""
    model = small("normal", "softmax")
    adopted = sources.adopt(model)
    passes.cluster(
        adopted.model,
        adopted.source,
        step=Cluster(clusters=8),
        tuning=Tuning(data=DIGITS_DATA, epochs=1),
        destination=FOLDER / "clustered.keras",
    )
    again = keras.models.load_model(FOLDER / "clustered.keras")
    return {
        "layers": [type(layer).__name__ for layer in again.layers],
        "distinct": distinct_of(again),
    }


def excluded() -> dict[str, int]:
    """Folding takes layers out of nested models; what was excluded as a part of one stays so."""
    inner = small("inner", "relu")
    outer = keras.Sequential([keras.Input((8, 8, 1)), inner, layers.Dense(10, name="last")])
    adopted = sources.adopt(outer)
    passes.cluster(
        adopted.model,
        adopted.source,
        step=Cluster(clusters=8, exclude=("inner",)),
        tuning=Tuning(data=DIGITS_DATA, epochs=0),
        destination=FOLDER / "excluded.keras",
    )
    found = distinct_of(keras.models.load_model(FOLDER / "excluded.keras"))
    return {name: found[name] for name in (inner.layers[0].name, "last")}


print(
    json.dumps(
        {
            "distilled": distilled(),
            "worse": worse(),
            "diverged": diverged(),
            "repeated": repeated(),
            "losses": losses(),
            "of each task": of_each_task(),
            "excluded": excluded(),
            "mixed": mixed(),
            "changed after steps": changed_after_steps(),
            "clustered": clustered(),
        }
    )
)

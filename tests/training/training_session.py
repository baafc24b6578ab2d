"""Train on handwritten digits and print the results as JSON: run by test_training_runs.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit.data import open_data, training_split
from edgekit.errors import EdgekitError
from edgekit.records import Batch, Dataset, Samples
from edgekit.training import Augmentation, TrainingConfig, fit, samples, train

FOLDER = Path(sys.argv[1])
DIGITS = open_data("digits")
CONFIG = TrainingConfig(
    name="digits",
    architecture="cnn",
    options={"widths": [[12], [24, 24]]},
    data="digits",
    epochs=15,
    batch_size=32,
    learning_rate=0.01,
    label_smoothing=0.05,
    weight_decay=0.001,
    augment=Augmentation(shift=(1, 1)),
)
SHORT = replace(CONFIG, options={"widths": [[6], [6]]}, epochs=2)


def arrays(samples: Samples | None) -> tuple[Any, Any]:
    assert samples is not None
    batch = samples.read(np.arange(samples.n))
    (values,) = batch.inputs.values()
    return np.asarray(values, np.float32), batch.targets


def predicted(path: Path, inputs: Any) -> Any:
    return keras.models.load_model(path).predict(inputs, verbose=0)


def accuracy(path: Path, samples: Samples | None) -> float:
    inputs, targets = arrays(samples)
    return float(np.mean(predicted(path, inputs).argmax(axis=1) == targets))


def named(name: str) -> Path:
    return FOLDER / f"{name}.keras"


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def classifier() -> dict[str, Any]:
    told: list[Any] = []
    result = train(CONFIG, destination=named("first"), listener=told.append, log_dir=FOLDER / "log")
    _, validation = training_split(DIGITS)
    return {
        "test": accuracy(named("first"), DIGITS.test),
        "validation": accuracy(named("first"), validation),
        "value": result.value,
        "best": result.history["val_accuracy"][result.best_epoch - 1],
        "history": max(result.history["val_accuracy"]),
        "samples": [result.train_n, result.validation_n],
        "compiled": keras.models.load_model(named("first")).compiled,
        "log": [path.name.startswith("events") for path in (FOLDER / "log").iterdir()],
        "told": [[told[-1].done, told[-1].total], told[-1].detail],
    }


def unread(samples: Samples | None) -> Samples:
    assert samples is not None

    def refuse(_: Any) -> Batch:
        raise AssertionError("the test split was read")

    return replace(samples, read=refuse)


def variations() -> dict[str, Any]:
    train(SHORT, destination=named("short"))
    sizes = samples.MEMORY_BYTES
    samples.MEMORY_BYTES = 0
    train(SHORT, destination=named("streamed"))
    samples.MEMORY_BYTES = sizes
    train(replace(SHORT, seed=1), destination=named("other"))
    train(SHORT, destination=named("blind"), dataset=replace(DIGITS, test=unread(DIGITS.test)))
    short = named("short").read_bytes()
    return {
        "files": sorted(path.name for path in FOLDER.glob("*.keras")),
        "streamed": named("streamed").read_bytes() == short,
        "another seed": named("other").read_bytes() == short,
        "same, its test split unread": named("blind").read_bytes() == short,
    }


def interrupted() -> dict[str, Any]:
    def interrupt(progress: Any) -> None:
        if progress.done == 6:
            raise KeyboardInterrupt

    seconds = fit.CHECKPOINT_SECONDS
    fit.CHECKPOINT_SECONDS = 0
    try:
        train(CONFIG, destination=named("stopped"), listener=interrupt)
    except KeyboardInterrupt:
        left = sorted(path.name for path in FOLDER.glob("*stopped*"))
    fit.CHECKPOINT_SECONDS = seconds
    checkpoint = fit.checkpoint_path(named("stopped"))
    careful = replace(CONFIG, epochs=1, learning_rate=1e-6, augment=Augmentation())
    resumed = train(careful, destination=named("resumed"), initial=checkpoint)
    _, validation = training_split(DIGITS)
    return {
        "left": left,
        "checkpoint": accuracy(checkpoint, validation),
        "resumed": resumed.history["val_accuracy"][0],
    }


def ink() -> Dataset:
    """A regression in an awkward unit, on images without a channel axis."""
    made = {}
    for split in ("train", "test"):
        inputs, _ = arrays(getattr(DIGITS, split))
        made[f"x_{split}"] = inputs[..., 0]
        made[f"y_{split}"] = 5000 + 1000 * inputs.sum(axis=(1, 2, 3))
    np.savez(FOLDER / "ink.npz", **made)
    return open_data(str(FOLDER / "ink.npz"), task="regression")


def regression() -> dict[str, Any]:
    dataset = ink()
    config = replace(
        CONFIG, options={"widths": [[8], [16]], "dropout": 0.0}, label_smoothing=0.0, epochs=10
    )
    result = train(config, destination=named("ink"), dataset=dataset)
    _, validation = training_split(dataset)
    inputs, targets = arrays(validation)
    errors = predicted(named("ink"), inputs[..., None])[:, 0] - targets
    careful = replace(config, epochs=1, learning_rate=1e-7, augment=Augmentation())
    resumed = train(
        careful, destination=named("ink-resumed"), dataset=dataset, initial=named("ink")
    )
    return {
        "value": result.value,
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "std": float(targets.std()),
        "resumed": resumed.value,
        "last": keras.models.load_model(named("ink")).layers[-1].get_config()["activation"],
    }


def reconstruction() -> dict[str, Any]:
    options = {"width": 64, "code": 16, "depth": 1}
    config = replace(CONFIG, architecture="autoencoder", options=options, task="reconstruction")
    config = replace(config, label_smoothing=0.0, augment=Augmentation(), epochs=8)
    result = train(config, destination=named("autoencoder"))
    inputs, _ = arrays(DIGITS.test)
    rebuilt = predicted(named("autoencoder"), inputs)
    return {
        "history": result.history["val_mse"],
        "test": float(np.mean((rebuilt - inputs) ** 2)),
        "variance": float(np.mean((inputs - inputs.mean(axis=0)) ** 2)),
    }


def refusals() -> dict[str, str]:
    (FOLDER / "text.keras").write_text("no model")
    (FOLDER / "file").write_text("not a folder")
    inputs, targets = arrays(DIGITS.train)
    np.savez(FOLDER / "two.npz", x_train_a=inputs, x_train_b=inputs, y_train=targets)
    np.savez(FOLDER / "none.npz", x_train=inputs)

    def trying(name: str, **changes: Any) -> Callable[[], object]:
        given = {key: changes.pop(key) for key in ("initial",) if key in changes}
        return lambda: train(replace(SHORT, **changes), destination=named(name), **given)

    return {
        "diverged": error_of(trying("x", learning_rate=1e30)),
        "no model": error_of(trying("x", initial=named("text"))),
        "another model": error_of(trying("x", initial=named("autoencoder"))),
        "two inputs": error_of(trying("x", data=str(FOLDER / "two.npz"))),
        "no targets": error_of(trying("x", data=str(FOLDER / "none.npz"))),
        "no place": error_of(lambda: train(SHORT, destination=FOLDER / "file" / "x.keras")),
        "written": str(named("x").exists()),
    }


stopped = train(replace(CONFIG, learning_rate=1.0, epochs=40, patience=2), destination=named("e"))
answer = {
    "classifier": classifier(),
    "variations": variations(),
    "interrupted": interrupted(),
    "regression": regression(),
    "reconstruction": reconstruction(),
    "refusals": refusals(),
    "early": [stopped.epochs, stopped.best_epoch],
}
print(json.dumps(answer))

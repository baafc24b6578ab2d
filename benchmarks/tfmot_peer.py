"""Compress with tensorflow-model-optimization and the stock converter, as without edgekit.

python benchmarks/tfmot_peer.py MODEL FOLDER --epochs 3 [--tasks prune-50 ...]

A published model is rebuilt in tf_keras, layer by layer, with its trained weights. Each task wraps
it, fine-tunes it on the samples that edgekit fine-tunes on, strips it, and converts it; the weights
of the epoch with the best validation loss are kept, as by edgekit. If the whole model is refused,
the supported layers are wrapped one by one, as its guides say.

FOLDER gets `float32.tflite`, a `.tflite` for each task, and `tfmot.json`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("prune-50", "prune-80", "prune-2:4", "cluster-16", "qat-int8")
RESULT = "tfmot.json"
CLOSE = 1e-4


def environment() -> Path | None:
    """Install tfmot in a separate environment, once; return None and the reason if that fails."""
    folder = ROOT / ".cache" / "tfmot"
    if folder.exists():
        return folder
    version = importlib.metadata.version("tensorflow").rsplit(".", 1)[0]
    wanted = ["tensorflow-model-optimization>=0.8,<0.9", "dm-tree", "attrs", "six"]
    wanted += [f"tf_keras=={version}.*"]
    making = folder.with_name(f"tfmot.{os.getpid()}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(making), *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        print(f"tensorflow-model-optimization cannot be installed: {reason}", file=sys.stderr)
        return None
    (making / ".gitignore").write_text("*\n")
    making.rename(folder)
    return folder


def compress(
    model: str,
    folder: Path,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    tasks: Sequence[str] = TASKS,
) -> dict[str, dict[str, Any]] | None:
    """Run tasks in a separate process; return the content of `tfmot.json`, None if it cannot run.

    Each task has `file` (None if it failed), `refused` (why the whole model was not accepted, or
    None), `left_out` (the layers that were not wrapped), `validation` (figures of the weights
    kept), `seconds`, and the training it had.
    """
    if (packages := environment()) is None:
        return None
    command = [sys.executable, __file__, model, str(folder), "--tasks", *tasks]
    command += ["--epochs", str(epochs), "--learning-rate", str(learning_rate)]
    command += ["--batch-size", str(batch_size)]
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    made: dict[str, dict[str, Any]] = json.loads((folder / RESULT).read_text())
    return {task: made[task] for task in tasks}


@dataclass(frozen=True)
class Work:
    """A model and its training data."""

    config: list[dict[str, Any]]
    weights: dict[str, list[Any]]
    training: tuple[Any, Any]
    validation: tuple[Any, Any]
    calibration: Any
    classes: bool
    epochs: int
    learning_rate: float
    batch_size: int

    @property
    def steps(self) -> int:
        """Return the number of batches in all epochs."""
        return self.epochs * -(-len(self.training[0]) // self.batch_size)

    def build(self) -> Any:
        """Return a sequential tf_keras model of the same layers, with the trained weights."""
        import tf_keras

        shape = self.config[0]["config"]["batch_shape"][1:]
        tensor = start = tf_keras.Input(shape, name=self.config[0]["config"]["name"])
        for entry in self.config[1:]:
            kind = getattr(tf_keras.layers, entry["class_name"])
            taken = {*inspect.signature(kind).parameters, "name"}
            plain = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in entry["config"].items()
                if key in taken and value is not None and not isinstance(value, dict)
            }
            if entry["class_name"] == "BatchNormalization":
                plain["axis"] = -1
            tensor = kind(**plain)(tensor)
        model = tf_keras.Model(start, tensor)
        for name, values in self.weights.items():
            model.get_layer(name).set_weights(values)
        return model

    def fit(self, model: Any, callbacks: Sequence[Any], settled: int) -> dict[str, float]:
        """Fine-tune in place; keep the weights of the best epoch from `settled` on."""
        import tf_keras

        tf_keras.utils.set_random_seed(0)
        rate = tf_keras.optimizers.schedules.CosineDecay(self.learning_rate, self.steps)
        self.compile(model, rate)
        best: dict[str, Any] = {"val_loss": np.inf}

        def keep(epoch: int, figures: dict[str, float]) -> None:
            if epoch >= settled and figures["val_loss"] < best["val_loss"]:
                best.update(figures, weights=model.get_weights())

        keeper = tf_keras.callbacks.LambdaCallback(on_epoch_end=keep)
        model.fit(
            *self.training,
            batch_size=self.batch_size,
            epochs=self.epochs,
            validation_data=self.validation,
            callbacks=[*callbacks, keeper],
            verbose=0,
        )
        model.set_weights(best.pop("weights"))
        return {key: float(value) for key, value in best.items() if key.startswith("val_")}

    def compile(self, model: Any, rate: Any, **options: Any) -> None:
        """Compile a model with the task's default loss and Adam."""
        import tf_keras

        loss = "sparse_categorical_crossentropy" if self.classes else "mean_squared_error"
        metrics = ["accuracy"] if self.classes else []
        model.compile(tf_keras.optimizers.Adam(rate), loss, metrics=metrics, **options)


@dataclass(frozen=True)
class Way:
    """Functions of a task: wrap a model or a layer, train it, and unwrap it."""

    wrap: Callable[[Any], Any]
    finish: Callable[[Any], Any] = lambda model: model
    strip: Callable[[Any], Any] = lambda model: model
    callbacks: Callable[[], list[Any]] = list
    settled: int = 0


def way_of(task: str, work: Work) -> Way:
    import tensorflow_model_optimization as tfmot

    sparsity, clustering = tfmot.sparsity.keras, tfmot.clustering.keras
    if task == "cluster-16":
        wrap = partial(
            clustering.cluster_weights,
            number_of_clusters=16,
            cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
        )
        return Way(wrap, strip=clustering.strip_clustering)
    if task == "qat-int8":
        quantization = tfmot.quantization.keras

        def annotate(to_annotate: Any) -> Any:
            whole = hasattr(to_annotate, "layers")
            kind = "quantize_annotate_model" if whole else "quantize_annotate_layer"
            return getattr(quantization, kind)(to_annotate)

        return Way(annotate, finish=quantization.quantize_apply)
    if task == "prune-2:4":
        options = {
            "pruning_schedule": sparsity.ConstantSparsity(0.5, begin_step=0, frequency=1),
            "sparsity_m_by_n": (2, 4),
        }
        settled = 0
    else:
        schedule = sparsity.PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=int(task.removeprefix("prune-")) / 100,
            begin_step=0,
            end_step=max(1, work.steps // 2),
            frequency=max(1, work.steps // 40),
        )
        options, settled = {"pruning_schedule": schedule}, work.epochs // 2
    return Way(
        partial(sparsity.prune_low_magnitude, **options),
        strip=sparsity.strip_pruning,
        callbacks=lambda: [sparsity.UpdatePruningStep()],
        settled=settled,
    )


def wrapped(way: Way, work: Work) -> tuple[Any, str | None, list[str]]:
    """Return the wrapped model, why not all of it is wrapped, and the layers left out."""
    try:
        return _tried(way, work, None), None, []
    except (ValueError, RuntimeError, TypeError) as error:
        refusal = one_line(error)
    accepted, left_out = [], []
    for entry in work.config[1:]:
        name = entry["config"]["name"]
        try:
            _tried(way, work, [name])
        except (ValueError, RuntimeError, TypeError):
            left_out.append(name)
        else:
            accepted.append(name)
    return _tried(way, work, accepted), refusal, left_out


def one_line(error: Exception) -> str:
    """Return an error's message without the list of arguments that Keras appends."""
    return " ".join(str(error).split("Call arguments received")[0].split())


def _tried(way: Way, work: Work, names: Sequence[str] | None) -> Any:
    """Return a wrapped model, after one training step of another like it succeeded."""
    import tf_keras

    def some(layer: Any) -> Any:
        return way.wrap(layer) if layer.name in (names or ()) else layer

    def made() -> Any:
        model = work.build()
        if names is None:
            return way.finish(way.wrap(model))
        return way.finish(tf_keras.models.clone_model(model, clone_function=some))

    trial = made()
    work.compile(trial, 1e-6, run_eagerly=True)
    few = [values[:4] for values in work.training]
    trial.fit(*few, callbacks=way.callbacks(), verbose=0)
    return made()


def convert(model: Any, calibration: Any = None) -> bytes:
    """Return the stock converter's file; fully int8 if there are calibration samples."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:

        def representative() -> Iterator[list[Any]]:
            for sample in calibration:
                yield [sample[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def prepare(name: str, epochs: int, learning_rate: float, batch_size: int) -> Work:
    """Rebuild the published model in tf_keras, check it, and return it with its samples."""
    import keras

    from edgekit.data import bind, open_data, training_split
    from edgekit.records import Samples
    from edgekit.training.samples import resident, specs_of

    folder = ROOT / "models" / name
    source = keras.saving.load_model(folder / f"{name}.keras", compile=False)
    spec = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))["data"]["source"]
    dataset = bind(open_data(spec), specs_of(source.inputs), specs_of(source.outputs))
    classes = dataset.task == "classification"

    def arrays(samples: Samples) -> tuple[Any, Any]:
        batch = resident(samples).read(np.arange(samples.n))
        assert batch.targets is not None
        (inputs,) = batch.inputs.values()
        return inputs, batch.targets if classes else batch.targets.reshape(samples.n, -1)

    training, validation = map(arrays, training_split(dataset))
    assert dataset.calibrate is not None
    work = Work(
        config=source.get_config()["layers"],
        weights={layer.name: layer.get_weights() for layer in source.layers if layer.weights},
        training=training,
        validation=validation,
        calibration=arrays(dataset.calibrate)[0],
        classes=classes,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
    )
    theirs, ours = (
        np.asarray(model(work.calibration, training=False)) for model in (source, work.build())
    )
    furthest = np.abs(theirs - ours).max()
    if not furthest <= CLOSE * max(1, np.abs(theirs).max()):
        raise SystemExit(f"{name} rebuilt in tf_keras is {furthest:.2g} from the model it is.")
    return work


def run(task: str, work: Work, folder: Path) -> dict[str, Any]:
    begun = time.perf_counter()
    result: dict[str, Any] = {
        "file": None,
        "epochs": work.epochs,
        "learning_rate": work.learning_rate,
        "batch_size": work.batch_size,
    }
    try:
        way = way_of(task, work)
        model, result["refused"], result["left_out"] = wrapped(way, work)
        result["validation"] = work.fit(model, way.callbacks(), way.settled)
        content = convert(way.strip(model), work.calibration if task == "qat-int8" else None)
    except Exception as error:
        result["failed"] = f"{type(error).__name__}: {one_line(error)}"
    else:
        result["file"] = f"{task.replace(':', '-')}.tflite"
        (folder / result["file"]).write_bytes(content)
    return {**result, "seconds": round(time.perf_counter() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a folder's name in models/")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    given = parser.parse_args()
    if importlib.util.find_spec("tensorflow_model_optimization") is None:
        packages = environment()
        if packages is None:
            raise SystemExit(1)
        sys.path.insert(0, str(packages))
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # read when TensorFlow is imported
    work = prepare(given.model, given.epochs, given.learning_rate, given.batch_size)
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "float32.tflite").write_bytes(convert(work.build()))
    place = given.folder / RESULT
    results = json.loads(place.read_text()) if place.exists() else {}
    for task in given.tasks:
        results[task] = run(task, work, given.folder)
        place.write_text(json.dumps(results, indent=2) + "\n")
        print(task, json.dumps(results[task]), flush=True)


if __name__ == "__main__":
    main()

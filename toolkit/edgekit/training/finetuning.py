"""A short training of a model that exists already, to win back what a pass lost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data import bind, split_of, training_split
from edgekit.errors import ConversionError
from edgekit.records import Batch, Dataset, Listener, Progress, Samples, Task, TensorSpec, silent


def bound_to(model: Any, dataset: Dataset, task: Task | None = None) -> Dataset:
    """The training split of `dataset`, checked against the model; the test split stays out.

    Raises:
        DataError: There is no training split, or it does not fit the model.
    """
    train = split_of(dataset, "train")
    return bind(
        replace(dataset, train=train, calibrate=None, test=None, task=task or dataset.task),
        [_spec(tensor) for tensor in model.inputs],
        [_spec(tensor) for tensor in model.outputs],
    )


def steps_of(samples: Samples, batch_size: int) -> int:
    """Batches in one walk through the samples."""
    return max(1, samples.n // batch_size)


def finetune(
    model: Any,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
    listener: Listener = silent,
) -> dict[str, float]:
    """Train a Keras model in place; the learning rate falls along a cosine.

    A loss the model was compiled with is kept; otherwise it is the task's usual one.

    Args:
        model: Any built Keras model.
        dataset: From `bound_to`; a tenth of its training split is kept back to judge by.
        epochs: Walks through the training samples; with 0 only the judgement is made.
        batch_size: Samples a step.
        learning_rate: Where the cosine begins.
        seed: Of the order of samples and of dropout.
        callbacks: Keras callbacks, such as `pruning.pruning_callback`.
        listener: Hears of every epoch.

    Returns:
        The figures on the samples kept back: `loss`, and the metric where there is one.

    Raises:
        ConversionError: Training diverged.
    """
    import keras

    keras.utils.set_random_seed(seed)
    training, validation = training_split(dataset)
    steps = steps_of(training, batch_size) * max(1, epochs)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))
    # Another model of the same layers: the one that is saved stays as it was compiled, if it was.
    functional = bool(getattr(model, "inputs", None))
    learner = keras.Model(model.inputs, model.outputs) if functional else model
    metrics = ["accuracy"] if dataset.task == "classification" else []
    learner.compile(optimizer, _loss(model, dataset), metrics=metrics, jit_compile=False)
    begun = time.monotonic()

    def tell(epoch: int, logs: dict[str, float] | None) -> None:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in (logs or {}).items())
        left = (time.monotonic() - begun) / (epoch + 1) * (epochs - epoch - 1)
        detail = f"{figures}, {left:.0f} s left"
        listener(Progress(stage="fine-tuning", done=epoch + 1, total=epochs, detail=detail))

    if epochs:
        listener(Progress(stage="fine-tuning", total=epochs))
        history = learner.fit(
            _sequence(training, batch_size, seed),
            epochs=epochs,
            callbacks=[*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=tell)],
            verbose=0,
        )
        if not math.isfinite(history.history["loss"][-1]):
            raise ConversionError(
                "Fine-tuning diverged: the loss is no number any more.",
                cure=f"Lower the learning rate (it is {learning_rate:g}).",
            )
    judged = learner.evaluate(_sequence(validation, 256, None), verbose=0, return_dict=True)
    return {name: float(value) for name, value in judged.items()}


def _loss(model: Any, dataset: Dataset) -> Any:
    """The loss the model was compiled with, or the task's usual one."""
    import keras

    given = getattr(model, "loss", None)
    # Labels are whole numbers here, whatever they were when the model was compiled.
    one_hot = given == "categorical_crossentropy" or isinstance(
        given, keras.losses.CategoricalCrossentropy
    )
    if given and not one_hot:
        return given
    if dataset.task != "classification":
        return keras.losses.MeanSquaredError()
    if model.outputs[0].shape[-1] == 1:
        return keras.losses.BinaryCrossentropy()
    logits = getattr(model.layers[-1], "activation", None) is keras.activations.linear
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def _sequence(samples: Samples, batch_size: int, seed: int | None) -> Any:
    """Keras's view of the samples; shuffled anew for every epoch where there is a seed."""
    import keras

    class Sequence(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.epoch = 0
            self.on_epoch_end()

        def __len__(self) -> int:
            return math.ceil(samples.n / batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            rows = self.order[index * batch_size : (index + 1) * batch_size]
            batch = samples.read(rows)
            return _inputs(batch), _targets(batch)

        def on_epoch_end(self) -> None:
            self.order = np.arange(samples.n)
            if seed is not None:
                self.order = np.random.default_rng([seed, self.epoch]).permutation(samples.n)
            self.epoch += 1

    return Sequence()


def _inputs(batch: Batch) -> Any:
    values = tuple(batch.inputs.values())
    return values[0] if len(values) == 1 else dict(batch.inputs)


def _targets(batch: Batch) -> Any:
    # A reconstruction learns its inputs.
    return next(iter(batch.inputs.values())) if batch.targets is None else batch.targets


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(name=tensor.name, shape=(1, *tensor.shape[1:]), dtype=tensor.dtype)

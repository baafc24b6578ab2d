"""What a model is fine-tuned for: its own compiled loss, or the task's usual one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from edgekit.archives import read_member
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.records import Array, Dataset, Source

# Hinton et al. 2015 find 2.5 to 4 best for small students; keras.distillation's default.
TEMPERATURE: Final = 3.0
_SMALLEST_PROBABILITY: Final = 1e-7


def compiled(model: Any, source: Source, dataset: Dataset) -> tuple[Any, list[Any]]:
    """The loss and the metrics that a model was compiled with, alive or in its file.

    Labels are whole numbers here, so what wants them one-hot becomes what does not.

    Returns:
        The loss, or None where there is none that can be used; and metrics, by default accuracy
        for classes.
    """
    import keras

    loss, metrics = getattr(model, "loss", None), None
    if loss is None:
        config = _compile_config(source)
        try:
            loss, metrics = (
                keras.saving.deserialize_keras_object(config.get(key), safe_mode=True)
                for key in ("loss", "metrics")
            )
        except (TypeError, ValueError, KeyError):  # of the user's own making, and not here
            loss = None
    if isinstance(loss, (dict, list, tuple)):  # one for each output: targets belong to the first
        loss = next(iter(loss.values() if isinstance(loss, dict) else loss), None)
    if loss == "categorical_crossentropy":
        loss = "sparse_categorical_crossentropy"
    elif isinstance(loss, keras.losses.CategoricalCrossentropy):
        logits = bool(loss.get_config().get("from_logits"))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    if not isinstance(metrics, list) or not all(_plain(metric) for metric in metrics):
        metrics = ["accuracy"] if dataset.task == CLASSIFICATION.name else []
    return loss, metrics


def usual_loss(task: str | None, outputs: Array) -> Any:
    """The usual loss of a task for what a model computes.

    Args:
        task: What the targets mean.
        outputs: Some outputs of the model, `[n, ...]`, which tell probabilities from logits.
    """
    import keras

    if task != CLASSIFICATION.name:
        return keras.losses.MeanSquaredError()
    logits = not _are_probabilities(outputs)
    if outputs.shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def distillation(task: str | None, taught: Array) -> Callable[[Any, Any], Any]:
    """`loss(teacher's outputs, student's)`: how far a student is from its teacher.

    Classes: the divergence of softened probabilities (Hinton et al. 2015, section 2). All else:
    squares.

    Args:
        task: What the targets mean.
        taught: The teacher's outputs, `[n, ...]`.
    """
    import keras
    from keras import ops

    if task != CLASSIFICATION.name:
        return keras.losses.MeanSquaredError()  # type: ignore[no-any-return]  # Keras has no types
    probabilities = _are_probabilities(taught)
    if taught.shape[-1] == 1:
        binary = keras.losses.BinaryCrossentropy(from_logits=not probabilities)
        return lambda teacher, student: binary(
            teacher if probabilities else ops.sigmoid(teacher), student
        )
    # By its name the divergence would be taken of logits (Keras 3.15), and be 0.
    divergence = keras.losses.KLDivergence()
    soft = keras.distillation.LogitsDistillation(temperature=TEMPERATURE, loss=divergence)

    def logits(values: Any) -> Any:
        return ops.log(ops.maximum(values, _SMALLEST_PROBABILITY)) if probabilities else values

    return lambda teacher, student: soft.compute_loss(logits(teacher), logits(student))


def _are_probabilities(outputs: Array) -> bool:
    if (outputs < 0).any() or (outputs > 1).any():
        return False
    return outputs.shape[-1] == 1 or bool(np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-2))


def _plain(metric: Any) -> bool:
    """Whether a metric is one for whole-number labels, known by its name."""
    return metric in ("accuracy", "sparse_categorical_accuracy", "mae", "mse")


def _compile_config(source: Source) -> dict[str, Any]:
    """What a `.keras` file says of how its model was compiled."""
    try:
        document = json.loads(read_member(source.path, "config.json"))
        config = document.get("compile_config")
    except (OSError, KeyError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}

"""Losses of fine-tuning: the model's compiled loss, or the default of the task."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np

from edgekit.archives import read_member
from edgekit.evaluation.metrics import BINARY_ACCURACY
from edgekit.evaluation.tasks import CLASSIFICATION, DETECTION, MULTI_LABEL, SEGMENTATION
from edgekit.evaluation.tasks.class_labels import are_shares
from edgekit.evaluation.tasks.segmentation import IGNORED
from edgekit.records import Array, Dataset, Source

# Temperature. Hinton et al. 2015 find 2.5 to 4 best for small students; Keras's default.
TEMPERATURE: Final = 3.0
_SMALLEST_PROBABILITY: Final = 1e-7


_OF_CLASSES: Final = (CLASSIFICATION.name, SEGMENTATION.name)
# By Keras's names of metrics, of which ours is one.
_USUAL_METRICS: Final = {
    CLASSIFICATION.name: ["accuracy"],
    MULTI_LABEL.name: [BINARY_ACCURACY.name],
}

FileLoss = Literal["safe", "trusted", "ignored"]
"""How the loss in a model's file is read: without code, with the code it holds, or not at all."""


def compiled(
    model: Any, source: Source, dataset: Dataset, file_loss: FileLoss = "safe"
) -> tuple[Any, list[Any]]:
    """Return the loss and the metrics that a model, or the model in its file, was compiled with.

    Labels are integers here, so losses for one-hot labels are replaced by their sparse forms, and
    those of masks by forms that leave out ignored pixels.

    Args:
        model: The model; a loss it was compiled with in this process is used as it is.
        source: Its source; only a `.keras` file has a compile configuration that is read.
        dataset: The data, with its task.
        file_loss: Whether that configuration is used.

    Returns:
        The loss, or None where none can be used; and metrics that are means over samples, by
        default accuracy for classes.
    """
    import keras

    if dataset.task == DETECTION.name:  # compiled losses take boxes encoded by code of their own
        return None, []
    loss, metrics = getattr(model, "loss", None), None
    if loss is None and file_loss != "ignored":
        config = _compile_config(source)
        try:
            loss, metrics = (
                keras.saving.deserialize_keras_object(
                    config.get(key), safe_mode=file_loss != "trusted"
                )
                for key in ("loss", "metrics")
            )
        except (TypeError, ValueError, KeyError):  # the user's own, not available here
            loss = None
    names = [output.name for output in source.outputs]
    scored = dataset.output or names[0]
    if isinstance(loss, dict):  # one an output
        usual = None if dataset.output else next(iter(loss.values()), None)
        loss = loss.get(scored, usual)
    elif isinstance(loss, (list, tuple)):
        loss = next(iter(loss[names.index(scored) :]), None)
    if loss == "categorical_crossentropy":
        loss = "sparse_categorical_crossentropy"
    elif isinstance(loss, keras.losses.CategoricalCrossentropy):
        logits = bool(loss.get_config().get("from_logits"))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    elif dataset.task == CLASSIFICATION.name and loss is not None:
        loss = _for_labels(loss, source.outputs[names.index(scored)].shape[-1])
    if dataset.task == SEGMENTATION.name:  # the metric of pixels is `FineTuning.evaluate`'s
        return _for_masks(loss, source.outputs[names.index(scored)].shape[-1]), []
    if not isinstance(metrics, list) or not all(_plain(metric) for metric in metrics):
        metrics = _USUAL_METRICS.get(dataset.task or "", [])
    return loss, metrics


def loss_weight(source: Source, name: str) -> float:
    """Return the weight of an output's loss when its model was compiled; 1 where it is unknown.

    Args:
        source: The model's; only a `.keras` file has a compile configuration that is read.
        name: The output.
    """
    weights = _compile_config(source).get("loss_weights")
    if isinstance(weights, list):
        weights = dict(zip((spec.name for spec in source.outputs), weights, strict=False))
    weight = weights.get(name, 1.0) if isinstance(weights, dict) else 1.0
    known = isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0
    return float(weight) if known else 1.0


def usual_loss(task: str | None, outputs: Array) -> Any:
    """Return the default loss of a task for a model's outputs.

    Args:
        task: Name of the task.
        outputs: Some outputs of the model, `[n, ...]`, which show whether they are probabilities or
            logits.
    """
    import keras

    if task == MULTI_LABEL.name:
        return keras.losses.BinaryCrossentropy(from_logits=not are_shares(outputs))
    if task not in _OF_CLASSES:
        return keras.losses.MeanSquaredError()
    logits = not _are_probabilities(outputs)
    if task == SEGMENTATION.name:
        return mask_loss(outputs.shape[-1], logits=logits, dice=True)
    if outputs.shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def distillation(task: str | None, taught: Array) -> Callable[[Any, Any], Any]:
    """Return the distillation loss `loss(teacher's outputs, student's outputs)`.

    For labels and single units cross-entropy; for other classes the Kullback-Leibler divergence of
    softened probabilities (Hinton et al. 2015, section 2); otherwise squared errors.

    Args:
        task: Name of the task.
        taught: The teacher's outputs, `[n, ...]`.
    """
    import keras
    from keras import ops

    if task not in (*_OF_CLASSES, MULTI_LABEL.name):
        return keras.losses.MeanSquaredError()  # type: ignore[no-any-return]  # Keras has no types
    units = task == MULTI_LABEL.name or taught.shape[-1] == 1
    probabilities = are_shares(taught) if units else _are_probabilities(taught)
    if units:
        binary = keras.losses.BinaryCrossentropy(from_logits=not probabilities)
        return lambda teacher, student: binary(
            teacher if probabilities else ops.sigmoid(teacher), student
        )
    # Given by name, the divergence would be computed of logits (Keras 3.15), and be 0.
    divergence = keras.losses.KLDivergence()
    soft = keras.distillation.LogitsDistillation(temperature=TEMPERATURE, loss=divergence)

    def logits(values: Any) -> Any:
        return ops.log(ops.maximum(values, _SMALLEST_PROBABILITY)) if probabilities else values

    return lambda teacher, student: soft.compute_loss(logits(teacher), logits(student))


def _for_labels(loss: Any, units: int) -> Any:
    """Return a loss of class numbers for one of Keras's that compares each output with a target.

    Args:
        loss: Name, function or object.
        units: Number of outputs.
    """
    import keras
    from keras import ops

    try:
        found = keras.losses.get(loss)
    except ValueError:  # a name of the user's own, for which training says what is wrong
        return loss
    kind = found if isinstance(found, types.FunctionType) else type(found)
    ours = kind.__module__.startswith("keras.")
    if units == 1 or "sparse" in kind.__name__.lower() or not ours:
        return loss

    def of_labels(labels: Any, outputs: Any) -> Any:
        flat = ops.cast(ops.reshape(labels, (-1,)), "int32")
        return found(ops.one_hot(flat, units, dtype=outputs.dtype), outputs)

    return of_labels


def _for_masks(loss: Any, units: int) -> Any:
    """Return a loss of class numbers for masks; None where it is one of other targets."""
    import keras

    known = {
        "sparse_categorical_crossentropy": units > 1,
        "binary_crossentropy": units == 1,
    }
    if isinstance(loss, str) and loss in known:
        return mask_loss(units, logits=False) if known[loss] else None
    sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    if sparse or isinstance(loss, keras.losses.BinaryCrossentropy):
        logits = bool(loss.get_config().get("from_logits"))
        return mask_loss(units, logits=logits) if sparse == (units > 1) else None
    return loss


def mask_loss(units: int, *, logits: bool, dice: bool = False) -> Any:
    """Return a loss of masks `[n, h, w]` that leaves out ignored pixels.

    Cross-entropy, the mean over pixels; with `dice` plus `1 - Dice`, which is not small where a
    class that covers few pixels is missed (Milletari et al., "V-Net", arXiv 1606.04797, section 3).

    Args:
        units: Channels of the output; 1 is the probability of class 1 of two.
        logits: Whether outputs are logits.
        dice: Whether the overlap of each class counts too.
    """
    import keras
    from keras import ops

    if units > 1:
        plain = keras.losses.SparseCategoricalCrossentropy(from_logits=logits, ignore_class=IGNORED)
    else:

        def plain(targets: Any, outputs: Any) -> Any:
            masks = ops.cast(ops.reshape(targets, ops.shape(outputs)), outputs.dtype)
            there = ops.cast(masks > IGNORED, outputs.dtype)
            each = ops.binary_crossentropy(ops.maximum(masks, 0), outputs, from_logits=logits)
            return ops.sum(each * there) / ops.maximum(ops.sum(there), 1)

    if not dice:
        return plain

    def both(targets: Any, outputs: Any) -> Any:
        return plain(targets, outputs) + 1 - _dice(targets, outputs, units, logits=logits)

    return both


def _dice(targets: Any, outputs: Any, units: int, *, logits: bool) -> Any:
    """Return twice the overlap over the sum of areas, the mean over the classes but the first."""
    from keras import ops

    # Keras squeezes a single channel away before it calls a loss.
    masks = ops.cast(ops.reshape(targets, (-1,)), "int32")
    chances = ops.reshape(outputs, (-1, units))
    there = ops.cast(masks > IGNORED, chances.dtype)[:, None]
    if units > 1:
        chances = (ops.softmax(chances) if logits else chances)[:, 1:]
        truth = ops.one_hot(ops.maximum(masks, 0), units, dtype=chances.dtype)[:, 1:]
    else:
        chances = ops.sigmoid(chances) if logits else chances
        truth = ops.cast(masks > 0, chances.dtype)[:, None]
    overlap = 2 * ops.sum(chances * truth * there, axis=0)
    areas = ops.sum((chances + truth) * there, axis=0)
    return ops.mean((overlap + 1) / (areas + 1))


def _are_probabilities(outputs: Array) -> bool:
    if (outputs < 0).any() or (outputs > 1).any():
        return False
    return outputs.shape[-1] == 1 or bool(np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-2))


def _plain(metric: Any) -> bool:
    """Whether the name of a metric is that of one for integer labels."""
    return metric in ("accuracy", "sparse_categorical_accuracy", "mae", "mse")


def _compile_config(source: Source) -> dict[str, Any]:
    """Return the compile configuration of a `.keras` file."""
    try:
        document = json.loads(read_member(source.path, "config.json"))
        config = document.get("compile_config")
    except (OSError, KeyError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}

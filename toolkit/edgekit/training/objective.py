"""Training objective: targets as the loss takes them, the loss, and the metric to report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgekit.data.store import reader_of, sized_targets
from edgekit.errors import DataError
from edgekit.evaluation.metrics import BINARY_ACCURACY, Columns
from edgekit.evaluation.tasks import (
    CLASSIFICATION,
    DETECTION,
    MULTI_LABEL,
    RECONSTRUCTION,
    REGRESSION,
    SEGMENTATION,
    as_classes,
    task_named,
)
from edgekit.evaluation.tasks.class_labels import are_label_flags
from edgekit.evaluation.tasks.detection import detections_of
from edgekit.evaluation.tasks.segmentation import classes_of_masks
from edgekit.records import Array, Batch, Dataset, Samples, TensorSpec
from edgekit.training import zoo
from edgekit.training.anchors import ssd_head
from edgekit.training.config import TrainingConfig
from edgekit.training.losses import mask_loss
from edgekit.training.multibox import joined, loss_of_head

MANY = 1000
"""Integer targets with more distinct values than this are quantities, not classes."""


OF_WHOLE_PICTURES: Final = (SEGMENTATION.name, DETECTION.name)
"""Tasks whose metric is no mean over samples, so that Keras does not compute it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Targets, loss and metric of a training run.

    A regression is trained on standardized targets, `(target - offset) / scale`; `in_unit` folds
    scale and offset into the last layer, so that the saved model predicts in the targets' unit.

    Attributes:
        task: Name of the task.
        outputs: Number of classes or values; 1 for masks of two classes, 0 for a reconstruction,
            whose targets are its inputs.
        offset: `[outputs]`, means of a regression's targets.
        scale: Their standard deviation; one number for all, so that the loss keeps their
            proportions.
        absolute: Whether a regression minimizes absolute rather than squared errors.
        label_smoothing: Share of the probability that is spread over all classes.
        head: How the outputs of a detector tell boxes; None for other tasks.
    """

    task: str
    outputs: int
    offset: Array
    scale: float = 1.0
    absolute: bool = False
    label_smoothing: float = 0.0
    head: Mapping[str, Any] | None = None

    @property
    def metric(self) -> str:
        """Return the metric to report: that of the task, in the targets' unit, or mse."""
        if self.task == MULTI_LABEL.name:
            return BINARY_ACCURACY.name  # a mean over batches, as Keras reports, is no F1
        # Without anomaly labels for training there is no ROC curve.
        return "mse" if self.task == RECONSTRUCTION.name else task_named(self.task).metrics[0].name

    def encode(self, batch: Batch) -> Array:
        """Return targets as the loss takes them: one-hot, standardized, masks, or the inputs."""
        if batch.targets is None:
            return only_input(batch)
        if self.task == CLASSIFICATION.name:
            return np.eye(self.outputs, dtype=np.float32)[batch.targets]
        if self.task == SEGMENTATION.name:
            return batch.targets.astype(np.int32)
        if self.task == DETECTION.name:
            return batch.targets.astype(np.float32)
        values = batch.targets.reshape(len(batch.targets), -1)
        if self.task == MULTI_LABEL.name:
            return values.astype(np.float32)
        return np.asarray((values - self.offset) / self.scale, np.float32)

    def learner(self, model: Any) -> Any:
        """Return a model that shares all layers and has the one output that the loss takes."""
        import keras

        outputs = model.outputs if self.head is None else joined(model.output, self.head)
        return keras.Model(model.inputs, outputs)

    def compile(self, learner: Any, optimizer: Any) -> None:
        """Compile a Keras model with the loss, and with the metric `score` where it is a mean."""
        import keras

        loss: Any
        scores: list[Any] = []
        if self.task == CLASSIFICATION.name:
            loss = keras.losses.CategoricalCrossentropy(label_smoothing=self.label_smoothing)
            scores = [keras.metrics.CategoricalAccuracy(name="score")]
        elif self.task == MULTI_LABEL.name:
            loss = keras.losses.BinaryCrossentropy(label_smoothing=self.label_smoothing)
            scores = [keras.metrics.BinaryAccuracy(name="score")]
        elif self.task == SEGMENTATION.name:
            loss = mask_loss(self.outputs, logits=False, dice=True)
        elif self.head is not None:
            loss = loss_of_head(self.head)
        else:
            absolute = keras.losses.MeanAbsoluteError()
            loss = absolute if self.absolute else keras.losses.MeanSquaredError()
            scores = [keras.metrics.MeanSquaredError(name="score")]
        # XLA is slower than the plain kernels on a CPU: half the images per second, measured.
        learner.compile(optimizer, loss, metrics=scores, jit_compile=False)

    def counts(self, learner: Any, batch: Batch) -> Columns | None:
        """Return what `figures` needs of a batch where the metric is no mean of samples."""
        if self.task not in OF_WHOLE_PICTURES:
            return None
        outputs = np.asarray(learner.predict_on_batch(only_input(batch)))
        return columns_of(self.task, outputs, batch, self.head)

    def figures(self, means: Mapping[str, float], counts: Sequence[Columns]) -> dict[str, float]:
        """Return `val_loss` and `val_<metric>`.

        Args:
            means: `loss`, and `score` where the metric is a mean, over the validation samples.
            counts: What `counts` returned of each batch.
        """
        if counts:
            score = score_of(self.task, counts)
            return {"val_loss": means["loss"], f"val_{self.metric}": score}
        score = means["score"]
        if self.task == REGRESSION.name:
            score = self.scale * math.sqrt(score)
        return {"val_loss": means["loss"], f"val_{self.metric}": score}

    @contextmanager
    def in_unit(self, model: Any) -> Iterator[None]:
        """Make a regression predict in the unit of its targets, within the context."""
        weights = model.get_weights()
        if self.task == REGRESSION.name:
            _rescale(model, self.scale, self.offset)
        try:
            yield
        finally:
            model.set_weights(weights)

    def standardize(self, model: Any) -> None:
        """Undo `in_unit` in the last layer of a model that was saved within it."""
        if self.task == REGRESSION.name:
            _rescale(model, 1 / self.scale, -self.offset / self.scale)


def columns_of(
    task: str, outputs: Array, batch: Batch, head: Mapping[str, Any] | None = None
) -> Columns:
    """Return what `score_of` needs of a batch.

    Args:
        task: Name of the task.
        outputs: `[n, ...]`; of a detector offsets and scores, as `multibox.joined` returns them.
        batch: The samples, with targets.
        head: How the outputs of a detector tell boxes.
    """
    if head is not None:
        parts = {head["boxes"]: outputs[..., :4], head["scores"]: outputs[..., 4:]}
        outputs = detections_of(parts, head, "the model")
    return task_named(task).per_sample(outputs, batch)


def score_of(task: str, parts: Sequence[Columns]) -> float:
    """Return the task's usual metric of the columns of all batches."""
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    judged = task_named(task)
    return judged.metrics[0].value(judged.complete(whole))


def only_input(batch: Batch) -> Array:
    """Return the batch's only input, float32 `[n, ...]`."""
    (values,) = batch.inputs.values()
    return np.asarray(values, np.float32)


def study(
    train: Samples, dataset: Dataset, config: TrainingConfig, input_shape: tuple[int, ...]
) -> Objective:
    """Return the objective for the data and the configuration.

    Raises:
        DataError: The targets are missing, or are not class labels in a classification.
    """
    reader = reader_of(train)
    if len(input_shape) == 3:  # masks that have no size yet get that of the pictures
        map_spec = TensorSpec(name="masks", shape=(1, *input_shape[:2], 1), dtype="float32")
        reader = sized_targets(reader, map_spec)
    targets = None if reader.targets is None else reader.targets[reader.index]
    task: str | None = config.task or dataset.task or zoo.find(config.architecture).only_task
    if task == RECONSTRUCTION.name:
        return Objective(task=task, outputs=0, offset=np.zeros(1))
    if targets is None:
        raise DataError(
            f"The training samples of {dataset.name} have no targets.",
            hint="Add y_train, or train an autoencoder.",
        )
    if task == SEGMENTATION.name:
        kinds = len(dataset.labels) if dataset.labels else classes_of_masks(targets)
        return Objective(task=task, outputs=1 if kinds == 2 else kinds, offset=np.zeros(1))
    if task == DETECTION.name:
        return _of_boxes(targets, dataset, config, input_shape)
    classes, _ = as_classes(targets)
    if task is None:
        counted = targets.dtype.kind != "f" or targets.ndim > 1
        few = classes is not None and classes.max() < MANY
        task = (CLASSIFICATION if dataset.labels or (counted and few) else REGRESSION).name
        if classes is None and targets.ndim == 2 and are_label_flags(targets):
            task = MULTI_LABEL.name
    if task == MULTI_LABEL.name:
        return Objective(
            task=task,
            outputs=int(np.prod(targets.shape[1:])),
            offset=np.zeros(1),
            label_smoothing=config.label_smoothing,
        )
    if task == REGRESSION.name:
        values = targets.reshape(len(targets), -1).astype(np.float64)
        offset = values.mean(axis=0)
        scale = float(np.sqrt(np.mean((values - offset) ** 2))) or 1.0
        return Objective(
            task=task,
            outputs=values.shape[1],
            offset=offset,
            scale=scale,
            absolute=config.loss == "mae",
        )
    if classes is None:
        raise DataError(
            f"{dataset.name}: the targets are no class labels.",
            found=f"They are {targets.dtype} of shape {list(targets.shape)}.",
            hint="Give whole numbers from 0, one-hot rows or texts, or task regression.",
        )
    return Objective(
        task=task,
        outputs=len(dataset.labels) if dataset.labels else max(2, int(classes.max()) + 1),
        offset=np.zeros(1),
        label_smoothing=config.label_smoothing,
    )


def _of_boxes(
    targets: Array, dataset: Dataset, config: TrainingConfig, input_shape: tuple[int, ...]
) -> Objective:
    if targets.ndim != 3 or targets.shape[2] not in (5, 6) or len(input_shape) != 3:
        raise DataError(
            f"{dataset.name}: the targets are no boxes in pictures.",
            found=f"They are {targets.dtype} of shape {list(targets.shape)}.",
            hint="Give [n, boxes, 5]: x1, y1, x2, y2 as shares of the picture, and the class.",
        )
    options = {**zoo.find(config.architecture).options, **config.options}
    options = {key: options.get(key, 1) for key in ("stride", "levels", "sizes")}
    return Objective(
        task=DETECTION.name,
        outputs=len(dataset.labels) if dataset.labels else int(targets[..., 4].max()) + 1,
        offset=np.zeros(1),
        head=ssd_head(targets, input_shape, **options),
    )


def _rescale(model: Any, scale: float, offset: Array) -> None:
    layer = model.get_layer("output")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * scale, bias * scale + offset])

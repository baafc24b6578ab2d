"""Train an architecture of the zoo on a data set, and save the weights of the best epoch.

The loop over batches is written out rather than left to `Model.fit`: errors while reading a sample,
Ctrl-C and progress are then handled as in plain Python, and samples are read batch by batch in an
order that the seed determines.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data import describe_validation, open_data, split_of, training_split
from edgekit.data.pixels import UNIT, names_scaling, with_scaling
from edgekit.data.store import adopted, with_preprocessing
from edgekit.errors import ConversionError, UsageError
from edgekit.records import Dataset, Listener, Progress, Samples, silent
from edgekit.training import zoo
from edgekit.training.config import TrainingConfig
from edgekit.training.objective import Objective, only_input, study
from edgekit.training.progress import progress_reporter
from edgekit.training.samples import bound_to, resident, specs_of
from edgekit.training.saving import (
    CHECKPOINT_SECONDS,
    checkpoint_path,
    preprocessing_note,
    save,
    start_from,
    write_head,
)

VALIDATED_VALUES = 1 << 20
"""Input values of a batch of the validation, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """Result of a training run.

    Attributes:
        path: The saved model: the weights of the best epoch, without optimizer.
        parameters: Number of weights.
        epochs: Epochs run.
        best_epoch: Epoch of the lowest validation loss, from 1; its weights are saved.
        metric: The task's, such as accuracy or rmse (in the targets' unit), or mse.
        value: Its value in that epoch, on the samples held out from the training split.
        validation_n: Number of those samples.
        validation_by: How they were chosen, in words; empty where they were drawn.
        train_n: Number of samples trained on.
        history: Name -> one value per epoch: `loss` and `val_loss` as minimized (targets of a
            regression standardized), and `val_<metric>`.
        seconds: Wall-clock time from the first sample read to the file written.
        head: The file beside the model that says how a detector's outputs tell boxes, or None.
    """

    path: Path
    parameters: int
    epochs: int
    best_epoch: int
    metric: str
    value: float
    validation_n: int
    validation_by: str
    train_n: int
    history: Mapping[str, tuple[float, ...]]
    seconds: float
    head: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """What an epoch of training uses.

    Attributes:
        config: The training configuration.
        objective: Targets, loss and metric.
        model: The model to save, neither compiled nor with an optimizer.
        learner: A compiled model that shares its layers.
        training: Samples to learn from.
        validation: Validation samples.
        validation_by: How they were chosen, in words.
        notes: What the file says of the training.
    """

    config: TrainingConfig
    objective: Objective
    model: Any
    learner: Any
    training: Samples
    validation: Samples
    validation_by: str
    notes: Mapping[str, Any]


def train(
    config: TrainingConfig,
    *,
    destination: Path,
    listener: Listener = silent,
    log_dir: Path | None = None,
    initial: Path | None = None,
    dataset: Dataset | None = None,
    force: bool = True,
) -> TrainingResult:
    """Train a model and write it to `destination`; imports TensorFlow.

    Validation samples are split off the training split; the test split is never read. The same
    configuration gives the same weights, bit for bit, on the same machine.

    Args:
        config: What to train, and how.
        destination: The `.keras` file to write. During training the best weights so far are stored
            beside it (`checkpoint_path`), and remain there when training is interrupted.
        listener: Progress callback.
        log_dir: Folder for a TensorBoard log, or None.
        initial: A `.keras` file of the same architecture to start from: a checkpoint.
        dataset: The data if it is open already (it cannot be pickled); None opens `config.data`.
        force: Whether a file that is at `destination` by the end of training is replaced.

    Raises:
        UsageError: Data and architecture do not match, or TensorBoard is not installed.
        DataError: The data cannot be trained on.
        ModelError: `initial` cannot be read, or is of another architecture.
        ConversionError: Training diverged.
        OutputError: `destination` cannot be written, or exists and is not replaced.
    """
    started = time.monotonic()
    if log_dir is not None and importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "A TensorBoard log needs tensorboard, which is not installed.",
            hint="pip install tensorboard, or leave the log out.",
        )
    listener(Progress(stage="training", total=config.epochs, detail="reading samples"))
    if dataset is None:
        dataset = open_data(
            config.data,
            split=config.split,
            table=config.table,
            target=config.column,
            preprocessing=config.preprocessing,
        )
    if not names_scaling(dataset.preprocessing):
        # A new model has no scaling of its own: it learns the one that is usual.
        dataset = with_preprocessing(dataset, with_scaling(dataset.preprocessing, UNIT))
    session = _prepare(config, dataset, initial)
    history, best_epoch = _fit(session, destination, listener, log_dir)
    save(session.model, destination, session.objective, session.notes, force=force)
    checkpoint_path(destination).unlink(missing_ok=True)
    head = write_head(session.objective.head, destination) if session.objective.head else None
    metric = session.objective.metric
    return TrainingResult(
        path=destination,
        parameters=session.model.count_params(),
        epochs=len(history["loss"]),
        best_epoch=best_epoch,
        metric=metric,
        value=history[f"val_{metric}"][best_epoch - 1],
        validation_n=session.validation.n,
        validation_by=session.validation_by,
        train_n=session.training.n,
        history={name: tuple(values) for name, values in history.items()},
        seconds=time.monotonic() - started,
        head=head,
    )


def _prepare(config: TrainingConfig, dataset: Dataset, initial: Path | None) -> _Session:
    train_split = adopted(split_of(dataset, "train"))
    shape = _sample_shape(train_split, config.architecture)
    config.augment.check(shape)
    objective = study(train_split, dataset, config, shape)

    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    model = zoo.build(
        config.architecture, shape, objective.outputs, task=objective.task, **config.options
    )
    bound = bound_to(
        replace(dataset, train=train_split, head=objective.head),
        specs_of(model.inputs),
        specs_of(model.outputs, model.output),
        objective.task,
    )
    training, validation = (resident(part) for part in training_split(bound, config.split_by))
    if initial is not None:
        start_from(model, initial, objective)
    learner = objective.learner(model)
    objective.compile(learner, _optimizer(config, _steps(training, config) * config.epochs))
    # Made by the first step, its variables would have TensorFlow trace that step twice.
    learner.optimizer.build(learner.trainable_weights)
    return _Session(
        config=config,
        objective=objective,
        model=model,
        learner=learner,
        training=training,
        validation=validation,
        validation_by=describe_validation(bound, config.split_by),
        notes=preprocessing_note(bound.preprocessing),
    )


def _fit(
    session: _Session, destination: Path, listener: Listener, log_dir: Path | None
) -> tuple[dict[str, list[float]], int]:
    """Run the epochs; load the best weights into the model, return the history and their epoch."""
    import tensorflow as tf

    config, objective, model = session.config, session.objective, session.model
    history: dict[str, list[float]] = {}
    best_loss, best_weights = math.inf, model.get_weights()
    best_epoch = saved_epoch = 0
    saved_at = time.monotonic()
    tell = progress_reporter(listener, "training", config.epochs)
    with ExitStack() as stack:
        if log_dir is not None:
            stack.enter_context(tf.summary.create_file_writer(str(log_dir)).as_default())
        for epoch in range(1, config.epochs + 1):
            figures = {"loss": _learn(session, epoch, tell), **_validate(session)}
            if not all(map(math.isfinite, figures.values())):
                raise ConversionError(
                    f"Training diverged in epoch {epoch}: the loss is NaN or infinite.",
                    hint=f"Lower the learning rate (it is {config.learning_rate:g}).",
                )
            for name, value in figures.items():
                history.setdefault(name, []).append(value)
                if log_dir is not None:
                    tf.summary.scalar(name, value, step=epoch)
            # By the loss, not the metric: on a few hundred samples many epochs are equally
            # accurate.
            if figures["val_loss"] < best_loss:
                best_loss, best_epoch = figures["val_loss"], epoch
                best_weights = model.get_weights()
            value = figures[f"val_{objective.metric}"]
            tell(epoch, 0.0, f"val_{objective.metric} {value:.4g}")
            if epoch - best_epoch >= config.patience:
                break
            if best_epoch > saved_epoch and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                current = model.get_weights()
                model.set_weights(best_weights)
                save(model, checkpoint_path(destination), objective, session.notes)
                model.set_weights(current)
                saved_epoch, saved_at = best_epoch, time.monotonic()
    model.set_weights(best_weights)
    return history, best_epoch


def _sample_shape(train: Samples, architecture: str) -> tuple[int, ...]:
    """Return the shape of a sample, with the channel axis that gray images often lack."""
    inputs = train.read(np.arange(1)).inputs
    if len(inputs) != 1:
        raise UsageError(
            "The architectures of the zoo have one input.",
            found=f"The data has {len(inputs)}: {', '.join(inputs)}.",
            hint="Train such a model with Keras itself; edgekit quantizes it all the same.",
        )
    (values,) = inputs.values()
    missing = len(zoo.find(architecture).input) == values.ndim and architecture != "autoencoder"
    return (*values.shape[1:], 1) if missing else values.shape[1:]


def _steps(training: Samples, config: TrainingConfig) -> int:
    return max(1, training.n // config.batch_size)


def _optimizer(config: TrainingConfig, steps: int) -> Any:
    """Make AdamW with a warm-up over a thirtieth of the steps, then cosine decay.

    Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101, and "SGDR",
    arXiv 1608.03983, equation (5) without restarts.
    """
    import keras

    warmup = steps // 30
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=steps - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _learn(session: _Session, epoch: int, tell: Callable[[int, float, str], None]) -> float:
    """Train for one epoch; return the mean loss."""
    config = session.config
    # a generator per epoch: a resumed run draws the same order
    random = np.random.default_rng([config.seed, epoch])
    order = random.permutation(session.training.n)
    steps = _steps(session.training, config)
    total = 0.0
    for step in range(steps):
        # an incomplete last batch is dropped; its samples are used in other epochs
        rows = order[step * config.batch_size : (step + 1) * config.batch_size]
        batch = session.training.read(rows)
        inputs, moved = config.augment.apply_to_both(
            only_input(batch), batch.targets, session.objective.task, random
        )
        targets = session.objective.encode(replace(batch, inputs={"x": inputs}, targets=moved))
        loss = float(session.learner.train_on_batch(inputs, targets, return_dict=True)["loss"])
        total += loss
        tell(epoch - 1, (step + 1) / steps, f"loss {loss:.3g}")
    return total / steps


def _validate(session: _Session) -> dict[str, float]:
    """Return loss and metric on the validation samples."""
    objective, learner = session.objective, session.learner
    sums: dict[str, float] = defaultdict(float)
    counts = []
    # Maps of large pictures are many values; of small samples a larger batch is faster.
    values = math.prod(learner.input_shape[1:])
    for batch in session.validation.batches(max(1, min(256, VALIDATED_VALUES // values))):
        inputs, targets = only_input(batch), objective.encode(batch)
        # Keras resets its means with every call
        for name, mean in learner.test_on_batch(inputs, targets, return_dict=True).items():
            sums[name] += float(mean) * len(inputs)
        counted = objective.counts(learner, batch)
        counts += [counted] if counted is not None else []
    means = {name: total / session.validation.n for name, total in sums.items()}
    return objective.figures(means, counts)

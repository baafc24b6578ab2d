"""Fine-tune a model, to recover the accuracy that a pass lost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit.choices import SplitBy
from edgekit.data import describe_validation, open_request, training_split
from edgekit.errors import ConversionError, DataError, EdgekitError, ModelError
from edgekit.files import writing
from edgekit.printable import CALLING, telling
from edgekit.records import (
    Array,
    Batch,
    DataRequest,
    Dataset,
    Listener,
    Source,
    silent,
)
from edgekit.training.config import check_numbers
from edgekit.training.failures import check_finite
from edgekit.training.goals import Goals
from edgekit.training.learner import build_variables, learner_class
from edgekit.training.losses import FileLoss, distillation
from edgekit.training.multibox import box_distillation
from edgekit.training.progress import progress_callback, progress_reporter
from edgekit.training.samples import bound_to, resident
from edgekit.training.saving import (
    CHECKPOINT_SECONDS,
    PREPROCESSING,
    preprocessing_note,
    read_notes,
    write_model,
)
from edgekit.training.sequence import inputs_of, keras_dataset, keras_sequence, pair_of

# Small data sets have short epochs; recovery depends on the number of steps.
STEPS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The data of a pass, and the settings of its fine-tuning; picklable.

    Attributes:
        data: The data, as the user named it.
        epochs: Training epochs; 0 applies the pass without training. None takes as many as make
            `STEPS` steps, and at least 3.
        batch_size: Batch size.
        learning_rate: Initial learning rate (cosine decay).
        patience: Epochs without a lower validation loss after which training stops; None takes a
            quarter of all, at least 5.
        seed: Random seed.
        split_by: How the validation samples are chosen; see `data.training_split`.
        teacher: An `.npy` that `teach` wrote, for distillation.
        checkpoint: File for the best weights so far during training, or None.
        done: Number of epochs that an interrupted run had finished.
        file_loss: Whether the loss in the model's file is used.
        restore: Name of a layer -> arguments that the files written have, in place of those it was
            trained with: open sizes, a state.
    """

    data: DataRequest
    epochs: int | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    patience: int | None = None
    seed: int = 0
    split_by: SplitBy = "auto"
    teacher: Path | None = None
    checkpoint: Path | None = None
    done: int = 0
    file_loss: FileLoss = "safe"
    restore: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_numbers(self)


class FineTuning:
    """The samples of a pass, and training on them.

    A tenth of the training split is held out for validation; the test split is never read.

    Args:
        model: The model that will be changed, or one with the same inputs and outputs.
        source: Its source; the file may hold a compiled loss.
        tuning: Data and training.
        listener: Progress callback.

    Raises:
        DataError: There is no training split, or it does not fit the model.
        ModelError: It has a state, and the data declares sequences; or weights that are NaN.
        ConversionError: It is a detector whose outputs no loss is known for.
    """

    def __init__(
        self, model: Any, source: Source, tuning: Tuning, listener: Listener = silent
    ) -> None:
        self._listener = listener
        check_finite(model)
        stored = read_notes(source.path)
        self._notes = {key: stored[key] for key in (PREPROCESSING,) if key in stored}
        asked = tuning.data
        dataset = open_request(asked)
        self.dataset = bound_to(dataset, source.inputs, source.outputs, asked.task)
        _check_independent(source, self.dataset, tuning.restore)
        training, validation = training_split(self.dataset, tuning.split_by)
        self.training, self.validation = resident(training), resident(validation)
        self.validated_on = describe_validation(self.dataset, tuning.split_by)
        """How the validation samples were chosen, in words; empty where they were drawn."""
        self.goals = Goals(model, source, self.dataset, tuning.file_loss)
        self.judged = self.goals.judged
        self.tuning = tuning
        self._taught = None if tuning.teacher is None else np.load(tuning.teacher)
        self._held: Any = None  # the validation samples, as TensorFlow reads them
        self._latest: tuple[Any, Any] | None = None
        self.steps = math.ceil(self.training.n / tuning.batch_size)
        """Batches per epoch."""
        chosen = max(3, math.ceil(STEPS / self.steps))
        self.epochs = chosen if tuning.epochs is None else tuning.epochs
        self.patience = tuning.patience or max(5, self.epochs // 4)

    def sample(self, n: int) -> Batch:
        """Return `n` training samples, drawn with the seed."""
        order = np.random.default_rng(self.tuning.seed).permutation(self.training.n)
        return self.training.read(order[:n])

    def evaluate(self, model: Any) -> dict[str, float]:
        """Return `loss` and metrics, if any, on the validation samples."""
        with self._loss_errors(model):
            learner = self._compiled(model)
            return {**self.validated(learner), **self.goals.scores(learner, self.validation)}

    def validated(self, learner: Any) -> dict[str, float]:
        """Return what a compiled learner says of the validation samples: `loss`, and metrics."""
        if self._held is None:
            self._held = keras_dataset(self.validation, 256, scored=self.goals.scored)
        judged = learner.evaluate(self._held, verbose=0, return_dict=True)
        return {name: float(value) for name, value in judged.items()}

    def train(
        self, model: Any, callbacks: Sequence[Any] = (), *, notes: Mapping[str, Any] | None = None
    ) -> dict[str, float]:
        """Train a Keras model in place; it ends with the weights of the best epoch.

        Epochs are compared once every callback with an attribute `finished` has reached its goal,
        such as a sparsity. If no epoch improves on the original weights, these are kept.

        Args:
            model: Any built Keras model; a loss it was compiled with is kept.
            callbacks: Keras callbacks, such as `pruning.pruning_callback`.
            notes: JSON to store in checkpoints; None writes no checkpoints.

        Returns:
            The result of `evaluate` for the weights kept.

        Raises:
            ConversionError: Training diverged, or the loss does not fit the data.
        """
        import keras
        import tensorflow as tf

        tuning = self.tuning
        keras.utils.set_random_seed(tuning.seed)
        tf.config.experimental.enable_op_determinism()
        _seed_layers(model, tuning.seed)
        learner, self._latest = self._compiled(model), None
        learner.optimizer.iterations.assign(tuning.done * self.steps)
        keeper = _keeper(self, model, list(callbacks), notes)
        stage = f"{(notes or {}).get('pass', '')} fine-tuning".lstrip()
        report = progress_reporter(self._listener, stage, self.epochs)
        with self._loss_errors(model):
            learner.fit(
                keras_sequence(
                    self.training,
                    tuning.batch_size,
                    tuning.seed,
                    self._taught,
                    done=tuning.done,
                    scored=self.goals.scored,
                ),
                initial_epoch=tuning.done,
                epochs=max(self.epochs, tuning.done),
                callbacks=[*callbacks, keeper, progress_callback(report, self.steps)],
                shuffle=False,  # the sequence shuffles
                verbose=0,
            )
        with self._loss_errors(model):
            return {**self.validated(learner), **self.goals.scores(learner, self.validation)}

    def write(self, model: Any, path: Path, notes: Mapping[str, Any] | None = None) -> None:
        """Write the trained model, with the sizes and the state of its source."""
        told = {**self._notes, **preprocessing_note(self.dataset.preprocessing), **(notes or {})}
        write_model(model, path, told, restore=self.tuning.restore)

    @contextmanager
    def _loss_errors(self, model: Any) -> Iterator[None]:
        """Turn what a loss raises into a `ConversionError`; a trusted one may raise anything."""
        import tensorflow as tf

        known = (ValueError, TypeError, tf.errors.InvalidArgumentError)
        kinds = Exception if self.tuning.file_loss == "trusted" else known
        try:
            yield
        except EdgekitError:
            raise
        except kinds as error:
            if str(error).startswith(CALLING):
                raise ModelError(
                    f"{model.name} cannot be run on these samples.",
                    found=telling(error)[:200],
                    hint="Call model.predict on some of them: it says where it fails.",
                ) from error
            raise ConversionError(
                f"{model.name} cannot be trained with its loss on these targets.",
                found=telling(error)[:200],
                hint="Check --task, or save the model without a compiled loss.",
            ) from error

    def _loss_of(self, model: Any) -> Any:
        """Return the loss of the scored output."""
        return self.goals.loss(self._shown(model))

    def _shown(self, model: Any) -> Callable[[], Any]:
        """Return what gives some outputs of a model, which show what they are."""
        return lambda: model(inputs_of(self._few()), training=False)

    def _few(self) -> Batch:
        """Return some validation samples."""
        return self.validation.read(np.arange(min(8, self.validation.n)))

    def _compiled(self, model: Any) -> Any:
        """Return the learner of a model, compiled; that of the latest one is not traced anew."""
        import keras

        if self._latest is None or self._latest[0] is not model:
            steps = self.steps * max(1, self.epochs)
            rate = keras.optimizers.schedules.CosineDecay(self.tuning.learning_rate, steps)
            learner = self._learner(model, teacher=self._taught)
            outputs = self._shown(model)()
            goals = self.goals.to_compile(lambda: outputs)
            learner.compile(keras.optimizers.Adam(rate), **goals, jit_compile=False)
            few = pair_of(self._few(), self.goals.scored)
            build_variables(learner, *few, self.goals.of(outputs))
            self._latest = model, learner
        return self._latest[1]

    def _learner(self, model: Any, teacher: Array | None) -> Any:
        """Return another model of the same layers; the saved one remains as it was compiled."""
        import keras

        if getattr(model, "inputs", None):
            inputs, outputs = model.inputs, model.outputs
        else:  # a subclassed model is called as a layer
            first = self.training.read(np.arange(1)).inputs
            tensors = {
                name: keras.Input(values.shape[1:], dtype=values.dtype, name=name)
                for name, values in first.items()
            }
            inputs = list(tensors.values())
            outputs = model(inputs[0] if len(inputs) == 1 else tensors)
        extra: Any = None
        if teacher is not None:
            head = self.judged.head
            extra = box_distillation(head) if head else distillation(self.dataset.task, teacher)
        return learner_class()(inputs, self.goals.of(outputs), extra, self.goals.scored)

    def loss(self, model: Any) -> Callable[[Any, Any], Any]:
        """Return the loss of targets and all outputs of a model."""
        import keras

        loss = keras.losses.get(self._loss_of(model))
        return lambda targets, outputs: loss(targets, self.judged(outputs))


def teach(
    model: Any, source: Source, *, tuning: Tuning, destination: Path, listener: Listener = silent
) -> None:
    """Write a float model's predictions for every training sample, for distillation.

    Predictions are computed once, not in every epoch: fine-tuning does not augment samples.

    Raises:
        DataError: The model predicts NaN or infinity for some of them.
    """
    import tensorflow as tf

    fine = FineTuning(model, source, tuning, listener)

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def predict(inputs: Any) -> Any:
        return fine.judged(model(inputs, training=False))

    made = [
        np.asarray(predict(inputs_of(batch)), np.float32) for batch in fine.training.batches(256)
    ]
    outputs = np.concatenate(made)
    if not np.isfinite(outputs).all():
        raise DataError("The model predicts NaN or infinity for some of the training samples.")
    with writing(destination) as temporary, temporary.open("wb") as stream:
        np.save(stream, outputs)


def _check_independent(
    source: Source, dataset: Dataset, restore: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse to train a stateful model on sequences: each sample starts from the initial state.

    Raises:
        ModelError: The data declares sequences, and layers keep a state between their samples.
    """
    stateful = [name for name, values in restore.items() if values.get("stateful")]
    if stateful and dataset.train is not None and dataset.train.sequences is not None:
        raise ModelError(
            f"{source.name} cannot be fine-tuned on the sequences of {dataset.name}: every sample "
            "would start from the initial state.",
            found=f"Stateful: {', '.join(stateful)}.",
            hint="Drop the sequence arrays from the data to take samples as independent.",
        )


def _seed_layers(model: Any, seed: int) -> None:
    """Reset the random generators of a model, such as those of dropout, to the seed."""
    import keras

    for number, layer in enumerate(model._flatten_layers()):  # noqa: SLF001  layers in layers
        for generator in vars(layer).values():
            if isinstance(generator, keras.random.SeedGenerator):
                generator.state.assign([seed, number])


def _keeper(
    fine: FineTuning, model: Any, callbacks: Sequence[Any], notes: Mapping[str, Any] | None
) -> Any:
    """Make a callback that stops early, and keeps the best weights in memory and on disk."""
    import keras

    tuning = fine.tuning

    class KeepBest(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        best_loss = math.inf
        best_epoch = tuning.done
        best: list[Array] | None = None
        saved_at = time.monotonic()

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  Keras's signature
            self._compare(tuning.done)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if not math.isfinite((logs or {}).get("loss", 0.0)):
                raise ConversionError(
                    "Fine-tuning diverged: the loss is NaN or infinite.",
                    hint=f"Lower the learning rate (it is {tuning.learning_rate:g}).",
                )
            self._compare(epoch + 1, logs)
            if epoch + 1 - self.best_epoch >= fine.patience and self.best is not None:
                self.model.stop_training = True
            due = time.monotonic() - self.saved_at > CHECKPOINT_SECONDS
            wanted = tuning.checkpoint is not None and notes is not None
            if due and wanted and epoch + 1 < fine.epochs:
                self._save(epoch + 1)

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            if self.best is not None:
                model.set_weights(self.best)

        def _compare(self, epoch: int, logs: Any = None) -> None:
            """Evaluate the current weights, unless a callback has not reached its goal yet."""
            if not all(getattr(callback, "finished", True) for callback in callbacks):
                return
            found = fine.validated(self.model)
            if logs is not None:
                logs.update({f"val_{name}": value for name, value in found.items()})
            if found["loss"] < self.best_loss:
                self.best_loss, self.best_epoch = found["loss"], epoch
                self.best = model.get_weights()

        def _save(self, epoch: int) -> None:
            assert tuning.checkpoint is not None
            current = model.get_weights()
            if self.best is not None:
                model.set_weights(self.best)
            fine.write(model, tuning.checkpoint, {**(notes or {}), "epochs": epoch})
            model.set_weights(current)
            self.saved_at = time.monotonic()

    return KeepBest()

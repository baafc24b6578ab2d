"""The Keras model that is fine-tuned: the layers of another one, and what is learned from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

# Hinton et al. 2015, "Distilling the knowledge in a neural network", mix both losses;
# keras.distillation weights them equally.
DISTILLED: Final = 0.5


@functools.cache
def learner_class() -> Any:
    """Make a functional model that also learns from a teacher's outputs, given with the targets.

    The class takes inputs and outputs as `keras.Model` does; the loss of the teacher's and its own
    outputs; and the output that the teacher's are of, where outputs are a dictionary.
    """
    import keras

    class Learner(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(
            self,
            inputs: Any,
            outputs: Any,
            extra: Callable[..., Any] | None,
            scored: str | None = None,
        ) -> None:
            super().__init__(inputs, outputs)
            self._extra = extra
            self._scored = scored
            self._after_step: list[Callable[[], None]] = []
            self._traced = False

        def train_step(self, data: Any) -> Any:
            self._traced = True
            logs = super().train_step(data)
            for change in self._after_step:
                change()
            return logs

        def add_after_step(self, change: Callable[[], None]) -> bool:
            """Make a change of variables part of the training step, if that is not compiled yet."""
            if not self._traced:
                self._after_step.append(change)
            return not self._traced

        def compute_loss(
            self,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            if not isinstance(y, tuple):
                return super().compute_loss(x, y, y_pred, sample_weight, training)
            assert self._extra is not None
            targets, taught = y
            own = super().compute_loss(x, targets, y_pred, sample_weight, training)
            learned = y_pred[self._scored] if isinstance(y_pred, Mapping) else y_pred
            return (1 - DISTILLED) * own + DISTILLED * self._extra(taught, learned)

        def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            targets = y[0] if isinstance(y, tuple) else y
            return super().compute_metrics(x, targets, y_pred, sample_weight)

    return Learner


def build_variables(learner: Any, inputs: Any, targets: Any, outputs: Any) -> None:
    """Make the variables of a compiled model's optimizer and metrics.

    TensorFlow traces a function twice whose first call makes variables: half the time of a step.

    Args:
        learner: The compiled model.
        inputs: Some samples.
        targets: Their targets.
        outputs: Its outputs for them.
    """
    learner.optimizer.build(learner.trainable_weights)
    learner.compute_metrics(inputs, targets, outputs)
    learner.reset_metrics()


def after_each_step(model: Any, change: Callable[[], None]) -> Callable[[], None]:
    """Have a change of variables made after each training step of a Keras model.

    It is part of the compiled step of a learner: a call by itself would cost more than the change.

    Args:
        model: The model that is about to be trained.
        change: What assigns values to its variables, by TensorFlow operations.

    Returns:
        What a callback calls after each batch: it makes the change where the step does not.
    """
    import tensorflow as tf

    if isinstance(model, learner_class()) and model.add_after_step(change):
        return lambda: None
    return tf.function(change, autograph=False)  # type: ignore[no-any-return]  # untyped

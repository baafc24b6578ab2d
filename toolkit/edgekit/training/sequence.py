"""Samples as Keras reads them: batches of inputs and targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.records import Array, Batch, Samples


def keras_sequence(
    samples: Samples,
    batch_size: int,
    seed: int | None = None,
    teacher: Array | None = None,
    *,
    done: int = 0,
    scored: str = "",
) -> Any:
    """Make a Keras sequence of the samples.

    Args:
        samples: The samples.
        batch_size: Batch size.
        seed: Random seed by which every epoch is shuffled; None keeps the order.
        teacher: Predictions of a teacher `[n, ...]`, which are added to the targets.
        done: Number of epochs that an interrupted run had finished.
        scored: The output that targets are of where others have some, too: all are in a dictionary
            then, by the names of the outputs.
    """
    import keras

    class Sequence(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.epoch = done
            self.on_epoch_end()

        def __len__(self) -> int:
            return math.ceil(samples.n / batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            rows = self.order[index * batch_size : (index + 1) * batch_size]
            inputs, targets = pair_of(samples.read(rows), scored)
            return inputs, targets if teacher is None else (targets, teacher[rows])

        def on_epoch_end(self) -> None:
            self.order = np.arange(samples.n)
            if seed is not None:
                self.order = np.random.default_rng([seed, self.epoch]).permutation(samples.n)
            self.epoch += 1

    return Sequence()


def keras_dataset(samples: Samples, batch_size: int, *, scored: str = "") -> Any:
    """Make a TensorFlow dataset of the samples in their order, which is read as often as wanted.

    Of a sequence Keras makes one for every evaluation, which takes longer than most evaluations.

    Args:
        samples: The samples, one at least.
        batch_size: Batch size.
        scored: As for `keras_sequence`.
    """
    import keras
    import tensorflow as tf

    def spec(values: Array) -> Any:
        return tf.TensorSpec((None, *values.shape[1:]), values.dtype)

    first = pair_of(samples.read(np.arange(1)), scored)
    read = tf.data.Dataset.from_generator(
        lambda: (pair_of(batch, scored) for batch in samples.batches(batch_size)),
        output_signature=keras.tree.map_structure(spec, first),
    )
    steps = math.ceil(samples.n / batch_size)
    return read.apply(tf.data.experimental.assert_cardinality(steps))


def pair_of(batch: Batch, scored: str) -> tuple[Any, Any]:
    """Return inputs and targets as Keras takes them."""
    # The targets of a reconstruction are its inputs.
    targets = inputs_of(batch) if batch.targets is None else batch.targets
    return inputs_of(batch), {scored: targets, **batch.others} if batch.others else targets


def inputs_of(batch: Batch) -> Any:
    """Return the inputs of a batch as Keras models take them."""
    values = tuple(batch.inputs.values())
    return values[0] if len(values) == 1 else dict(batch.inputs)

"""Training samples: bound to a model, and kept in memory where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data import bind, split_of
from edgekit.data.pixels import UNIT, names_scaling
from edgekit.errors import DataError
from edgekit.records import Array, Batch, Dataset, Samples, TaskChoice, TensorSpec

MEMORY_BYTES = 512 << 20
"""Largest size of a data set kept in memory; a larger one is read again in every epoch."""


def bound_to(
    dataset: Dataset,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    task: TaskChoice = None,
) -> Dataset:
    """Return `dataset` without its test split, its training split checked against a model.

    Raises:
        DataError: There is no training split, or it does not fit the model, or nobody says how
            pixels are scaled.
    """
    if not names_scaling(dataset.preprocessing):
        raise DataError(
            f"How the pixels of {dataset.name} are scaled is not declared.",
            hint=f"Say how, for example: {UNIT.option}",
        )
    train = split_of(dataset, "train")
    # By output where there are several, as `open_data` has noted then.
    told = task if isinstance(task, str) else None
    only = replace(dataset, train=train, calibrate=None, test=None, task=told or dataset.task)
    return bind(only, inputs, outputs)


def specs_of(tensors: Sequence[Any], named: Any = None) -> list[TensorSpec]:
    """Return the specs of Keras's symbolic tensors, with batch size 1.

    Args:
        tensors: The tensors.
        named: The same as a model returns them; the keys of a dictionary are their names, by which
            Keras sorts them.
    """
    names = sorted(named) if isinstance(named, dict) else [tensor.name for tensor in tensors]
    return [
        TensorSpec(name=name, shape=(1, *tensor.shape[1:]), dtype=tensor.dtype)
        for name, tensor in zip(names, tensors, strict=True)
    ]


def resident(samples: Samples) -> Samples:
    """Return the same samples, in memory if they fit."""
    first = samples.read(np.arange(1))
    if samples.n * sum(values.nbytes for values in first.inputs.values()) > MEMORY_BYTES:
        return samples
    inputs: dict[str, Array] = {
        name: np.empty((samples.n, *values.shape[1:]), values.dtype)
        for name, values in first.inputs.items()
    }
    parts = []
    others: dict[str, list[Array]] = {}
    for start, batch in zip(range(0, samples.n, 1024), samples.batches(1024), strict=True):
        for name, values in batch.inputs.items():
            inputs[name][start : start + 1024] = values
        parts += [batch.targets] if batch.targets is not None else []
        for name, values in batch.others.items():
            others.setdefault(name, []).append(values)
    targets = np.concatenate(parts) if parts else None
    of_others = {name: np.concatenate(values) for name, values in others.items()}
    return replace(
        samples,
        read=lambda rows: Batch(
            inputs={name: values[rows] for name, values in inputs.items()},
            targets=None if targets is None else targets[rows],
            others={name: values[rows] for name, values in of_others.items()},
        ),
    )

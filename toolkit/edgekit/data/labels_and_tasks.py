"""What the targets mean for a model: classes, quantities, or flags of anomalies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.data.labels import as_classes
from edgekit.data.store import Reader, first_unusable_row, reader_of
from edgekit.errors import DataError
from edgekit.records import Array, Dataset, Samples, Split, Task, TensorSpec

Splits = dict[Split, Samples]


def bind_targets(
    dataset: Dataset,
    splits: Splits,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Task | None, tuple[str, ...] | None, Splits, list[str]]:
    """Return task, labels, the splits with their targets as the task needs them, and notes.

    Raises:
        DataError: The targets do not fit the model's first output, or are missing.
    """
    output = outputs[0]
    readers = {split: reader_of(samples) for split, samples in splits.items()}
    task = dataset.task or infer_task(readers, inputs, output)
    notes = [f"Targets belong to the first output, {output.name!r}."] if len(outputs) > 1 else []
    test = readers.get("test")
    if test is not None and test.targets is None:
        raise DataError(
            f"{dataset.name}: the test samples have no targets, so nothing can be scored.",
            hint="Add y_test"
            + (", 0 for normal and 1 for anomalies" if task == "reconstruction" else "")
            + "; samples without targets can serve as x_train.",
        )
    bound: Splits = {}
    for split, reader in readers.items():
        place = f"{dataset.name}, {split}"
        if reader.targets is None or task is None:
            new = reader
        elif task == "classification":
            classes, note = _classes(reader.targets, output, dataset.labels, place)
            new = replace(reader, targets=classes)
            notes += [note] if note and note not in notes else []
        elif task == "regression":
            new = _regression(reader, output, dataset.labels, place)
        else:
            # Only the test split is told apart: a model learns to rebuild whatever it is shown.
            flags = _flags(reader.targets, place) if split == "test" else None
            new = replace(reader, targets=flags)
        bound[split] = replace(splits[split], read=new)
    if task == "classification":
        _check_labels(dataset, output)
    if task == "reconstruction" and dataset.labels is not None and len(dataset.labels) > 1:
        notes.append(f"{dataset.labels[1]!r} (label 1) is taken for the anomalies.")
    return task, dataset.labels if task == "classification" else None, bound, notes


def infer_task(
    readers: dict[Split, Reader], inputs: Sequence[TensorSpec], output: TensorSpec
) -> Task | None:
    """Return what the targets mean, judged by the model's output; None where there are none."""
    mirrors = any(spec.shape[1:] == output.shape[1:] for spec in inputs)
    scored = readers.get("test") or readers.get("train")
    targets = scored.targets if scored is not None else None
    if targets is None:
        return "reconstruction" if mirrors else None
    classes, _ = as_classes(targets)
    n_classes = _n_classes(output)
    flags = classes is not None and set(np.unique(classes)) <= {0, 1}
    train = readers.get("train")
    unlabelled = train is not None and train.targets is None
    if mirrors and flags and (n_classes != 2 or unlabelled):
        return "reconstruction"
    if classes is not None and n_classes is not None and (flags or output.shape[-1] > 1):
        return "classification"
    return "regression"


def _n_classes(output: TensorSpec) -> int | None:
    """Return the number of classes an output can tell: `k` for `[1, k]`, 2 for one unit."""
    return max(2, output.shape[1]) if len(output.shape) == 2 else None


def _classes(
    targets: Array, output: TensorSpec, labels: tuple[str, ...] | None, place: str
) -> tuple[Array, str | None]:
    n_classes = _n_classes(output)
    if n_classes is None:
        raise DataError(
            f"{place}: a classifier's output is [1, classes].",
            found=f"Output {output.name!r} is {list(output.shape)}.",
            hint="Give task regression or reconstruction, or another model.",
        )
    classes, note = as_classes(targets)
    if classes is None:
        raise DataError(
            f"{place}: the targets are no class labels.",
            found=f"They are {targets.dtype} of shape {list(targets.shape)}, the model has "
            f"{n_classes} classes.",
            hint="Give whole numbers [n], one-hot rows or texts, or task regression.",
        )
    if targets.ndim == 2 and targets.shape[1] > 1 and targets.shape[1] != n_classes:
        raise DataError(
            f"{place}: the one-hot labels have {targets.shape[1]} columns, the model has "
            f"{n_classes} classes.",
            hint="Make both from the same list of classes.",
        )
    outside = np.flatnonzero((classes < 0) | (classes >= n_classes))
    if len(outside):
        row = int(outside[0])
        named = (
            f" ({labels[classes[row]]!r:.40})" if labels and 0 <= classes[row] < len(labels) else ""
        )
        raise DataError(
            f"{place}: sample {row} has label {classes[row]}{named}, the model has {n_classes} "
            "classes.",
            found=f"{len(outside)} of {len(classes)} labels are not in 0-{n_classes - 1}.",
            hint="Number the classes from 0, or give a model with an output for each.",
        )
    return classes, note


def _check_labels(dataset: Dataset, output: TensorSpec) -> None:
    n_classes = _n_classes(output)
    if dataset.labels is not None and len(dataset.labels) != n_classes:
        names = ", ".join(dataset.labels[:6]) + (", ..." if len(dataset.labels) > 6 else "")
        raise DataError(
            f"{dataset.name} has {len(dataset.labels)} classes, the model has {n_classes}.",
            found=f"Classes: {names}.",
            hint="List the model's classes in its order (labels.txt in the folder, or labels).",
        )


def _regression(
    reader: Reader, output: TensorSpec, labels: tuple[str, ...] | None, place: str
) -> Reader:
    targets = reader.targets
    assert targets is not None, "asked only where there are targets"
    shape = output.shape[1:]
    if labels is not None:
        raise DataError(
            f"{place}: the targets are {len(labels)} classes, the model predicts quantities.",
            found=f"Output {output.name!r} is {list(output.shape)}.",
            hint="Give a classifier, or numbers as targets.",
        )
    if targets.dtype.kind not in "biuf" or math.prod(targets.shape[1:]) != math.prod(shape):
        raise DataError(
            f"{place}: the targets do not fit the model's output {output.name!r}.",
            found=f"Targets are {targets.dtype} {list(targets.shape)}, the output is "
            f"{list(output.shape)}.",
            hint="Give one number an output unit and sample.",
        )
    row = first_unusable_row(targets)
    if row is not None:
        raise DataError(
            f"{place}: the target of sample {row} is NaN, infinite or beyond float32.",
            hint="Remove or repair such samples.",
        )
    return replace(reader, target_shape=shape)


def _flags(targets: Array, place: str) -> Array:
    classes, _ = as_classes(targets)
    values = set() if classes is None else set(np.unique(classes).tolist())
    if classes is None or not values <= {0, 1}:
        raise DataError(
            f"{place}: a model that rebuilds its input is scored on flags 0 (normal) and 1.",
            found=f"Targets are {targets.dtype} {list(targets.shape)}.",
            hint="Give y_test with 1 for each anomaly, 0 for all else.",
        )
    if len(values) < 2:
        raise DataError(
            f"{place}: all samples carry the flag {values.pop()}.",
            found="ROC AUC compares normal samples with anomalies.",
            hint="Add samples of the other kind.",
        )
    return classes

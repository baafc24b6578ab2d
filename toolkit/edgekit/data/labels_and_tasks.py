"""What the targets mean for a model: the data's targets, as the task needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.data.boxes import as_seen
from edgekit.data.heads import bound_head, undeclared_head
from edgekit.data.store import Reader, first_unusable_row, reader_of
from edgekit.errors import DataError
from edgekit.evaluation.tasks import (
    DETECTION,
    REGRESSION,
    TASKS,
    BoundTargets,
    Evidence,
    Task,
    infer_task,
    task_named,
)
from edgekit.evaluation.tasks.class_labels import label_of
from edgekit.evaluation.tasks.detection import are_boxes
from edgekit.records import Array, Dataset, Samples, Split, TensorSpec
from edgekit_runner import Head, box_fault

Splits = dict[Split, Samples]


def bind_targets(
    dataset: Dataset,
    splits: Splits,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Dataset, Splits, list[str]]:
    """Return the data set with task, labels and head, the splits with their targets, and notes.

    Test samples need targets where the training samples have some. Where there are none at all,
    there is no task: files can be compared by their outputs, and are not scored.

    Raises:
        DataError: The targets do not fit the model's first output, or the test split's are missing.
        UsageError: The data set names a task that there is not.
    """
    output = outputs[0]
    readers = {split: reader_of(samples) for split, samples in splits.items()}
    test = readers.get("test")
    head, note = bound_head(
        dataset.head,
        inputs,
        outputs,
        labels=dataset.labels,
        boxes=any(r.targets is not None and are_boxes(r.targets) for r in readers.values()),
    )
    if test is not None and all(reader.targets is None for reader in readers.values()):
        nothing = f"{dataset.name} has no targets: outputs are compared, and nothing is scored."
        return _told(dataset, None, head), splits, [nothing, *([note] if note else [])]
    evidence = _evidence(readers, inputs, output, headed=head is not None)
    task = task_named(dataset.task) if dataset.task else infer_task(evidence)
    if task is DETECTION and head is None:
        raise undeclared_head(dataset.name, inputs, outputs)
    head = head if task in (DETECTION, None) else None
    several = len(outputs) > 1 and head is None
    notes = [f"Targets belong to the output {output.name!r}."] if several else []
    notes += [note] if note and head is not None else []
    if test is not None and test.targets is None:
        missing = task.missing_targets if task else Task.missing_targets
        raise DataError(
            f"{dataset.name}: the test samples have no targets, the training samples have.",
            hint=f"{missing}, or leave y_train out to compare outputs without a score.",
        )
    if task is None:
        return _told(dataset, None, head), splits, notes
    bound: Splits = {}
    for split, reader in readers.items():
        new = reader
        if reader.targets is not None:
            new, said = _with_bound(reader, task, output, split=split, dataset=dataset, head=head)
            notes += [note for note in said if note not in notes]
        bound[split] = replace(splits[split], read=new)
    task.check_labels(dataset.labels, output, dataset.name)
    notes += [note] if (note := task.label_note(dataset.labels)) else []
    labels = dataset.labels if task.has_labels else None
    return replace(_told(dataset, task, head), labels=labels), bound, notes


def _with_bound(
    reader: Reader,
    task: Task,
    output: TensorSpec,
    *,
    split: Split,
    dataset: Dataset,
    head: Head | None,
) -> tuple[Reader, list[str]]:
    """Return the reader of a split with its targets as the task needs them, and notes."""
    place = f"{dataset.name}, {split}"
    notes: list[str | None] = []
    if head is not None:
        reader, cut = as_seen(reader)
        notes.append(cut)
    assert reader.targets is not None
    try:
        found = task.bind(reader.targets, output, split=split, labels=dataset.labels, place=place)
    except DataError as error:
        # What is nothing else is taken for quantities; where it is none, nothing fits.
        if dataset.task or task is not REGRESSION or dataset.labels is not None:
            raise
        raise fits_no_task(reader.targets, output, place) from error
    notes.append(found.note)
    new = _with_targets(reader, found, place)
    if head is not None:
        notes.append(check_classes(new, head, dataset, split))
    return new, [note for note in notes if note]


def _told(dataset: Dataset, task: Task | None, head: Head | None) -> Dataset:
    return replace(
        dataset,
        task=None if task is None else task.name,
        labels=None if task is None else dataset.labels,
        head=None if head is None else head.table,
    )


def check_classes(reader: Reader, head: Head, dataset: Dataset, split: Split) -> str | None:
    """Say which classes have no box in the test split.

    Raises:
        DataError: The data has other classes than the head.
    """
    labels, classes, boxes = dataset.labels, head.classes, reader.targets
    assert boxes is not None
    if classes is not None and labels is not None and len(labels) != classes:
        raise DataError(
            f"{dataset.name} has {len(labels)} classes, the model's outputs have {classes}.",
            found=f"Classes: {', '.join(labels[:6])}{', ...' * (len(labels) > 6)}.",
            hint="List the model's classes in its order, or say in the head whether there is a "
            "background or an objectness.",
        )
    fault = box_fault(boxes, classes)
    if fault is not None:
        raise DataError(
            f"{dataset.name}, {split}: sample {fault[0]} {fault[1]}.",
            hint="Number the classes from 0, or give the model that knows them.",
        )
    there = boxes[reader.index]
    seen = set(np.unique(there[..., 4][there[..., 5] == 0]).astype(int).tolist())
    missing = [i for i in range(classes or len(labels or ())) if i not in seen]
    if split != "test" or not missing:
        return None
    named = ", ".join(label_of(i, labels) for i in missing[:3]) + ", ..." * (len(missing) > 3)
    return f"No test picture has a box of {named}: the mean is that of the other classes."


def fits_no_task(targets: Array, output: TensorSpec, place: str) -> DataError:
    """Return the error for targets that no task takes, with what each would need."""
    needs = {task.name: task.needs(output) for task in TASKS.values()}
    return DataError(
        f"{place}: the targets fit no task of a model with the output {list(output.shape)}.",
        found=f"They are {targets.dtype} {list(targets.shape)}.",
        hint="Needed for "
        + "; ".join(f"{name}: {words}" for name, words in needs.items() if words)
        + ".",
    )


def _with_targets(reader: Reader, bound: BoundTargets, place: str) -> Reader:
    """Return the reader with the targets of the task.

    Raises:
        DataError: A quantity is not a number that float32 holds.
    """
    if bound.shape is None:
        return replace(reader, targets=bound.targets)
    assert bound.targets is not None, "quantities have a shape, and are there"
    row = first_unusable_row(bound.targets)
    if row is not None:
        raise DataError(
            f"{place}: the target of sample {row} is NaN, infinite or beyond float32.",
            hint="Remove or repair such samples.",
        )
    return replace(reader, targets=bound.targets, target_shape=bound.shape)


def _evidence(
    readers: dict[Split, Reader],
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    *,
    headed: bool,
) -> Evidence:
    scored = readers.get("test") or readers.get("train")
    train = readers.get("train")
    return Evidence(
        targets=scored.targets if scored is not None else None,
        unlabelled_train=train is not None and train.targets is None,
        inputs=inputs,
        output=output,
        headed=headed,
    )

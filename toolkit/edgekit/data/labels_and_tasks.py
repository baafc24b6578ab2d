"""What the targets mean for a model: the data's targets, as the task needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgekit.data.boxes import as_seen
from edgekit.data.formats.images import naming_files
from edgekit.data.heads import bound_head, undeclared_head
from edgekit.data.store import Reader, first_unusable_row, reader_of, targets_by_output
from edgekit.errors import DataError
from edgekit.evaluation.tasks import (
    DETECTION,
    NO_TASK,
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
from edgekit.records import Array, Dataset, OutputTask, Samples, Split, TensorSpec
from edgekit_runner import Head, box_fault

Splits = dict[Split, Samples]


def bind_targets(
    dataset: Dataset,
    splits: Splits,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Dataset, Splits, list[str]]:
    """Return what targets mean, the splits with their targets as the tasks need them, and notes.

    Test samples need targets where the training samples have some. Where there are none at all,
    there is no task: files can be compared by their outputs, and are not scored.

    Targets that name an output are its own; those without a name are of the first output. The first
    output with targets is the scored one, the others have a task each in `Dataset.others`.

    Args:
        dataset: The data, of which name, tasks and labels are read.
        splits: Its splits.
        inputs: The model's inputs.
        outputs: The model's outputs, the one to score first.

    Raises:
        DataError: The targets do not fit the model's outputs, or the test split's are missing.
        UsageError: The data set names a task that there is not.
    """
    of_output, notes = _targets_of_outputs(dataset, splits, outputs)
    main = next((output for output in outputs if output.name in of_output), outputs[0])
    declared = dataset.others.get(main.name, OutputTask())
    first = replace(
        dataset,
        task=dataset.task or declared.task,
        labels=dataset.labels or declared.labels,
        output=main.name if main is not outputs[0] or len(of_output) > 1 else None,
        others={},
    )
    first, bound, said = _bind_output(
        first, _with_targets_of(splits, of_output.get(main.name)), inputs, main, outputs
    )
    if len(outputs) > 1 and first.task is not None and first.head is None:
        notes.append(f"Targets belong to the output {main.name!r}." if len(of_output) < 2 else "")
    notes += said
    for output in outputs:
        if output is main or output.name not in of_output:
            continue
        told = dataset.others.get(output.name, OutputTask())
        view = replace(dataset, task=told.task, labels=told.labels, any_targets=False)
        targets = of_output[output.name]
        having = {split: samples for split, samples in splits.items() if split in targets}
        view, also, said = _bind_output(view, _with_targets_of(having, targets), inputs, output)
        notes += said
        if view.task is None:
            continue
        meaning = OutputTask(task=view.task, labels=view.labels)
        first = replace(first, others={**first.others, output.name: meaning})
        for split, samples in also.items():
            reader, own = reader_of(samples), reader_of(bound[split])
            if reader.targets is not None:
                entry = {output.name: (reader.targets, reader.target_shape)}
                own = replace(own, others={**own.others, **entry})
                bound[split] = replace(bound[split], read=own)
    return first, bound, [note for note in notes if note]


OfOutput = Mapping[Split, Array]
"""The targets of one output, by split."""


def _targets_of_outputs(
    dataset: Dataset, splits: Splits, outputs: Sequence[TensorSpec]
) -> tuple[dict[str, OfOutput], list[str]]:
    """Return the targets of each output that has some, by its name, and notes.

    Raises:
        DataError: None of the names is that of an output, or an output has targets twice.
    """
    named: dict[str, dict[Split, Array]] = {}
    for split, samples in splits.items():
        reader = reader_of(samples)
        by_output = targets_by_output(reader.store)
        for name, array in by_output.items():
            named.setdefault(name, {})[split] = array
        if reader.targets is None:
            continue
        if not any(reader.store.targets is array for array in by_output.values()):
            if outputs[0].name in by_output:
                raise DataError(
                    f"{dataset.name}: the output {outputs[0].name!r} has targets twice.",
                    found=f"y_{split}, which is the first output's, and "
                    f"y_{split}_{outputs[0].name}.",
                    hint="Leave one of them out.",
                )
            named.setdefault(outputs[0].name, {})[split] = reader.targets
    known = [output.name for output in outputs]
    strange = [name for name in (*named, *dataset.others) if name not in known]
    if strange and (not any(name in known for name in named) or strange[0] not in named):
        raise DataError(
            f"{dataset.name}: the model has no output {strange[0]!r}.",
            found=f"It has: {', '.join(known)}.",
            hint=f"Name the targets y_test_{known[0]}"
            + (f", y_test_{known[1]}." if len(known) > 1 else ", or y_test."),
        )
    notes = [f"Targets not used, of no output: {', '.join(strange)}."] if strange else []
    return {name: targets for name, targets in named.items() if name in known}, notes


def _with_targets_of(splits: Splits, targets: OfOutput | None) -> Splits:
    """Return the splits with the targets of one output; None leaves those they have."""
    if targets is None:
        return splits
    return {
        split: replace(
            samples,
            read=replace(reader_of(samples), targets=targets.get(split), target_shape=None),
        )
        for split, samples in splits.items()
    }


def _bind_output(
    dataset: Dataset,
    splits: Splits,
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    outputs: Sequence[TensorSpec] = (),
) -> tuple[Dataset, Splits, list[str]]:
    """Return what the targets of one output mean, the splits with them, and notes.

    Args:
        dataset: The data, with the task and labels of the output as far as they are known.
        splits: The splits, with the targets of the output.
        inputs: The model's inputs.
        output: The output.
        outputs: All outputs, of which a head may tell boxes; none where that is not asked.
    """
    readers = {split: reader_of(samples) for split, samples in splits.items()}
    test = readers.get("test")
    boxes = any(r.targets is not None and are_boxes(r.targets) for r in readers.values())
    head, note = None, None
    if outputs:
        head, note = bound_head(dataset.head, inputs, outputs, labels=dataset.labels, boxes=boxes)
    if test is not None and all(reader.targets is None for reader in readers.values()):
        nothing = f"{dataset.name} has no targets: outputs are compared, and nothing is scored."
        return _told(dataset, None, head), splits, [nothing, *([note] if note else [])]
    evidence = _evidence(readers, inputs, output, headed=head is not None)
    task = task_named(dataset.task) if dataset.task else infer_task(evidence)
    if task is DETECTION and head is None:
        if dataset.task or not dataset.any_targets:
            raise undeclared_head(dataset.name, inputs, outputs or [output])
        task = NO_TASK
    head = head if task in (DETECTION, None) else None
    notes = [note] if note and head is not None else []
    if test is not None and test.targets is None:
        missing = task.missing_targets if task else Task.missing_targets
        raise DataError(
            f"{dataset.name}: the test samples have no targets, the training samples have.",
            hint=f"{missing}, or leave y_train out to compare outputs without a score.",
        )
    if task is None:
        return _told(dataset, None, head), splits, notes
    try:
        bound, said = _bind_each(dataset, splits, task, output, head)
    except DataError:
        if dataset.task or not dataset.any_targets:
            raise
        task, head = NO_TASK, None
        bound, said = _bind_each(dataset, splits, task, output, head)
        said.append("The targets fit no task: nothing but your own metric is known of them.")
    notes += said
    task.check_labels(dataset.labels, output, dataset.name)
    notes += [note] if (note := task.label_note(dataset.labels)) else []
    labels = dataset.labels if task.has_labels else None
    return replace(_told(dataset, task, head), labels=labels), bound, notes


def _bind_each(
    dataset: Dataset, splits: Splits, task: Task, output: TensorSpec, head: Head | None
) -> tuple[Splits, list[str]]:
    """Return the splits with their targets as a task takes them, and notes."""
    bound: Splits = {}
    notes: list[str] = []
    for split, samples in splits.items():
        reader = reader_of(samples)
        if reader.targets is not None:
            with naming_files(reader.store):
                reader, said = _with_bound(
                    reader, task, output, split=split, dataset=dataset, head=head
                )
            notes += [note for note in said if note not in notes]
        bound[split] = replace(samples, read=reader)
    return bound, notes


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
        # Those of calibration are some of the training pictures.
        notes.append(f"{split}: {cut}" if cut and split != "calibrate" else None)
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
            sample=fault[0],
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

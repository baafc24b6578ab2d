"""What the targets mean for a model: the data's targets, as the task needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgekit.data.store import Reader, first_unusable_row, reader_of
from edgekit.errors import DataError
from edgekit.evaluation.tasks import (
    NO_TASK,
    REGRESSION,
    TASKS,
    BoundTargets,
    Evidence,
    Task,
    infer_task,
    task_named,
)
from edgekit.records import Array, Dataset, Samples, Split, TensorSpec

Splits = dict[Split, Samples]


def bind_targets(
    dataset: Dataset,
    splits: Splits,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[str | None, tuple[str, ...] | None, Splits, list[str]]:
    """Return task, labels, the splits with their targets as the task needs them, and notes.

    Test samples need targets where the training samples have some. Where there are none at all,
    there is no task: files can be compared by their outputs, and are not scored.

    Raises:
        DataError: The targets do not fit the model's first output, or the test split's are missing.
        UsageError: The data set names a task that there is not.
    """
    output = outputs[0]
    readers = {split: reader_of(samples) for split, samples in splits.items()}
    test = readers.get("test")
    if test is not None and all(reader.targets is None for reader in readers.values()):
        nothing = f"{dataset.name} has no targets: outputs are compared, and nothing is scored."
        return None, None, splits, [nothing]
    task = (
        task_named(dataset.task) if dataset.task else infer_task(_evidence(readers, inputs, output))
    )
    notes = [f"Targets belong to the output {output.name!r}."] if len(outputs) > 1 else []
    if test is not None and test.targets is None:
        missing = task.missing_targets if task else Task.missing_targets
        raise DataError(
            f"{dataset.name}: the test samples have no targets, the training samples have.",
            hint=f"{missing}, or leave y_train out to compare outputs without a score.",
        )
    if task is None:
        return None, None, splits, notes
    try:
        bound, said = _bind_each(dataset, splits, task, output)
    except DataError:
        if dataset.task or not dataset.any_targets:
            raise
        task = NO_TASK
        bound, said = _bind_each(dataset, splits, task, output)
        said.append("The targets fit no task: nothing but your own metric is known of them.")
    notes += said
    task.check_labels(dataset.labels, output, dataset.name)
    notes += [note] if (note := task.label_note(dataset.labels)) else []
    return task.name, dataset.labels if task.has_labels else None, bound, notes


def _bind_each(
    dataset: Dataset, splits: Splits, task: Task, output: TensorSpec
) -> tuple[Splits, list[str]]:
    """Return the splits with their targets as a task takes them, and notes."""
    bound: Splits = {}
    notes: list[str] = []
    for split, samples in splits.items():
        reader = reader_of(samples)
        if reader.targets is not None:
            place = f"{dataset.name}, {split}"
            try:
                found = task.bind(
                    reader.targets, output, split=split, labels=dataset.labels, place=place
                )
            except DataError as error:
                # What is nothing else is taken for quantities; where it is none, nothing fits.
                if dataset.task or task is not REGRESSION or dataset.labels is not None:
                    raise
                raise fits_no_task(reader.targets, output, place) from error
            reader = _with_targets(reader, found, place)
            notes += [found.note] if found.note and found.note not in notes else []
        bound[split] = replace(samples, read=reader)
    return bound, notes


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
    readers: dict[Split, Reader], inputs: Sequence[TensorSpec], output: TensorSpec
) -> Evidence:
    scored = readers.get("test") or readers.get("train")
    train = readers.get("train")
    return Evidence(
        targets=scored.targets if scored is not None else None,
        unlabelled_train=train is not None and train.targets is None,
        inputs=inputs,
        output=output,
    )

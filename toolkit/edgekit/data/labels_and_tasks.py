"""What the targets mean for a model: the data's targets, as the task needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.data.store import Reader, first_unusable_row, reader_of, targets_by_output
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
from edgekit.records import Array, Dataset, OutputTask, Samples, Split, TensorSpec

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
        output=None if main is outputs[0] else main.name,
        others={},
    )
    first, bound, said = _bind_output(
        first, _with_targets_of(splits, of_output.get(main.name)), inputs, main
    )
    if len(outputs) > 1 and first.task is not None:
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
    dataset: Dataset, splits: Splits, inputs: Sequence[TensorSpec], output: TensorSpec
) -> tuple[Dataset, Splits, list[str]]:
    """Return what the targets of one output mean, the splits with them, and notes."""
    readers = {split: reader_of(samples) for split, samples in splits.items()}
    test = readers.get("test")
    if test is not None and all(reader.targets is None for reader in readers.values()):
        nothing = f"{dataset.name} has no targets: outputs are compared, and nothing is scored."
        return replace(dataset, task=None, labels=None), splits, [nothing]
    task = (
        task_named(dataset.task) if dataset.task else infer_task(_evidence(readers, inputs, output))
    )
    if test is not None and test.targets is None:
        missing = task.missing_targets if task else Task.missing_targets
        raise DataError(
            f"{dataset.name}: the test samples have no targets, the training samples have.",
            hint=f"{missing}, or leave y_train out to compare outputs without a score.",
        )
    if task is None:
        return replace(dataset, task=None, labels=None), splits, []
    try:
        bound, notes = _bind_each(dataset, splits, task, output)
    except DataError:
        if dataset.task or not dataset.any_targets:
            raise
        task = NO_TASK
        bound, notes = _bind_each(dataset, splits, task, output)
        notes.append("The targets fit no task: nothing but your own metric is known of them.")
    task.check_labels(dataset.labels, output, dataset.name)
    notes += [note] if (note := task.label_note(dataset.labels)) else []
    labels = dataset.labels if task.has_labels else None
    return replace(dataset, task=task.name, labels=labels), bound, notes


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

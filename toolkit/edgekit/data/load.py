"""Opening a DATA argument, whatever form it has."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.choices import list_data_formats
from edgekit.data.formats import FORMATS, Argument
from edgekit.data.formats.builtin import BUILTINS
from edgekit.data.formats.live import open_live
from edgekit.data.label_order import in_order_of
from edgekit.data.preprocessing import check_preprocessing
from edgekit.data.splits import TEST_SHARE, calibration_subset, drawn_test, split_of
from edgekit.data.store import RawDataset, adopted, reader_of, whole
from edgekit.errors import DataError, UsageError
from edgekit.files import check_input, what_is
from edgekit.printable import MOST_PATH, one_line, printable
from edgekit.records import (
    EACH_ROW,
    DataRequest,
    Dataset,
    LiveData,
    OutputTask,
    Samples,
    Split,
    TableOptions,
    TaskChoice,
)

FORMS = f"Give {list_data_formats()}."
LISTS = (".json", ".yaml", ".yml", ".xml")
"""Endings of the files that list the boxes of a folder of pictures, or their classes."""
MODELS = (".keras", ".h5", ".hdf5", ".tflite")
"""Endings of models, which are given as data where the arguments change places."""


def open_data(
    data: str | LiveData,
    *,
    split: float | None = None,
    table: TableOptions = EACH_ROW,
    target: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    calibration_samples: int = 200,
    seed: int = 0,
    task: TaskChoice = None,
    classes: Sequence[str] | None = None,
    needed: Split | None = None,
) -> Dataset:
    """Open the user's data.

    Args:
        data: One of `choices.DATA_FORMATS`; IDX files by their folder, or by folder and beginning
            of their names. Or what `take` made of data given from Python.
        split: Share of the samples that is drawn for testing, where the data has no test split;
            None draws a fifth of samples that are in no split, unless only test samples are needed.
        table: How the rows of a `.csv` become samples.
        target: The column to predict, for a `.csv`.
        preprocessing: How raw input becomes the model's; None takes the source's own (a
            `preprocessing.toml`), leaves open how pixels of image files are scaled, and arrays as
            they are.
        calibration_samples: Size of the subset of train that quantization sees.
        seed: Draws that subset, and the test split of a table without one.
        task: What the targets mean; None leaves it to the source, or to the model (`bind`). By
            output name where there are targets of several outputs.
        classes: Names of the classes in the model's order; None where the data's order is it.
        needed: The only split that will be read, if that is known: a large other one of an `.npz`
            is left out then, with a note.

    Raises:
        DataError: The data is not there, damaged, or does not fit itself.
        UsageError: An option that has no effect on this format.
    """
    spec = data if isinstance(data, str) else "data"
    # Compared, so that NaN is refused too.
    if split is not None and not 0 < split < 1:
        raise UsageError(f"Invalid value for split: {split!r:.40}.", hint="Give 0.2 for a fifth.")
    try:
        opened = _open(
            data,
            spec,
            column=target,
            table=table,
            preprocessing=preprocessing,
            seed=seed,
            split=split,
            needed=needed,
        )
    except OSError as error:
        raise DataError(
            f"{spec} cannot be read.",
            found=f"The system says: {error.strerror or error}.",
            hint="Check the path and the rights.",
        ) from error
    except MemoryError as error:
        raise DataError(
            f"There is not enough memory to read {spec}.",
            found=f"{error}." if str(error) else None,
            hint="Free memory or raise the limit (ulimit -v), or give .npz, which is not loaded.",
        ) from error
    if isinstance(opened, Dataset):
        if classes is not None:
            raise UsageError(
                "The classes of a Dataset cannot be put into another order.",
                hint="Number its targets in the model's order instead.",
            )
        dataset, pool, drawn = opened, None, False
    else:
        if classes is not None:
            opened = in_order_of(opened, tuple(classes), spec)
        _check_splits(opened, spec)
        _check_labels(opened, spec)
        applied = opened.preprocessing
        if preprocessing is not None:
            applied = check_preprocessing(preprocessing, "preprocessing")
        dataset = Dataset(
            name=opened.name,
            task=opened.task,
            train=whole("train", opened.train, applied) if opened.train is not None else None,
            calibrate=None,
            test=whole("test", opened.test, applied) if opened.test is not None else None,
            labels=opened.labels,
            preprocessing=applied,
            notes=tuple(one_line(note) for note in opened.notes),
            origins=tuple(one_line(origin) for origin in opened.origins),
            others={
                name: OutputTask(labels=labels) for name, labels in opened.labels_by_output.items()
            },
        )
        pool = None if opened.pool is None else whole("train", opened.pool, applied)
        drawn = opened.drawn
    if not drawn:
        dataset = _with_test(dataset, pool, split, seed, needed)
    if dataset.calibrate is None and dataset.train is not None:
        train = adopted(dataset.train)
        calibrate = calibration_subset(train, calibration_samples, seed)
        dataset = replace(dataset, train=train, calibrate=calibrate)
    if isinstance(task, str | None):
        return replace(dataset, task=task or dataset.task)
    told = {
        name: replace(dataset.others.get(name, OutputTask()), task=one)
        for name, one in task.items()
        if name  # "" is the scored output
    }
    first = task.get("") or dataset.task
    return replace(dataset, task=first, others={**dataset.others, **told})


def open_request(
    request: DataRequest,
    *,
    calibration_samples: int = 200,
    seed: int = 0,
    needed: Split | None = None,
) -> Dataset:
    """Open data as a request names it; see `open_data`."""
    if isinstance(request.data, Dataset):
        head = request.head or request.data.head
        return replace(request.data, head=head)
    opened = open_data(
        request.data,
        split=request.split,
        table=request.table,
        target=request.column,
        preprocessing=request.preprocessing,
        calibration_samples=calibration_samples,
        seed=seed,
        task=request.task,
        classes=request.classes,
        needed=needed,
    )
    return replace(opened, head=request.head or opened.head)


def _with_test(
    dataset: Dataset, pool: Samples | None, share: float | None, seed: int, needed: Split | None
) -> Dataset:
    """Draw a test split where one is asked for, or where the samples are in no split."""
    name = dataset.name
    if pool is None and share is None:
        return dataset
    if dataset.test is not None:
        raise UsageError(
            f"{name} has a test split of {dataset.test.n} samples already.", hint="Drop --split."
        )
    if share is None and pool is not None and needed == "test":
        return replace(dataset, test=replace(pool, split="test"))
    if share is None and pool is not None and reader_of(pool).targets is None:
        note = "The samples are in no split: calibration and comparison take the same ones."
        notes = (*dataset.notes, note)
        return replace(dataset, train=pool, test=replace(pool, split="test"), notes=notes)
    samples = pool or split_of(dataset, "train")
    train, test = drawn_test(samples, share or TEST_SHARE, seed, name)
    note = f"{test.n} of {samples.n} samples were drawn for testing" + (
        f" (split = {share:g})."
        if share
        else ", since there is no test split: "
        "scores are too good where the model learned from them."
    )
    return replace(dataset, train=train, test=test, notes=(*dataset.notes, note))


def _open(
    data: str | LiveData,
    spec: str,
    *,
    column: str | None,
    table: TableOptions,
    preprocessing: Mapping[str, Any] | None,
    seed: int,
    split: float | None,
    needed: Split | None,
) -> RawDataset | Dataset:
    if isinstance(data, LiveData):
        _refuse_columns(spec, column, table)
        return open_live(data, spec, needed)
    try:
        path = Path(data).expanduser()
    except RuntimeError as error:
        raise DataError(f"{spec} names no user's home.", found=f"{error}", hint=FORMS) from error
    argument = Argument(
        text=spec,
        path=path,
        found=what_is(path),
        column=column,
        table=table,
        preprocessing=preprocessing,
        seed=seed,
        split=split,
        needed=needed,
    )
    chosen = next((form for form in FORMATS if form.recognizes(argument)), None)
    if chosen is not None and not chosen.has_columns:
        _refuse_columns(spec, column, table)
    if chosen is not None:
        if argument.is_file:
            check_input(path, DataError, hint=FORMS)
        return chosen.open(argument)
    if argument.is_missing:
        close = difflib.get_close_matches(spec, BUILTINS, n=1)
        raise DataError(
            f"{spec} does not exist.",
            found=f"Did you mean {close[0]!r}?" if close else None,
            hint=f"Check the path. Built-in names: {', '.join(BUILTINS)}. --help lists all forms.",
        )
    check_input(path, DataError, hint=FORMS)
    if path.suffix in MODELS:
        raise DataError(
            f"{spec} is a model, not data.",
            hint=f"Give the model first: {printable(path, MOST_PATH)} --data DATA.",
        )
    folder = path.resolve().parent
    if folder.name == "annotations":  # of COCO
        folder = folder.parent
    raise DataError(
        f"{spec}: data is not read from {path.suffix or 'such'} files.",
        hint=f"Give the folder that holds it and the pictures, such as {folder}."
        if path.suffix.lower() in LISTS
        else FORMS,
    )


def _refuse_columns(spec: str, column: str | None, table: TableOptions) -> None:
    if column is not None:
        raise UsageError(f"{spec} has no columns to choose a target from.", hint="Drop --column.")
    if table != EACH_ROW:
        raise UsageError(
            f"{spec} is no table.", hint="Drop --window, --stride, --group and --ignore."
        )


def _check_splits(opened: RawDataset, spec: str) -> None:
    for name, store in (("train", opened.train), ("test", opened.test), ("only", opened.pool)):
        if store is not None and len(store) == 0:
            raise DataError(f"{spec}: the {name} split is empty.", hint="Add samples or drop it.")


def _check_labels(opened: RawDataset, spec: str) -> None:
    strange = [label for label in opened.labels or () if not label.isprintable()]
    if strange:
        raise DataError(
            f"{spec}: a class name holds a control character.",
            found=f"It is {strange[0]!r:.80}.",
            hint="Rename the class; tables and reports show its name.",
        )

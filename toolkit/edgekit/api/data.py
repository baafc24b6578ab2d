"""Data as the verbs take it from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import UsageError
from edgekit.records import DataRequest, Dataset, LiveData, TableOptions, TaskChoice

if TYPE_CHECKING:
    from edgekit.data.own_metric import Asked
    from edgekit.evaluation.metrics import Metric

Data = str | Dataset | Any
"""As `--data` of the command line, a `Dataset`, or arrays and streams (`data.formats.live`)."""


def files_of(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths of one file or of several.

    Example:
        >>> files_of("int8.tflite")
        [PosixPath('int8.tflite')]
    """
    return [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def taken(data: Data) -> str | Dataset | LiveData | None:
    """Return data as the pipeline takes it: a stream is read now, and once.

    Raises:
        DataError: It is in no form that is read, or fails.
    """
    if data is None or isinstance(data, str):
        return data
    from edgekit.data import take

    return take(data)


def picklable(data: Data) -> str | LiveData | None:
    """Return data as the process that trains can open it.

    Raises:
        DataError: As `taken`.
        UsageError: It is a `Dataset`.
    """
    found = taken(data)
    if isinstance(found, Dataset):
        raise UsageError(
            "Training takes no Dataset: it runs in another process.",
            hint="Give a dict of arrays, or file.py:function, which may return one.",
        )
    return found


def required(data: Data) -> str | Dataset | LiveData:
    """Return what `taken` returns, where it may not be missing.

    Raises:
        UsageError: It is None.
        DataError: As `taken`.
    """
    found = taken(data)
    if found is None:
        raise UsageError("No data was given.", hint="Give data=...")
    return found


def request_of(
    data: Data,
    *,
    split: float | None,
    table: TableOptions,
    column: str | None,
    classes: Sequence[str] | None,
    task: TaskChoice,
    preprocessing: Mapping[str, Any] | None,
    head: Mapping[str, Any] | None,
) -> DataRequest | None:
    """Return the request for data that may be left out; None where it is.

    Raises:
        DataError: As `taken`.
    """
    found = taken(data)
    if found is None:
        return None
    return DataRequest(
        data=found,
        split=split,
        table=table,
        column=column,
        classes=classes,
        task=task,
        preprocessing=preprocessing,
        head=head,
    )


def metrics(given: Asked | Sequence[Asked] | None) -> tuple[str | Metric, ...]:
    """Return the metrics that are asked for, the judged one first; none is the default.

    Raises:
        UsageError: There is no such metric.
        DataError: A function is not there, or its file cannot be run.
    """
    if given is None or given == ():
        return ()
    from edgekit.data import asked_metrics

    return asked_metrics(given)

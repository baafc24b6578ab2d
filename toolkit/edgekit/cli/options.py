"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A .keras, .h5, SavedModel folder or float .tflite file."
    ),
]
KerasSource = Annotated[str, typer.Argument(metavar="SOURCE", help="A .keras or .h5 file.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="A .tflite file.")]
DATA_HELP = (
    "An .npz (x_train y_train x_test y_test), a folder of class folders of images under train/ "
    "and test/, IDX files, a .csv, a built-in name (digits, fashion-mnist, spoken-digits, "
    "turbofan) or package.module:function."
)
Data = Annotated[str, typer.Option("--data", "-d", metavar="DATA", help=DATA_HELP)]
MaybeData = Annotated[str | None, typer.Option("--data", "-d", metavar="DATA", help=DATA_HELP)]
Column = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column to predict, for a .csv.")
]
Task = Annotated[
    str | None,
    typer.Option(
        help="classification, regression or reconstruction; default: inferred from the targets."
    ),
]
Preprocess = Annotated[
    Path | None,
    typer.Option(metavar="TOML", help="How raw images become inputs: size, scale, mean, std."),
]
Custom = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Module with the model's own classes; repeatable."),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run code that the model file brings along: only if you trust its author.",
    ),
]
Output = Annotated[
    str | None, typer.Option("--score-output", metavar="NAME", help="The output that is scored.")
]
Threads = Annotated[int, typer.Option(min=1, help="Interpreter threads for latency.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (schema 1) instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def task_of(name: str | None) -> str | None:
    """Check `--task`.

    Raises:
        UsageError: There is no such task.
    """
    if name is None:
        return None
    from edgekit.evaluation.tasks import task_named

    return task_named(name).name


def preprocessing_of(path: Path | None) -> Any:
    """Read `--preprocess`.

    Raises:
        UsageError: The file is missing or says what means nothing.
    """
    if path is None:
        return None
    from edgekit.data.preprocessing import read_preprocessing

    return read_preprocessing(path)

"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.choices import MAX_COUNT, list_data_formats
from edgekit.cli import option_values
from edgekit.cli.groups import with_parameters

if TYPE_CHECKING:
    from edgekit.records import TableOptions


def number(
    least: float, most: float = 3e38, *, above: bool = False, below: bool = False
) -> Callable[[str | float], float]:
    """Make the reader of an option that is a number: finite, and within its bounds.

    Every option that is no whole number is read by it; nan and inf, which Click takes, are not.

    Args:
        least: Least value.
        most: Largest value; by default what float32 holds.
        above: Whether `least` itself is refused.
        below: Whether `most` itself is refused.
    """
    lower = f"above {least:g}" if above else f"from {least:g}"
    upper = f", {'below' if below else 'at most'} {most:g}" if most < 3e38 else ""
    # A number that float32 holds only as zero is no number above zero.
    tiny = 1e-30 if above else 0.0

    def read(text: str | float) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        fits = least + tiny <= value <= most and not (below and value == most)
        if not fits:
            raise typer.BadParameter(f"{str(text)[:40]} is not a number {lower}{upper}.")
        return value + 0.0  # -0 is 0

    return read


def whole(least: int, most: int = MAX_COUNT) -> Callable[[str | int], int]:
    """Make the reader of an option that is a whole number from `least` to `most`."""

    def read(text: str | int) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise typer.BadParameter(
                f"{str(text)[:40]} is not a whole number from {least} to {most}."
            )
        return value

    return read


def size(text: str | int) -> int:
    """Read a number of bytes, such as 8G."""
    from edgekit.archives import parse_size

    try:
        return parse_size(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A .keras, .h5, SavedModel folder or float .tflite file."
    ),
]
KerasSource = Annotated[str, typer.Argument(metavar="SOURCE", help="A .keras or .h5 file.")]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="A .tflite or .tflite.gz file.")
]
DATA_HELP = f"{list_data_formats()[0].upper()}{list_data_formats()[1:]}."
Data = Annotated[str, typer.Option("--data", "-d", metavar="DATA", help=DATA_HELP)]
MaybeData = Annotated[str | None, typer.Option("--data", "-d", metavar="DATA", help=DATA_HELP)]
Split = Annotated[
    float | None,
    typer.Option(
        parser=number(0, 1, above=True, below=True),
        metavar="SHARE",
        help="Draw this share of the samples for testing, where the data has no test split.",
    ),
]
Column = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column to predict, for a .csv.")
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="The classes in the model's order, where the data numbers them in another one.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="What the targets mean; default: inferred from them. An unknown name lists the tasks."
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="What the targets mean, or OUTPUT=NAME for one of several outputs, repeatable; "
        "default: inferred from them. An unknown name lists the tasks.",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        metavar="TOML",
        help="How raw images become inputs: a file, or such as '{kind = \"image\", scale = 1}'.",
    ),
]
Head = Annotated[
    str | None,
    typer.Option(
        metavar="TOML",
        help="How a detector's outputs tell boxes: a file, or such as '{kind = \"yolo\"}'. "
        "Default: MODEL.head.toml, the manifest, or by shapes.",
    ),
]
Custom = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE", help="Module or .py file with the model's own classes; repeatable."
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run code that the model file brings along: only if you trust its author.",
    ),
]
Unroll = Annotated[
    bool,
    typer.Option("--unroll", help="Write recurrent layers out step by step, in every file."),
]
Recover = Annotated[
    bool,
    typer.Option(
        "--recover/--no-recover",
        help="Try remedies for a file that loses more than --max-drop on training samples.",
    ),
]
Prefer = Annotated[
    str,
    typer.Option(
        "--prefer",
        help="What the recommended file has least of: size, latency, or balanced, their product.",
    ),
]
TargetRuntime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        help="Recommend only what this runtime loads: litert, tflite or tensorflow.",
    ),
]
Output = Annotated[
    str | None, typer.Option("--score-output", metavar="NAME", help="The output that is scored.")
]
MaxUnpacked = Annotated[
    int | None,
    typer.Option(
        parser=size,
        metavar="SIZE",
        help="What a compressed model or .npz may unpack to, such as 8G; default: 100 times its "
        "size, 256M to 4G.",
    ),
]
MaxDrop = Annotated[
    float,
    typer.Option(
        parser=number(0),
        metavar="NUMBER",
        help="Accepted loss: points of accuracy or AUC, percent of RMSE.",
    ),
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="The metric to judge by, or file.py:function (function:lower where less is better); "
        "repeatable: others are shown. Default: by task and classes. An unknown name lists them.",
    ),
]
Gzip = Annotated[
    bool, typer.Option("--gzip", help="Also write each file packed with gzip: less flash.")
]
FailIfLost = Annotated[
    bool,
    typer.Option(
        "--fail-if-lost",
        help="Exit with code 6 where no file is recommended, or what was made is judged lost; "
        "results are kept.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (schema 1) instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


Window = Annotated[
    int | None,
    typer.Option(
        parser=whole(1),
        metavar="N",
        help="N rows of a .csv in a row are one sample; its target is that of the last row.",
    ),
]
Stride = Annotated[
    int, typer.Option(parser=whole(1), metavar="M", help="Rows from one window to the next.")
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column of a .csv whose rows stay together: no window spans two groups, nor a split.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Column of a .csv that is left out; repeatable."),
]


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Options that say how the rows of a table become samples."""

    window: Window = None
    stride: Stride = 1
    group: Group = None
    ignore: Ignore = None

    def table(self) -> TableOptions:
        """Return the options as `edgekit.api` takes them.

        Raises:
            UsageError: A stride is given, and no window.
        """
        from edgekit.errors import UsageError
        from edgekit.records import TableOptions

        if self.stride != 1 and self.window is None:
            raise UsageError("--stride has no effect without --window.", hint="Add --window.")
        return TableOptions(
            window=self.window,
            stride=self.stride,
            group=self.group,
            ignore=tuple(self.ignore or ()),
        )


@dataclass(frozen=True, kw_only=True)
class DataOptions(RowOptions):
    """Options that say how data is read."""

    split: Split = None
    column: Column = None
    classes: Classes = None
    task: Tasks = None
    preprocess: Preprocess = None
    head: Head = None

    def arguments(self) -> dict[str, Any]:
        """Return the options as keyword arguments of the functions of `edgekit.api`.

        Raises:
            UsageError: There is no such task.
            DataError: The file of `--preprocess` or `--head` is missing or invalid.
        """
        return {
            "split": self.split,
            "table": self.table(),
            "column": self.column,
            "classes": option_values.classes_of(self.classes),
            "task": option_values.tasks_of(self.task),
            "preprocessing": option_values.preprocessing_of(self.preprocess),
            "head": option_values.head_of(self.head),
        }


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(DataOptions):
    """Options that say how data is read, and how files are scored and compared."""

    metric: MetricNames = None
    max_drop: MaxDrop = 0.5
    score_output: Output = None

    def arguments(self) -> dict[str, Any]:
        """Return the options as keyword arguments of the functions of `edgekit.api`.

        Raises:
            UsageError: There is no such task or metric.
            DataError: The file of `--preprocess` or `--head` is missing or invalid.
        """
        return {
            **super().arguments(),
            "metric": option_values.metrics_of(self.metric),
            "max_drop": self.max_drop,
            "score_output": self.score_output,
        }


def with_unpacked_limit(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that reads archives the option `--max-unpacked`, in force while it runs."""
    added = inspect.Parameter(
        "max_unpacked", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MaxUnpacked
    )

    @functools.wraps(command)
    def call(*, max_unpacked: int | None, **given: Any) -> None:
        from edgekit.archives import unpacked_limit

        with unpacked_limit(max_unpacked):
            command(**given)

    return with_parameters(call, [*inspect.signature(command).parameters.values(), added])

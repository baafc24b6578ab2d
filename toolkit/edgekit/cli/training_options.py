"""Commands made from the steps of a recipe: their options are the fields of the step.

What a field accepts and means is declared once, in `edgekit.recipe.steps`; here it becomes an
option with its help.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import option_values, options
from edgekit.cli.output import say
from edgekit.recipe.settings import Setting, is_required, setting_of
from edgekit.recipe.steps import PassStep, Training

_OUTPUT = typer.Option("--output", "-o", metavar="F.keras", help="The file to write.")
Output = Annotated[Path, _OUTPUT]
PossibleOutput = Annotated[Path | None, _OUTPUT]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")]

Run = Callable[[PassStep, dict[str, Any]], None]

BEFORE: tuple[tuple[str, Any, Any], ...] = (
    ("source", options.KerasSource, inspect.Parameter.empty),
    ("data", options.Data, inspect.Parameter.empty),
    ("output", Output, inspect.Parameter.empty),
)
"""What every pass takes first."""
_AFTER: tuple[tuple[str, Any, Any], ...] = (
    ("resume", Resume, False),
    ("split", options.Split, None),
    ("rows", options.RowOptions, None),
    ("column", options.Column, None),
    ("classes", options.Classes, None),
    ("task", options.Tasks, None),
    ("preprocess", options.Preprocess, None),
    ("head", options.Head, None),
    ("custom", options.Custom, None),
    ("trust_code", options.TrustCode, False),
    ("force", options.Force, False),
    ("quiet", options.Quiet, False),
)


def pass_command(
    kind: type[PassStep],
    help_text: str,
    run: Run,
    before: Sequence[tuple[str, Any, Any]] = BEFORE,
) -> Callable[..., None]:
    """Return a command whose options are the fields of a step.

    Args:
        kind: The step.
        help_text: The command's help.
        run: Called with the step and the remaining options by name.
        before: Name, annotation and default of the first options.
    """
    own = [*_options_of(kind), *_options_of(Training)]
    names = {name for name, _, _ in own}
    trained = {entry.name for entry in fields(Training)}

    def command(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in names}
        chosen = {k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()}
        chosen = {k: v for k, v in chosen.items() if v is not None}
        training = Training(**{k: chosen.pop(k) for k in trained if k in chosen})
        run(kind(**chosen, training=training), given)

    # Typer reads both.
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, annotation, default in (*before, *own, *_AFTER)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = help_text
    command.__name__ = kind.kind
    return command


def pass_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Return options of a pass as keyword arguments of the functions of `edgekit.api`.

    They are those of the data, of loading the model, and of what is there already.

    Raises:
        UsageError: A value is invalid.
    """
    return {
        "data": given["data"],
        "split": given["split"],
        "table": given["rows"].table(),
        "column": given["column"],
        "classes": option_values.classes_of(given["classes"]),
        "task": option_values.tasks_of(given["task"]),
        "preprocessing": option_values.preprocessing_of(given["preprocess"]),
        "head": option_values.head_of(given["head"]),
        "custom": tuple(given["custom"] or ()),
        "trust_code": given["trust_code"],
        "resume": given["resume"],
        "force": given["force"],
    }


def tell_checkpoint(output: Path | None, *, resumed: bool, started: float) -> None:
    """Say after an interruption where the best weights so far are, if they are of this run.

    Args:
        output: The file that was to be written.
        resumed: Whether the run went on with an earlier one.
        started: When it started, in seconds since the epoch.
    """
    from edgekit.training.saving import checkpoint_path

    best = checkpoint_path(output) if output is not None else None
    # One that stood there before is of another run, unless this one went on with it.
    if best is not None and best.exists() and (resumed or best.stat().st_mtime >= started):
        say(f"The best so far is {best}; go on with --resume", error=True)


def _options_of(kind: type) -> list[tuple[str, Any, Any]]:
    """Return name, annotation and default of an option for every field that has a setting."""
    hints = typing.get_type_hints(kind)
    found = []
    for entry in fields(kind):
        setting = setting_of(entry)
        if setting is None:
            continue
        if entry.default == ():
            annotation: Any = list[str] | None
            default: Any = None
            option = typer.Option(metavar="LAYER", help=f"{setting.meaning} Repeatable.")
        elif isinstance(entry.default, bool):
            annotation, default = bool, entry.default
            option = typer.Option(f"--{entry.name}", help=setting.meaning)
        else:
            annotation = str if setting.choices else hints[entry.name]
            default = inspect.Parameter.empty if is_required(entry) else entry.default
            kind_of_number = _number_type(annotation)
            option = (
                typer.Option(help=_help(setting, default))
                if kind_of_number is None
                else typer.Option(
                    parser=number_of(setting, kind_of_number),
                    metavar="N" if kind_of_number is int else "NUMBER",
                    help=_help(setting, default),
                )
            )
        found.append((entry.name, Annotated[annotation, option], default))
    return found


def number_of(setting: Setting, kind: type[int | float]) -> Callable[[Any], float]:
    """Make the reader of an option that is a number, from what its field accepts."""

    def read(text: Any) -> float:
        try:
            value = kind(text) + kind(0)  # -0 is 0
        except (ValueError, OverflowError):
            value = math.nan
        if not setting.fits(value):
            accepts = setting.accepts.replace("`", "")
            raise typer.BadParameter(f"{str(text)[:40]} is not {accepts}.")
        return value

    return read


def _number_type(annotation: Any) -> type[int | float] | None:
    """Return int or float for an annotation such as `float | None`; None for what is no number."""
    types = typing.get_args(annotation) or (annotation,)
    return next((kind for kind in (int, float) if kind in types), None)


def _help(setting: Setting, default: Any) -> str:
    """Return the meaning, the words it can be, and the default where Typer cannot tell it."""
    parts = [setting.meaning]
    if setting.choices:
        parts.append(f"One of: {', '.join(setting.choices)}.")
    elif "`" in setting.accepts:
        parts.append(f"Accepts {setting.accepts.replace('`', '')}.")
    if default is None:
        parts.append(f"Default: {setting.default.replace('`', '')}.")
    return " ".join(parts)

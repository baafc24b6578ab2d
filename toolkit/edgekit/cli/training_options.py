"""Options of every command that trains, declared once."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import options

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="F.keras", help="The file to write.")
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="LAYER", help="A layer to leave alone; repeatable.")
]

_TUNING: dict[str, tuple[Any, Any]] = {
    "epochs": (
        Annotated[
            int | None,
            typer.Option(
                parser=options.whole(0),
                metavar="N",
                help="0 trains nothing; default: 2,000 steps, at least 3 epochs.",
            ),
        ],
        None,
    ),
    "batch_size": (
        Annotated[int, typer.Option(parser=options.whole(1), metavar="N", help="Samples a step.")],
        64,
    ),
    "learning_rate": (
        Annotated[
            float | None,
            typer.Option(
                parser=options.number(0, above=True),
                metavar="NUMBER",
                help="Where a cosine begins.",
            ),
        ],
        None,
    ),
    "patience": (
        Annotated[
            int | None,
            typer.Option(
                parser=options.whole(1),
                metavar="N",
                help="Epochs without improvement before stopping.",
            ),
        ],
        None,
    ),
    "distill": (
        Annotated[bool, typer.Option("--distill", help="Learn from SOURCE's predictions too.")],
        False,
    ),
    "resume": (
        Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")],
        False,
    ),
    "seed": (
        Annotated[
            int,
            typer.Option(
                parser=options.whole(0, options.MOST_SEED),
                metavar="N",
                help="Seed of every random choice.",
            ),
        ],
        0,
    ),
    "column": (options.Column, None),
    "task": (options.Task, None),
    "preprocess": (options.Preprocess, None),
    "custom": (options.Custom, None),
    "trust_code": (options.TrustCode, False),
    "force": (options.Force, False),
    "quiet": (options.Quiet, False),
}


def tuned(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every training; it gets them as one dict, `tuning`."""
    hints = typing.get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "tuning"
    ]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
        )
        for name, (annotation, default) in _TUNING.items()
    ]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        tuning = {name: given.pop(name) for name in _TUNING}
        tuning["task"] = options.task_of(tuning["task"])
        tuning["preprocessing"] = options.preprocessing_of(tuning.pop("preprocess"))
        tuning["custom"] = tuple(tuning["custom"] or ())
        command(**given, tuning=tuning)

    # Typer reads both.
    call.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return call

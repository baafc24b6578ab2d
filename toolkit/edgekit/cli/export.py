"""The command that writes a model as C sources."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli import options
from edgekit.printable import MOST_PATH, printable

if TYPE_CHECKING:
    from edgekit.pipeline import Exported

LANGUAGES = ("c",)


def export(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .tflite.gz file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")
    ],
    emit: Annotated[str, typer.Option(metavar="LANGUAGE", help="What is written: c.")] = "c",
    target: Annotated[
        str, typer.Option(help="micro, micro:ram=256k,flash=1M, esp32-s3 or stm32h7.")
    ] = "micro",
    name: Annotated[str, typer.Option(help="Prefix of all names in the sources.")] = "model",
    data: options.MaybeData = None,
    data_options: options.DataOptions,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write a model as C sources for a microcontroller.

    With TFLite Micro, whose own sources are not included: the model as an aligned array, the arena
    to declare, a resolver of exactly its operators, and a main.cc that runs a stored example (the
    first test sample of --data) and compares.

    \b
    edgekit export int8.tflite --emit c -o firmware/model
    edgekit export int8.tflite --target esp32-s3 --data data.npz -o firmware/model
    """
    from edgekit import api
    from edgekit.cli.output import put, say
    from edgekit.errors import UsageError

    if emit not in LANGUAGES:
        raise UsageError(f"Invalid value for --emit: {emit!r:.40}.", hint="Write --emit c.")
    made = api.export(
        file,
        output,
        target=target,
        name=name,
        data=data,
        force=force,
        **data_options.arguments(),
    )
    if json:
        put(json_.dumps(_as_json(made)))
    else:
        say(*_lines(made))


def _lines(made: Exported) -> list[str]:
    how = "measured" if made.memory.measured else "estimated"
    flash = f"{made.memory.needed_flash_bytes:,} bytes with code (estimated)"
    count = len(made.registrations)
    lines = [f"Arena {made.arena_bytes:,} bytes ({how}); flash {flash}; {count} operators."]
    if made.equal is not None:
        same = "equal" if made.equal else "differ from"
        lines.append(f"TFLite Micro's outputs {same} those of LiteRT's reference kernels.")
    lines.append(f"The example is {made.example}.")
    lines.append(f"Wrote {printable(made.folder, MOST_PATH)} ({', '.join(made.files)})")
    return lines


def _as_json(made: Exported) -> dict[str, Any]:
    return {
        "schema": 1,
        "folder": str(made.folder),
        "files": list(made.files),
        "arena_bytes": made.arena_bytes,
        "measured": made.memory.measured,
        "model_bytes": made.memory.model_bytes,
        "flash_bytes": made.memory.needed_flash_bytes,
        "fits": made.memory.fits,
        "operators": list(made.registrations),
        "example": made.example,
        "equal": made.equal,
    }

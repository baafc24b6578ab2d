"""The command `edgekit inspect`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.choices import TARGET_TITLES
from edgekit.cli import options


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .tflite.gz file.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"Predict which operators a target takes: {', '.join(TARGET_TITLES)}."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show operators, sizes and predicted accelerator support.

    \b
    edgekit inspect int8.tflite
    edgekit inspect int8.tflite --target coral --json
    """
    from edgekit import api

    with _no_collections():
        inspection = api.inspect(file, targets=tuple(target or (("coral",) if json else ())))
        if json:
            from edgekit.schema import inspection_to_json

            sys.stdout.writelines(_lines(inspection_to_json(inspection)))
            return
        from rich.console import Console

        from edgekit.reports import print_inspection

        print_inspection(inspection, Console(file=sys.stdout))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Look for no garbage in circles: there is none, and looking takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    """A JSON object, one line a member, and of its operators one line each.

    Written as it is made, and by the encoder that does not indent: 300,000 operators take a tenth
    of the time and none of the memory that indenting them would.
    """
    from json import JSONEncoder

    encode = JSONEncoder(allow_nan=False).encode
    yield "{"
    for number, (key, value) in enumerate(document.items()):
        yield f"{',' if number else ''}\n {encode(key)}: "
        if key == "ops":
            yield "["
            for index, op in enumerate(value):
                yield f"{',' if index else ''}\n  {encode(op)}"
            yield "\n ]"
        else:
            yield encode(value)
    yield "\n}\n"

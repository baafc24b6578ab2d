"""The command `edgekit inspect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite file.")],
    target: Annotated[
        list[str] | None, typer.Option(help="Predict which operators run on an accelerator: coral.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show operators, sizes and predicted accelerator support.

    \b
    edgekit inspect int8.tflite
    edgekit inspect int8.tflite --target coral --json
    """
    from edgekit import api

    inspection = api.inspect(file, targets=tuple(target or (("coral",) if json else ())))
    if json:
        import json as json_

        from edgekit.schema import inspection_to_json

        print(json_.dumps(inspection_to_json(inspection), indent=1, allow_nan=False))
        return
    from rich.console import Console

    from edgekit.reports import print_inspection

    print_inspection(inspection, Console(file=sys.stdout))

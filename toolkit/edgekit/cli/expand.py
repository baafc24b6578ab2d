"""The command that writes a file unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options


def expand(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .tflite.gz file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="F.tflite", help="The file to write.")
    ],
    force: options.Force = False,
) -> None:
    """Unpack a small file for a runtime without the runner.

    It is inflated, its int4 weights become int8, and sparse ones dense. The runner needs no such
    file: it unpacks what it loads.

    \b
    edgekit expand int4.tflite.gz -o int4-plain.tflite
    """
    from edgekit import api
    from edgekit.cli.output import wrote

    print(wrote(api.expand(file, output, force=force)))

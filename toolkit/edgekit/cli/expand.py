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
    target: Annotated[
        str | None,
        typer.Option(help="micro: write it as TFLite Micro loads it; int4 convolutions remain."),
    ] = None,
    force: options.Force = False,
) -> None:
    """Unpack a small file for a runtime without the runner.

    It is inflated, its int4 weights become int8, and sparse ones dense. The runner needs no such
    file: it unpacks what it loads.

    \b
    edgekit expand int4.tflite.gz -o int4-plain.tflite
    edgekit expand small.tflite --target micro -o small-micro.tflite
    """
    from edgekit import api
    from edgekit.cli.output import say, wrote

    made = api.expand(file, output, target=target, force=force)
    say(wrote(made))

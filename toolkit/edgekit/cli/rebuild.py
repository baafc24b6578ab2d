"""The command that makes a file again from its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options


def rebuild(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", help="The .json file beside a .tflite file."),
    ],
    source: Annotated[
        Path | None,
        typer.Option(metavar="SOURCE", help="The model it was made of. Default: as recorded."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="DATA", help="The data. Default: as recorded."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="F.tflite", help="Also write the new file."),
    ] = None,
    custom: options.Custom = None,
    trust_code: options.TrustCode = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a file again from its manifest, and compare the bytes.

    Source and data are checked by their digests first. Exit code 0: the same bytes; 5: others,
    and what differs.

    \b
    edgekit rebuild quantized/model/int8.json
    edgekit rebuild int8.json --source model.keras --data data.npz -o again.tflite
    """
    from edgekit import api
    from edgekit.cli.output import say
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        result = api.rebuild(
            manifest,
            source=source,
            data=data,
            output=output,
            custom=tuple(custom or ()),
            trust_code=trust_code,
            force=force,
            listener=listener,
        )
    for name, (then, now) in result.versions.items():
        say(f"{name} was {then}, is {now}.", error=True)
    say(
        f"{result.variant}: the same {result.size_bytes:,} bytes again, "
        f"sha256 {result.sha256[:16]}..."
    )
    if result.path is not None:
        say(f"Wrote {result.path}")

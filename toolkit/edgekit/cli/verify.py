"""The command that derives the figures of a bundle again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="F.zip", help="What quantize --bundle wrote.")],
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="DATA", help="The data. Default: as recorded."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Derive the figures of a bundle again, and compare: exit code 6 if not.

    Sizes, operators, scores, drops with their intervals, fidelity and outputs; latencies need the
    device, and are listed as not checked.

    \b
    edgekit quantize model.keras --data data.npz --bundle proof.zip
    edgekit verify proof.zip
    edgekit verify proof.zip --data data.npz --json
    """
    from edgekit import api
    from edgekit.cli.output import json_line, put, say, show
    from edgekit.cli.progress import listening
    from edgekit.errors import BudgetError
    from edgekit.printable import MOST_PATH, printable

    with listening(quiet=quiet) as listener:
        found = api.verify(bundle, data=data, listener=listener)
    if json:
        from edgekit.schema import proof_to_json

        put(json_line(proof_to_json(found)))
    else:
        from edgekit.reports.proof_lines import proof_lines

        show(proof_lines, found)
    for name, (then, now) in found.versions.items():
        say(f"{name} was {then}, is {now}.", error=True)
    if apart := found.count("differs"):
        raise BudgetError(
            f"{printable(bundle, MOST_PATH)}: {apart} of {len(found.figures)} figures differ."
        )

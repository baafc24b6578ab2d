"""Commands about edgekit itself: demo, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")
    ] = Path("edgekit-demo"),
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Do the main job on digits and a CNN that come along.

    \b
    edgekit demo
    """
    from edgekit import api
    from edgekit.cli.new_files import show
    from edgekit.cli.progress import listening

    with listening(quiet=quiet) as listener:
        result = api.demo(output, force=force, listener=listener)
    show(result, json=json)


def doctor(json: options.Json = False) -> None:
    """Say what is here, and the hint for what is not.

    \b
    edgekit doctor
    """
    from edgekit import api

    findings = api.doctor()
    if json:
        import json as json_

        print(
            json_.dumps(
                {"schema": 1, "findings": [found._asdict() for found in findings]}, indent=1
            )
        )
        return
    for finding in findings:
        mark = "ok     " if finding.found else "missing"
        print(f"{mark}  {finding.name:<16} {finding.found or finding.hint}")

"""Commands about edgekit itself: demo, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import console, put, say


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
    from edgekit.doctor import kernels

    findings = api.doctor()
    if json:
        import json as json_

        put(
            json_.dumps(
                {
                    "schema": 1,
                    "findings": [found._asdict() for found in findings],
                    "kernels": kernels(),
                },
                indent=1,
            )
        )
        return
    for finding in findings:
        mark = "ok     " if finding.found else "missing"
        say(finding.found or finding.hint, label=f"{mark}  {finding.name:<16} ")
    say("", "Kernels of convolutions on ARM, by mode and runtime:")
    _print_kernels(kernels())


def _print_kernels(found: dict[str, dict[str, str]]) -> None:
    """Print a table of modes by runtimes."""
    from edgekit.reports.plain_table import plain_table, show

    table = plain_table()
    for name in ("mode", *found):
        table.add_column(name)
    for mode in next(iter(found.values())):
        table.add_row(mode, *(one[mode] for one in found.values()))
    show(console(), table)

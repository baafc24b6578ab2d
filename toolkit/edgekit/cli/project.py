"""Commands about edgekit itself: demo, doctor."""

from __future__ import annotations

from collections.abc import Iterator
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
    from edgekit.doctor import kernels

    findings = api.doctor()
    if json:
        import json as json_

        print(
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
        print(f"{mark}  {finding.name:<16} {finding.found or finding.hint}")
    print("\nKernels of convolutions on ARM, by mode and runtime:")
    for line in _kernel_lines(kernels()):
        print(line)


def _kernel_lines(table: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield a table of modes by runtimes."""
    modes = list(next(iter(table.values())))
    yield f"{'mode':<10}" + "".join(f"{name:<24}" for name in table).rstrip()
    for mode in modes:
        yield f"{mode:<10}" + "".join(f"{one[mode]:<24}" for one in table.values()).rstrip()

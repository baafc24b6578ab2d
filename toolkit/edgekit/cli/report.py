"""The command `edgekit report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgekit.cli import options

if TYPE_CHECKING:
    from edgekit.reports import Format


def report(
    rows: Annotated[
        list[Path],
        typer.Argument(metavar="ROWS...", help="JSON of other commands."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="terminal, json, md, html, csv, png or svg; default: by FILE's suffix."
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Merge results of other commands into one report.

    \b
    edgekit report quantized/*/report.json -o report.html
    edgekit report here.json there.json --format md
    """
    from edgekit.cli.output import console, put, write_rendered
    from edgekit.errors import UsageError
    from edgekit.files import refuse_existing
    from edgekit.reports import print_report, read_reports, render

    chosen = format_ or (output.suffix.lstrip(".") if output else "terminal")
    if output is None and chosen in ("png", "html", "svg"):
        raise UsageError(f"{chosen} output requires --output.", hint="Give --output FILE.")
    if output is not None:
        refuse_existing(output, force=force)
    merged, form = read_reports(rows), cast("Format", chosen)
    if output is None and form == "terminal":
        print_report(merged, console())
        return
    if output is not None:
        write_rendered(merged, output, form, replace=force)
        return
    content = render(merged, form)
    put(content if isinstance(content, str) else content.decode())

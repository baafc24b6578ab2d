"""Commands that read what exists: inspect, report."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgekit.choices import TARGET_TITLES
from edgekit.cli import options

if TYPE_CHECKING:
    from edgekit.reports import Format


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite file.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"Predict the fit on a target: {', '.join(TARGET_TITLES)}."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show operators, bytes and the fit on a target.

    \b
    edgekit inspect int8.tflite
    edgekit inspect int8.tflite --target coral --json
    """
    from edgekit import api

    inspection = api.inspect(file, targets=tuple(target or (("coral",) if json else ())))
    if json:
        from edgekit.schema import inspection_to_json

        sys.stdout.writelines(_lines(inspection_to_json(inspection)))
        return
    from rich.console import Console

    from edgekit.reports import tables

    tables.terminal_inspection(inspection, Console(file=sys.stdout))


def report(
    rows: Annotated[
        list[Path], typer.Argument(metavar="ROWS...", help="Files that --json printed.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="terminal, json, md, html, csv, png or svg; default: as FILE ends."
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Turn rows of other commands into one report.

    \b
    edgekit report quantized/*/report.json -o report.html
    edgekit report here.json there.json --format md
    """
    from edgekit.cli.output import write_rendered
    from edgekit.errors import UsageError
    from edgekit.files import refuse_existing
    from edgekit.reports import read_reports, render

    chosen = format_ or (output.suffix.lstrip(".") if output else "terminal")
    if output is None and chosen in ("png", "html", "svg"):
        raise UsageError(f"A {chosen} report wants a file.", hint="Give --output FILE.")
    if output is not None:
        refuse_existing(output, force=force)
    told, form = read_reports(rows), cast("Format", chosen)
    if output is not None:
        write_rendered(told, output, form, replace=force)
        return
    content = render(told, form)
    print(content if isinstance(content, str) else content.decode())


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

"""The command `edgekit inspect`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.choices import TARGET_TITLES
from edgekit.cli import options
from edgekit.printable import MOST_PATH, printable

if TYPE_CHECKING:
    from edgekit.records import Inspection


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .tflite.gz file.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help=f"Predict which operators a target takes: {', '.join(TARGET_TITLES)}."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="Write a page instead."),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Show operators, sizes and predicted accelerator support.

    \b
    edgekit inspect int8.tflite
    edgekit inspect int8.tflite --target coral --json
    edgekit inspect int8.tflite -o int8.html
    """
    from edgekit import api

    if output is not None:
        _check_page(output, json=json, force=force)
    with _no_collections():
        named = tuple(target or (("coral",) if json else ()))
        inspection = api.inspect(file, targets=named, compiled=bool(target))
        if output is not None:
            _write_page(inspection, output, force=force)
            return
        if json:
            from edgekit.schema import inspection_to_json

            sys.stdout.writelines(_lines(inspection_to_json(inspection)))
            return
        from edgekit.cli.output import console
        from edgekit.reports import print_inspection

        print_inspection(inspection, console())


def _check_page(output: Path, *, json: bool, force: bool) -> None:
    """Refuse a page that cannot be written, before anything is read.

    Raises:
        UsageError: It is no .html, is there already, or JSON is asked for as well.
    """
    from edgekit.errors import UsageError
    from edgekit.files import refuse_existing

    if json:
        raise UsageError("--json has no effect with --output.", hint="Leave one of them out.")
    if output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(
            f"{printable(output, MOST_PATH)} is no name of a page.",
            hint=f"Give --output {printable(output.with_suffix('.html'), MOST_PATH)}",
        )
    refuse_existing(output, force=force)


def _write_page(inspection: Inspection, output: Path, *, force: bool) -> None:
    from edgekit.cli.output import say, wrote_file
    from edgekit.files import writing
    from edgekit.reports.inspection_page import inspection_html

    with writing(output, replace=force) as temporary:
        temporary.write_text(inspection_html(inspection), encoding="utf-8")
    say(wrote_file(output))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Look for no garbage in circles: there is none, and looking takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


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

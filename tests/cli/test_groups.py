"""Groups of options: a dataclass in a command's signature stands for one option per field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from edgekit.cli.groups import with_groups

Size = Annotated[int, typer.Option(metavar="N", help="How large.")]


@dataclass(frozen=True, kw_only=True)
class Shape:
    size: Size = 3
    flat: bool = False


def app(taken: list[tuple[str, Shape, bool]]) -> typer.Typer:
    def command(*, name: str, shape: Shape, last: bool = False) -> None:
        taken.append((name, shape, last))

    command.__annotations__ = {"name": str, "shape": Shape, "last": bool}
    made = typer.Typer()
    made.command()(with_groups(command))
    return made


def test_the_fields_of_a_group_are_options_with_its_defaults() -> None:
    taken: list[tuple[str, Shape, bool]] = []

    for words in (["a"], ["b", "--size", "5", "--flat", "--last"]):
        assert CliRunner().invoke(app(taken), words).exit_code == 0

    assert taken == [("a", Shape(), False), ("b", Shape(size=5, flat=True), True)]


def test_help_lists_them_where_the_group_stands() -> None:
    text = CliRunner().invoke(app([]), ["--help"]).output

    places = [text.index(option) for option in ("--size", "--flat", "--last")]
    assert places == sorted(places)
    assert "How large." in text

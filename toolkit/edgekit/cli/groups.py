"""Groups of options: a dataclass whose fields are options, taken by several commands."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

Command = Callable[..., None]


def with_groups(command: Command) -> Command:
    """Return a command as Typer accepts it: a group of options becomes one parameter per option.

    Args:
        command: A function with annotated parameters. A parameter annotated with a dataclass is a
            group; the fields of the dataclass are its options, at the position of the parameter.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    groups = {p.name: hints[p.name] for p in parameters if is_dataclass(hints[p.name])}
    unfolded: list[inspect.Parameter] = []
    for own in parameters:
        group = groups.get(own.name)
        unfolded += [own.replace(annotation=hints[own.name])] if group is None else _options(group)

    @functools.wraps(command)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            options = {entry.name: given.pop(entry.name) for entry in fields(group)}
            given[name] = group(**options)
        command(**given)

    return with_parameters(call, unfolded)


def with_parameters(call: Command, parameters: Sequence[inspect.Parameter]) -> Command:
    """Set the signature of a function, which Typer reads in two places."""
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    call.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in named}
    return call


def _options(group: type) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=entry.default,
            annotation=hints[entry.name],
        )
        for entry in fields(group)
    ]

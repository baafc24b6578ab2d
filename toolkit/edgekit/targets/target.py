"""What a target is, and how it is named: `coral`, or `NAME:key=value,key=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.targets.node import Node

Settings = Mapping[str, Any]
"""The configuration of an accelerator, by name: its memory, its number of units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device a model can be checked against. A module defines one as `TARGET`.

    Attributes:
        predicted: Whether its answers are predictions.
        fit: Operators in execution order, and settings -> operator index -> fit.
        settings: What can be configured -> how its value is read; a `ValueError` refuses it.
    """

    predicted: bool
    fit: Callable[[Sequence[Node], Settings], Mapping[int, TargetFit]]
    settings: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredTarget:
    """A target as the user asked for it.

    Attributes:
        target: The target.
        settings: Its configuration; what is not named is left to the target.
    """

    target: Target
    settings: Settings

    def fit(self, nodes: Sequence[Node]) -> Mapping[int, TargetFit]:
        """Tell for each operator whether it runs on the accelerator.

        Args:
            nodes: All operators of a model, in execution order.
        """
        return self.target.fit(nodes, self.settings)


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """Split the name of a target from its configuration.

    >>> split_name("micro:ram=256k,flash=1M")
    ('micro', {'ram': '256k', 'flash': '1M'})
    >>> split_name("coral")
    ('coral', {})

    Raises:
        UsageError: The configuration is malformed, or names a setting twice.
    """
    name, colon, rest = text.partition(":")
    settings: dict[str, str] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (key and equals and value) or key in settings:
            raise UsageError(
                f"The configuration of target {name!r} cannot be read.",
                found=f"{part!r:.60} "
                + ("names a setting twice." if key in settings else "is no key=value."),
                hint=f"Write it as {name}:key=value,key=value, or just {name}.",
            )
        settings[key] = value
    return name, settings


def configure(name: str, target: Target, given: Mapping[str, str]) -> ConfiguredTarget:
    """Check a target's configuration and read its values.

    Raises:
        UsageError: The target has no such setting, or does not take that value.
    """
    settings = {}
    for key, text in given.items():
        if key not in target.settings:
            known = ", ".join(target.settings)
            raise UsageError(
                f"The target {name} has no setting {key!r}.",
                hint=f"Its settings: {known}." if known else f"It has none: write just {name}.",
            )
        try:
            settings[key] = target.settings[key](text)
        except ValueError as error:
            raise UsageError(
                f"The target {name} does not take {key} = {text!r:.60}.",
                found=f"{error}",
                hint=f"Correct it, or leave {key} out.",
            ) from error
    return ConfiguredTarget(target=target, settings=settings)

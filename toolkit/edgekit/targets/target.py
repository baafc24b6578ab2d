"""Targets and their names: `coral`, or `NAME:key=value,key=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.targets.node import Node

Settings = Mapping[str, Any]
"""Configuration of an accelerator by name, such as its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device that a model can be checked for. A module defines one as `TARGET`.

    Attributes:
        predicted: Whether its results are predictions.
        fit: Function of operators in execution order and settings, which returns operator index ->
            fit.
        settings: Name of a setting -> parser of its value, which raises `ValueError` for an invalid
            one.
        budget: Function of settings, which returns bytes of `ram` and `flash`, for targets whose
            memory is planned; None for others.
        needs_all: Whether a single operator that does not fit keeps the whole model from running.
        edge_tpu: Whether Google's compiler decides what runs on it, where it is on PATH (see
            `tflite.edge_tpu_compiler`).
        accelerator: What Arm's compiler Vela calls it, where Vela decides what runs on it (see
            `tflite.vela`); `fit` knows nothing then.
        runtimes: Runtimes that can be installed on it, as the runner calls them; empty where that
            is not known, or it runs none.
        ready: Raises `UsageError` if something that the target needs is not installed.
    """

    predicted: bool
    fit: Callable[[Sequence[Node], Settings], Mapping[int, TargetFit]]
    settings: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    budget: Callable[[Settings], Mapping[str, int]] | None = None
    needs_all: bool = False
    edge_tpu: bool = False
    accelerator: str | None = None
    runtimes: tuple[str, ...] = ()
    ready: Callable[[], None] | None = None

    @property
    def beside_a_cpu(self) -> bool:
        """Whether it computes on another processor than a CPU with a TFLite runtime."""
        return self.needs_all or self.edge_tpu or self.accelerator is not None

    @property
    def in_integers(self) -> bool:
        """Whether what needs more than 8 bits is to be int16 there, not float."""
        return self.needs_all or self.accelerator is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredTarget:
    """A target with its configuration.

    Attributes:
        target: The target.
        settings: Its configuration; the target's defaults apply to missing settings.
    """

    target: Target
    settings: Settings

    def fit(self, nodes: Sequence[Node]) -> Mapping[int, TargetFit]:
        """Return for each operator whether it runs on the accelerator.

        Args:
            nodes: All operators of a model, in execution order.
        """
        return self.target.fit(nodes, self.settings)

    @property
    def budget(self) -> Mapping[str, int] | None:
        """Bytes of `ram` and `flash`, as far as they are known; None if no memory is planned."""
        return self.target.budget(self.settings) if self.target.budget is not None else None


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """Split `NAME:key=value,...` into the name of a target and its configuration.

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
        UsageError: The target has no such setting, the value is invalid, or something that the
            target needs is not installed.
    """
    if target.ready is not None:
        target.ready()
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

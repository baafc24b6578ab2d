"""Predict which operators a target's accelerator runs. A target is a module here.

A target gives an answer for every operator: a prediction, unless the reason says that it is from
the target's compiler.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

from edgekit.choices import TARGET_TITLES
from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.targets.node import Node
from edgekit.targets.target import ConfiguredTarget, Target, configure, split_name

__all__ = ["TARGETS", "ConfiguredTarget", "Target", "fit", "target"]

TARGETS: Final[dict[str, Target]] = {
    name: import_module(f"{__name__}.{name.replace('-', '_')}").TARGET for name in TARGET_TITLES
}


def target(text: str) -> ConfiguredTarget:
    """Look a target up and read its configuration.

    Args:
        text: A key of `TARGETS`, alone or with a configuration: `NAME:key=value,key=value`.

    Raises:
        UsageError: There is no such target, or its configuration is invalid.
    """
    name, settings = split_name(text)
    if name not in TARGETS:
        close = difflib.get_close_matches(name, TARGETS, n=1)
        raise UsageError(
            f"There is no target {name!r}.",
            hint=f"Did you mean {close[0]!r}?" if close else f"Targets: {', '.join(TARGETS)}.",
        )
    return configure(name, TARGETS[name], settings)


def fit(text: str, nodes: Sequence[Node]) -> Mapping[int, TargetFit]:
    """Return for each operator whether it runs on the target's accelerator.

    Args:
        text: As for `target`.
        nodes: All operators of a model, in execution order.

    Raises:
        UsageError: There is no such target, or its configuration is invalid.
    """
    return target(text).fit(nodes)

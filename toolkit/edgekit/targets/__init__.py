"""What a device's accelerator takes of a model.

Every target answers for every operator. An answer is a prediction unless its reason says that the
target's own compiler gave it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.targets import coral
from edgekit.targets.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device a model can be checked against.

    Attributes:
        title: Its name in tables.
        predicted: Whether its answers are predictions.
        fit: Operators in execution order -> operator index -> fit.
    """

    title: str
    predicted: bool
    fit: Callable[[Sequence[Node]], Mapping[int, TargetFit]]


def _everything(nodes: Sequence[Node]) -> Mapping[int, TargetFit]:
    return {node.index: TargetFit(mapped=True) for node in nodes}


TARGETS: Final[Mapping[str, Target]] = {
    "cpu": Target(title="CPU", predicted=False, fit=_everything),
    "coral": Target(title="Coral Edge TPU (predicted)", predicted=True, fit=coral.fit),
}


def target(name: str) -> Target:
    """Look a target up.

    Raises:
        UsageError: There is no such target.
    """
    if name in TARGETS:
        return TARGETS[name]
    close = difflib.get_close_matches(name, TARGETS, n=1)
    raise UsageError(
        f"There is no target {name!r}.",
        hint=f"Did you mean {close[0]!r}?" if close else f"Targets: {', '.join(TARGETS)}.",
    )


def fit(name: str, nodes: Sequence[Node]) -> Mapping[int, TargetFit]:
    """Tell for each operator whether it runs on the target's accelerator.

    Args:
        name: A key of `TARGETS`.
        nodes: All operators of a model, in execution order.

    Raises:
        UsageError: There is no such target.
    """
    return target(name).fit(nodes)

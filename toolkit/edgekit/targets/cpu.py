"""Target of any CPU: TFLite's own kernels run every operator."""

from __future__ import annotations

from edgekit.records import TargetFit
from edgekit.targets.target import Target

TARGET = Target(
    predicted=False,
    fit=lambda nodes, _: {node.index: TargetFit(mapped=True) for node in nodes},
)

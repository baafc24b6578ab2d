"""Any CPU, by TFLite's own kernels, which take every operator."""

from __future__ import annotations

from edgekit.records import TargetFit
from edgekit.targets.target import Target

TARGET = Target(
    predicted=False,
    fit=lambda nodes, _: {node.index: TargetFit(mapped=True) for node in nodes},
)

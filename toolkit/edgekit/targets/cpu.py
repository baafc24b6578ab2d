"""Target of any CPU: TFLite's own kernels run every operator but custom ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from edgekit.records import TargetFit
from edgekit.targets.node import Node
from edgekit.targets.target import Target

_BROUGHT_ALONG: Final = frozenset(
    {"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess"}
)
"""Custom operators that the runtimes register themselves (`tflite/core/kernels/register.cc`)."""

_CUSTOM: Final = TargetFit(
    mapped=False, reason="It is a custom operator, for which the runtimes have no kernel."
)


def fit(nodes: Sequence[Node]) -> Mapping[int, TargetFit]:
    """Return for each operator whether a runtime has a kernel for it.

    Args:
        nodes: All operators of a model, in execution order.
    """
    return {node.index: TargetFit(mapped=True) if has_kernel(node) else _CUSTOM for node in nodes}


def has_kernel(node: Node) -> bool:
    """Whether the runtimes have a kernel of their own for an operator."""
    return node.name in _built_in() or node.name in _BROUGHT_ALONG


@cache
def _built_in() -> frozenset[str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return frozenset(vars(BuiltinOperator)) - {"CUSTOM", "DELEGATE"}


TARGET = Target(predicted=False, fit=lambda nodes, _: fit(nodes))

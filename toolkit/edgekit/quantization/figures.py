"""Outputs that are figures without bounds, and the layer that computes them.

The codes of such an output cost twice. It has 256 values, for all that a figure can be; and its
ends are those of the calibration samples, beyond which nothing is told: of 200 prices the highest
is not the highest there is. Where the type of the file's output is float32, or may be, the layer
computes in float at next to no cost: one conversion before it instead of one after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgekit.evaluation.fidelity import MANY_COLUMNS
from edgekit.quantization.writer.ends import scales_or_copies
from edgekit.quantization.writer.precisions import FLOAT, real_inputs
from edgekit.records import Plan, Ranges
from edgekit.targets.node import Node
from edgekit.tflite.macs import macs
from edgekit.tflite.nodes import nodes
from edgekit.tflite.signature import signature_names

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

SMALL_SHARE: Final = 0.1
"""Most of the multiply-accumulates of a graph that its last layers may take, in float."""
FIGURES: Final = "codes would cost the figures without bounds more noise than all before"
"""Why a layer remains float."""
_DENSE: Final = "FULLY_CONNECTED"
_LINEAR: Final = 0


def figure_layers(model: ModelT, class_scores: str | None = None) -> frozenset[str]:
    """Return the names of the tensors that the layers of figures compute.

    Such a layer is dense, has no activation, and computes a row of at most `MANY_COLUMNS` figures,
    which are scaled or reshaped before the output at most. Where they take over a tenth of the
    graph's work, none counts.

    Args:
        model: A float graph.
        class_scores: The output with a score for each class, which is none of figures.
    """
    operators = [node for node in nodes(model) if node.graph == 0]
    makers = {tensor.index: node for node in operators for tensor in node.outputs}
    names = signature_names(model)[1]
    found: dict[int, Node] = {}
    for index in model.subgraphs[0].outputs.tolist():
        name = names.get(index, model.subgraphs[0].tensors[index].name)
        if class_scores != name:
            found |= {node.index: node for node in _behind(makers.get(index), makers)}
    work = sum(macs(node) or 0 for node in found.values())
    if work > SMALL_SHARE * sum(macs(node) or 0 for node in operators):
        return frozenset()
    return frozenset(tensor.name for node in found.values() for tensor in node.outputs)


def extended(ranges: Ranges, share: float) -> Ranges:
    """Return ranges that reach further by a share of their widths, at ends that are not 0.

    What is never negative, behind a ReLU, remains so.
    """
    low, high = dict(ranges.low), dict(ranges.high)
    for name, (least, most) in ((n, (ranges.low[n], ranges.high[n])) for n in ranges.low):
        more = share * (most - least)
        low[name] = least - more if least < 0 else max(0.0, least - more)
        high[name] = most + more if most > 0 else min(0.0, most + more)
    return replace(ranges, low=low, high=high)


def with_floats(
    plan: Plan, modes: Mapping[str, str], floats: Collection[str]
) -> tuple[Plan, Mapping[str, str]]:
    """Return a plan and the modes of its operators with some in float, where its output may be.

    Args:
        plan: The plan.
        modes: Output tensor name -> mode.
        floats: Names of the tensors whose operators are to be float.
    """
    if not floats or (plan.output_type != FLOAT and "output" not in plan.free_ends):
        return plan, modes
    free = {name: FLOAT for name in floats if modes.get(name, plan.mode) == plan.mode}  # of rules
    return replace(plan, output_type=FLOAT), {**modes, **free}


def figures_note(asked: Plan, *, float_figures: bool) -> list[str]:
    """Say that the output of a file is float32 though its mode has another type."""
    if not float_figures or asked.output_type == FLOAT:
        return []
    return [f"{asked.variant}: its output is float32, not {asked.output_type}: {FIGURES}."]


def _behind(node: Node | None, makers: Mapping[int, Node]) -> list[Node]:
    """Return a layer of figures and what scales or reshapes them; empty where it is none."""
    passed: list[Node] = []
    while node is not None and all(tensor.dtype == FLOAT for tensor in node.outputs):
        if node.name == _DENSE:
            linear = node.option("fusedActivationFunction", _LINEAR) == _LINEAR
            weights, row = node.input(1), node.outputs[0]
            few = row.elements == row.shape[-1] <= MANY_COLUMNS
            known = weights is not None and weights.constant
            return [*passed, node] if linear and few and known else []
        given = [tensor for _, tensor in real_inputs(node) if not tensor.constant]
        if len(given) != 1 or not scales_or_copies(node):
            return []
        passed.append(node)
        node = makers.get(given[0].index)
    return []

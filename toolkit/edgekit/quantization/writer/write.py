"""Write a float graph in integers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgekit.modes import MODES
from edgekit.quantization.writer.emission import Emission
from edgekit.quantization.writer.equivalents import with_equivalents
from edgekit.quantization.writer.precisions import (
    FLOAT,
    between_floats,
    real_inputs,
    real_outputs,
    refusal,
    without_range,
)
from edgekit.quantization.writer.scales import Scales
from edgekit.records import Plan, Ranges
from edgekit.targets.node import Node
from edgekit.tflite.lstm import with_resets, without_resets
from edgekit.tflite.naming import with_layer_names
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class Written:
    """A graph in integers.

    Attributes:
        model: The graph.
        reasons: Output tensor name -> why the operator that computes it remains float.
    """

    model: ModelT
    reasons: Mapping[str, str]


def write_integers(
    model: ModelT, ranges: Ranges, plan: Plan, denied: Container[str] = ()
) -> Written:
    """Write a float graph in the integers of a plan's mode.

    Args:
        model: A float model; it is not changed. Graphs beside the first are copied.
        ranges: Range of every activation, by tensor name.
        plan: The mode, and the types of inputs and outputs.
        denied: Output tensor names of operators that remain float.
    """
    bits = 8 * np.dtype(MODES[plan.mode].activations).itemsize
    model, resets = without_resets(model)
    model, ranges = with_equivalents(model, ranges, bits, denied)
    graph = model.subgraphs[0]
    operators = [node for node in nodes(model) if node.graph == 0]
    known = {
        i: (ranges.low[tensor.name], ranges.high[tensor.name])
        for i, tensor in enumerate(graph.tensors)
        if tensor.name in ranges.low
    }
    refused = {
        node.index: why
        for node in operators
        if _is_real(node) and (why := refusal(node, bits, denied))
    }
    given = graph.inputs.tolist() if plan.input_type == FLOAT else []
    needed = [] if plan.output_type == FLOAT else graph.outputs.tolist()
    scales, reasons = _settled(
        operators,
        partial(Scales, bits=bits, ranges=known, outputs=graph.outputs.tolist()),
        refused,
        (given, needed),
    )
    emission = Emission(model, {bits: scales}, dict.fromkeys(scales.chosen, bits))
    inputs = {
        i: emission.add_input(i, plan.input_type, scales.own.get(i)) for i in graph.inputs.tolist()
    }
    for node, op in zip(operators, graph.operators, strict=True):
        emission.add(node, op)
    outputs = {
        i: emission.add_output(i, plan.output_type, scales.own.get(i))
        for i in graph.outputs.tolist()
    }
    made = emission.finish(inputs, outputs)
    if resets:
        made = with_resets(made)
    return Written(
        with_layer_names(made),
        {
            tensor.name: reasons[node.index]
            for node in operators
            if node.index in reasons
            for tensor in node.outputs
        },
    )


def _settled(
    operators: Sequence[Node],
    start: Callable[[Sequence[Node]], Scales],
    refused: Mapping[int, str],
    ends: tuple[Collection[int], Collection[int]],
) -> tuple[Scales, Mapping[int, str]]:
    """Return the scales of the operators that compute in integers, and why the others do not.

    Without an operator, others may have no range or nothing but operators in float around them.

    Args:
        operators: All operators of the graph.
        start: Chooses the scales of some operators.
        refused: Operator index -> why it remains float.
        ends: Indices of the graph's inputs that are float, and of its outputs that are integers.
    """
    reasons = dict(refused)
    while True:
        chosen = [node for node in operators if node.index not in reasons and _is_real(node)]
        scales = start(chosen)
        found = {n.index: why for n in chosen if (why := without_range(n, scales.own))}
        if not found:
            between = between_floats(operators, scales.chosen, *ends)
            found = dict.fromkeys(between, "it only copies values from float to float")
        if not found:
            return scales, reasons
        reasons.update(found)


def _is_real(node: Node) -> bool:
    return bool(real_inputs(node) or real_outputs(node))

"""Write a float graph in integers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgekit.modes import INT4, MODES
from edgekit.quantization.writer.emission import Emission
from edgekit.quantization.writer.ends import Bounds, lost_at_back, lost_at_front
from edgekit.quantization.writer.equivalents import Widths, with_equivalents
from edgekit.quantization.writer.masks import with_near_masks
from edgekit.quantization.writer.precisions import (
    FLOAT,
    between_floats,
    real_inputs,
    real_outputs,
    refusal,
    without_range,
)
from edgekit.quantization.writer.rescaling import refusal as not_rescaled
from edgekit.quantization.writer.scales import Scales
from edgekit.quantization.writer.unreached import unreached
from edgekit.records import Plan, Ranges
from edgekit.targets.node import Node
from edgekit.tflite.graph import FLOAT32
from edgekit.tflite.int4_weights import INT4_VERSIONS
from edgekit.tflite.lstm import with_resets, without_resets
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT


@dataclass(frozen=True, slots=True)
class Written:
    """A graph in integers.

    Attributes:
        model: The graph.
        reasons: Output tensor name -> why the operator that computes it remains float.
        lost: `input` or `output` -> what is lost because it is not float.
        unreached: Those of the reasons that other samples would change.
    """

    model: ModelT
    reasons: Mapping[str, str]
    lost: Mapping[str, str] = field(default_factory=dict)
    unreached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What is known of the values of a graph.

    Attributes:
        known: Tensor index -> smallest and largest value.
        untold: Tensor index -> why it has no range.
        masks: Indices of the tensors to which two codes are enough.
    """

    known: Bounds
    untold: Mapping[int, str]
    masks: Container[int]

    @property
    def of_values(self) -> Bounds:
        """The ranges without those of masks."""
        return {index: ends for index, ends in self.known.items() if index not in self.masks}


def write_integers(
    model: ModelT, ranges: Ranges, plan: Plan, modes: Mapping[str, str] | None = None
) -> Written:
    """Write a float graph in the integers of a plan's mode, or of each operator's.

    Args:
        model: A float model; it is not changed. Graphs beside the first are copied.
        ranges: Range of every activation, by tensor name.
        plan: The mode, and the types of inputs and outputs.
        modes: Output tensor name -> mode of the operator that computes it, where it is another one.
            Operators of modes with float activations remain float; with int4 beside int8, weights
            have four bits where the operator has a kernel for them.
    """
    usual = _width(plan.mode)
    narrow = {name for name, mode in (modes or {}).items() if mode == INT4.name and usual == 8}
    asked: Widths = {
        name: usual if name in narrow else _width(mode) for name, mode in (modes or {}).items()
    }
    model, resets = without_resets(model)
    model, ranges, asked = with_equivalents(model, ranges, usual, asked)
    model, ranges, masks = with_near_masks(model, ranges, usual or 8)
    graph = model.subgraphs[0]
    operators = [node for node in nodes(model) if node.graph == 0]
    known = {
        i: (ranges.low[tensor.name], ranges.high[tensor.name])
        for i, tensor in enumerate(graph.tensors)
        if tensor.name in ranges.low
    }
    untold = unreached(operators, known)
    known = {index: ends for index, ends in known.items() if index not in untold}
    hiding = {i for i, tensor in enumerate(graph.tensors) if tensor.name in masks}
    bounds = _Bounds(known, untold, hiding)
    widths: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for node in operators:
        if not _is_real(node):
            continue
        bits = next((asked[t.name] for t in node.outputs if t.name in asked), usual)
        why = refusal(node, bits)
        if why is None:
            assert bits is not None
            widths[node.index] = bits
        else:
            reasons[node.index] = why
    given = graph.inputs.tolist() if plan.input_type == FLOAT else []
    needed = [] if plan.output_type == FLOAT else graph.outputs.tolist()
    start = partial(Scales, ranges=known, outputs=graph.outputs.tolist())
    scales = _settled(operators, start, widths, reasons, bounds=bounds, between=(given, needed))
    lost = _lost(graph, operators, widths, bounds, plan)
    ends = scales[usual].own if usual in scales else {}
    four_bits = {n.index for n in operators if n.index in widths and takes_int4(n, narrow)}
    emission = Emission(model, scales, widths, four_bits, ranges.centers)
    inputs = {i: emission.add_input(i, plan.input_type, ends.get(i)) for i in graph.inputs.tolist()}
    for node, op in zip(operators, graph.operators, strict=True):
        emission.add(node, op)
    outputs = {
        i: emission.add_output(i, plan.output_type, ends.get(i)) for i in graph.outputs.tolist()
    }
    made = emission.finish(inputs, outputs)
    return Written(
        with_resets(made) if resets else made,
        {
            tensor.name: reasons[node.index]
            for node in operators
            if node.index in reasons
            for tensor in node.outputs
        },
        lost,
        tuple(dict.fromkeys(why for why in untold.values() if why in reasons.values())),
    )


def _width(mode: str) -> int | None:
    """Return the width of a mode's activations; None where they are float."""
    return 8 * np.dtype(MODES[mode].activations).itemsize if MODES[mode].calibrated else None


def takes_int4(node: Node, names: Container[str]) -> bool:
    """Whether an operator is among those to get int4 weights, and has a kernel for them."""
    if node.name not in INT4_VERSIONS or node.outputs[0].name not in names:
        return False
    image, kernel = node.inputs[0], node.inputs[1]
    # There is none for grouped convolutions.
    grouped = image is None or kernel is None or image.shape[-1:] != kernel.shape[-1:]
    return node.name != "CONV_2D" or not grouped


def _settled(
    operators: Sequence[Node],
    start: Callable[..., Scales],
    widths: dict[int, int],
    reasons: dict[int, str],
    *,
    bounds: _Bounds,
    between: tuple[Collection[int], Collection[int]],
) -> dict[int, Scales]:
    """Choose the scales of the operators of every width, and which of them remain float after all.

    Where an operator does, others may have no range or nothing but operators in float around them.

    Args:
        operators: All operators of the graph.
        start: Chooses the scales of operators of one width.
        widths: Operator index -> width; those that remain float are removed.
        reasons: Operator index -> why it remains float; added to.
        bounds: What is known of the values.
        between: Indices of the graph's inputs that are float, and of its outputs that are integers.

    Returns:
        Width -> scales.
    """
    given, needed = between
    while True:
        scales = {
            bits: start([n for n in operators if widths.get(n.index) == bits], bits=bits)
            for bits in sorted(set(widths.values()))
        }
        found = {
            node.index: why
            for node in operators
            if node.index in widths
            and (why := without_range(node, scales[widths[node.index]].own, bounds.untold))
        }
        found = found or {
            node.index: why
            for node in operators
            if node.index in widths and (why := not_rescaled(node, scales[widths[node.index]]))
        }
        found = found or {
            **lost_at_back(operators, widths, bounds.known, needed),
            **lost_at_front(operators, widths, bounds.of_values, given),
        }
        if not found:
            copied = between_floats(operators, widths, *between)
            found = dict.fromkeys(copied, "it only copies values from float to float")
        if not found:
            return scales
        reasons.update(found)
        for index in found:
            del widths[index]


def _lost(
    graph: SubGraphT,
    operators: Sequence[Node],
    widths: Mapping[int, int],
    bounds: _Bounds,
    plan: Plan,
) -> dict[str, str]:
    """Return why an end that is to be integers should be float, by end.

    Its operators would remain float then, or no range of its values is known.
    """
    lost: dict[str, Mapping[int, str]] = {}
    if plan.input_type != FLOAT:
        given = graph.inputs.tolist()
        lost["input"] = lost_at_front(operators, widths, bounds.of_values, given)
    if plan.output_type != FLOAT:
        lost["output"] = lost_at_back(operators, widths, bounds.known, ())
    for end, indices in (("input", graph.inputs), ("output", graph.outputs)):
        if end in lost:
            lost[end] = {**_without_range(graph, indices.tolist(), bounds), **lost[end]}
    return {end: next(iter(found.values())) for end, found in lost.items() if found}


def _without_range(graph: SubGraphT, indices: Iterable[int], bounds: _Bounds) -> dict[int, str]:
    """Return the float tensors among some that have no range, and that as the reason."""
    named = {index: graph.tensors[index] for index in indices if index not in bounds.known}
    return {
        index: bounds.untold.get(index, f"no range of {tensor.name.split(';')[0]} is known")
        for index, tensor in named.items()
        if tensor.type == FLOAT32
    }


def _is_real(node: Node) -> bool:
    return bool(real_inputs(node) or real_outputs(node))

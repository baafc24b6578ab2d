"""Map trained ranges from layers to the tensors of their TFLite graph."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgekit.modes import FLOAT32
from edgekit.records import Ranges, Rule
from edgekit.tflite.graph import operator_name, read
from edgekit.tflite.loops import loops_of
from edgekit.tflite.lstm import FUSED_LSTM, LEAST_CELL, STATE_INPUTS, fused_lstms
from edgekit.tflite.ranges import activations
from edgekit.tflite.signature import signature_names
from edgekit.training.qat.layer_rules import PREPARING
from edgekit.training.qat.loop_parts import ends_in_loop
from edgekit.training.qat.parts import BIAS, CELL, MIRRORED, OUTPUT, Parts

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

# Operators whose output has the scale of the input; converters insert some that are no layers.
_SAME_SCALE: Final = frozenset(
    {
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D"),
        *("AVERAGE_POOL_2D", "STRIDED_SLICE", "SLICE", "TILE", "REDUCE_MAX", "SPLIT"),
        *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2"),
    }
)

# Layers that converters fuse into the operators after them.
_YIELDING: Final = ("BatchNormalization", *PREPARING)


@dataclass(frozen=True, slots=True)
class Placed:
    """What a float graph is quantized with.

    Attributes:
        ranges: Ranges by tensor name, as `quantization.writer` takes them, of the tensors
            that integer operators take or compute.
        rules: For the operators that remain float.
    """

    ranges: Ranges
    rules: tuple[Rule, ...]


def place(graph: bytes, trained: Ranges, left: Mapping[str, str]) -> Placed:
    """Find the range of every activation of a float graph, and the operators that remain float.

    A tensor's name lists the layers fused into its operator; all of them share a range. An operator
    remains float if one of its layers does (what prepares an input can be fused into an integer
    operator), if it belongs to none, or if a range is not known: then nothing was trained for it.

    Args:
        graph: The TFLite graph of the model that `qat.finish` returned.
        trained: Ranges by layer name, as `qat.finish` returns them.
        left: Names of the layers that compute in float, and their classes.
    """
    model = read(graph)
    tensors = model.subgraphs[0].tensors
    counted = set(activations(model))
    known = {*trained.low, *left}
    order = {name: place for place, name in enumerate(trained.low)}
    inputs, outputs = signature_names(model)
    ends = {i: (trained.low[n], trained.high[n]) for i, n in inputs.items() if n in trained.low}
    composed = {
        name.rsplit("/", 1)[0]
        for name in trained.low
        if "/" in name and not re.fullmatch(rf"\d+|{BIAS}", name.rsplit("/", 1)[1])
    }
    parts = Parts(model)
    loops = {loop.position: loop for loop in loops_of(model)}
    # Tensor name -> range, inside of loops.
    inside: dict[str, tuple[float, float]] = {}
    layers: list[str | None] = []
    floating: set[int] = set()
    for number, op in enumerate(model.subgraphs[0].operators):
        owners = [o for i in op.outputs for o in _layers(tensors[i].name, known)]
        # A converter can name an output after nothing: then its signature says whose it is.
        owners = owners or [name for i in op.outputs if (name := outputs.get(int(i))) in known]
        same = operator_name(model, op) in _SAME_SCALE and op.inputs[0] in ends
        alone = any(left.get(owner, _YIELDING[0]) not in _YIELDING for owner in owners)
        trains = [owner for owner in owners if owner not in left and not alone]
        layers.append(next(iter(trains or owners), None))
        if not trains and (owners or not same):
            floating.add(number)
        # An operator made of several layers computes what the last of them does.
        ranged = max((o for o in owners if o in order), key=order.__getitem__, default=None)
        whole = next((owner for owner in owners if owner in composed), None)
        if whole is not None and number in loops and number not in floating:
            returned, computed = ends_in_loop(model, loops[number], trained, whole, ends)
            ends |= returned
            inside |= computed
            continue
        if whole is not None and number not in floating:
            part = parts.of(op, whole, moves=operator_name(model, op) in _SAME_SCALE)
            if operator_name(model, op) == FUSED_LSTM:
                cell = f"{whole}/{CELL}"
                state = int(op.inputs[STATE_INPUTS[1]])
                ends[state] = trained.low[cell], max(trained.high[cell], LEAST_CELL)
            if part != OUTPUT:
                _range_part(trained, f"{whole}/{part}", op, ends, same=same)
                continue
        for index in counted & set(map(int, op.outputs)):
            if same and number not in floating:
                ends[index] = ends[int(op.inputs[0])]
            elif ranged is not None:
                less, more = _bias_apart(model, op, trained, ranged)
                ends[index] = trained.low[ranged] - more, trained.high[ranged] - less
        for position, index in enumerate(map(int, op.inputs)):
            # What an operation on tensors computed, which no layer gives its name.
            keys = [key for owner in trains if (key := f"{owner}/{position}") in trained.low]
            if keys and index in counted:
                ends.setdefault(index, (trained.low[keys[0]], trained.high[keys[0]]))
    touched = _touched(model, counted, set(ends), floating)
    # A state is no activation, but has a range.
    touched |= {int(op.inputs[STATE_INPUTS[1]]) for op in fused_lstms(model)} & set(ends)
    # Inputs and outputs can be integers beside operators in float.
    touched |= {*map(int, (*model.subgraphs[0].inputs, *model.subgraphs[0].outputs))} & set(ends)
    named = {tensors[i].name: ends[i] for i in ends if i in touched} | inside
    return Placed(
        ranges=Ranges(
            method=trained.method,
            low={name: low for name, (low, _) in named.items()},
            high={name: high for name, (_, high) in named.items()},
            n=trained.n,
            weight_bits=trained.weight_bits,
        ),
        rules=_rules(model, counted, floating, layers),
    )


def _bias_apart(model: ModelT, op: OperatorT, trained: Ranges, owner: str) -> tuple[float, float]:
    """Return the extremes of a dense layer's bias, if the operator computes it without the bias.

    The converter moves biases into the dense layers that take the value.
    """
    key = f"{owner}/{BIAS}"
    apart = len(op.inputs) < 3 or op.inputs[2] < 0
    if operator_name(model, op) == "FULLY_CONNECTED" and apart and key in trained.low:
        return trained.low[key], trained.high[key]
    return 0.0, 0.0


def _range_part(
    trained: Ranges, name: str, op: OperatorT, ends: dict[int, tuple[float, float]], *, same: bool
) -> None:
    """Set the range of a layer's part, if it is known."""
    found = ends[int(op.inputs[0])] if same else None
    if name in trained.low:
        found = trained.low[name], trained.high[name]
    elif name.endswith(f"/{MIRRORED}") and (low_high := ends.get(int(op.inputs[0]))):
        found = -low_high[1], -low_high[0]
    if found is not None:
        ends.update((int(index), found) for index in op.outputs)


def _touched(
    model: ModelT, counted: Collection[int], ranged: Collection[int], floating: set[int]
) -> set[int]:
    """Return the tensors of integer operators; those without a range make theirs float, too."""
    operators = model.subgraphs[0].operators
    while True:
        touched: set[int] = set()
        for number, op in enumerate(operators):
            used = {int(i) for i in (*op.inputs, *op.outputs)} & set(counted)
            if number not in floating and used - set(ranged):
                floating.add(number)
                break
            if number not in floating:
                touched |= used
        else:
            return touched


def _rules(
    model: ModelT, counted: Collection[int], floating: Collection[int], layers: list[str | None]
) -> tuple[Rule, ...]:
    """Return rules that match exactly the operators that remain float."""
    graph = model.subgraphs[0]
    names: dict[str | None, list[str]] = {}
    others: list[str] = []
    for number, op in enumerate(graph.operators):
        made = [graph.tensors[i].name for i in op.outputs]
        if number not in floating:
            others += made
        elif set(counted) & {int(i) for i in (*op.inputs, *op.outputs)}:
            names.setdefault(layers[number], []).extend(made)
    rules = []
    for layer, tensors in names.items():
        pattern = rf"^([^;]*/)?{re.escape(layer or '')}/"
        whole = all(re.search(pattern, name) for name in tensors)
        if layer is None or not whole or any(re.search(pattern, name) for name in others):
            pattern = f"^({'|'.join(map(re.escape, tensors))})$"
        rules.append(Rule(layers=pattern, mode=FLOAT32.name))
    return tuple(rules)


def _layers(name: str, known: Collection[str]) -> Iterator[str]:
    """Return the known layers in a tensor's name, the first path first."""
    for path in name.split(";"):
        # The model, then the layer; what follows are operations, which can be called as a layer is.
        model, *parts = path.split("/")
        found = next((part for part in (*parts, model) if part in known), None)
        if found is not None:
            yield found

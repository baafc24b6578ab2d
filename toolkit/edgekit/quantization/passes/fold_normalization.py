"""Fold multiplications and additions by channel into the layers before and after them.

Converters fold a normalization into the layer before it, but leave it behind after a ReLU and
before a layer: `a * relu(W x + c) + b`. |a| goes into W and c, because ReLU is positively
homogeneous; its sign and b go into what reads the sum, as far as no padding is in between: padding
is zeros after the addition, and would be -b before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.quantization.passes.layers import (
    NO_ACTIVATION,
    RELU,
    ChannelGraph,
    Floats,
    Layer,
    by_channel,
    fused,
)
from edgekit.quantization.passes.reach import Reached, reach_of_factors, reach_of_shift
from edgekit.quantization.rules import ruled_otherwise
from edgekit.tflite.graph import clone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan


def fold_normalization(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Fold MUL and ADD by channel into neighboring layers, as far as outputs do not change.

    Args:
        model: A float graph; it is not changed.
        observed: Unused.
        settings: Operators that a rule of the plan names are not changed.
    """
    changed = clone(model)
    graph = ChannelGraph(changed, ruled_otherwise(settings, model))
    folded = False
    while any(_folds(graph, op) for op in graph.graph.operators):
        folded = True
    return drop_unused(changed, observed, settings) if folded else model


FOLD_NORMALIZATION: Final = GraphPass(
    name="fold_normalization",
    meaning="Fold multiplications and additions by channel into the layers around them.",
    apply=fold_normalization,
    moves_activations=True,
)


def _folds(graph: ChannelGraph, op: OperatorT) -> bool:
    """Fold an operator away, if that is possible."""
    name = graph.name(op)
    if name not in ("MUL", "ADD") or graph.is_kept(op):
        return False
    combined = by_channel(graph, op)
    if combined is None or combined[0] in graph.inputs or int(op.outputs[0]) in graph.outputs:
        return False
    tensor, _, values = combined
    before = _before(graph, tensor)
    if name == "ADD":
        return _shift_back(graph, op, before, values) or _shift_on(graph, op, tensor, values)
    return _scale_back(graph, op, before, values) or _scale_on(graph, op, tensor, values)


def _before(graph: ChannelGraph, tensor: int) -> Layer | None:
    """Return the layer that computes a tensor for a single reader, perhaps with a ReLU between."""
    op = graph.maker(tensor)
    if op is None or len(graph.readers(tensor)) != 1 or tensor in graph.outputs:
        return None
    if graph.name(op) == "RELU":
        between = int(op.inputs[0])
        layer = None if graph.is_kept(op) else _before(graph, between)
        return layer if layer is not None and layer.output == between else None
    layer = graph.layer(op)
    return layer if layer is not None and layer.rewritable else None


def _scale_back(graph: ChannelGraph, op: OperatorT, before: Layer | None, factors: Floats) -> bool:
    """`a * relu(z)` as `relu(|a| z)`, whose reader absorbs the signs."""
    tensor = _activation(graph, op)
    if before is None or before.activation not in (NO_ACTIVATION, RELU):
        return False
    linear = before.output == tensor and before.activation == NO_ACTIVATION
    if linear:
        before.scale_outputs(factors)
        if fused(op) != NO_ACTIVATION:
            before.op.builtinOptions.fusedActivationFunction = fused(op)
        graph.bypass(op, tensor)
        return True
    if fused(op) not in (NO_ACTIVATION, RELU) or (fused(op) == RELU and (factors < 0).any()):
        return False
    signs = np.where(factors < 0, np.float32(-1), np.float32(1))
    if (signs < 0).any():
        reached = reach_of_factors(graph, int(op.outputs[0]), positive=False, shifts=True)
        if reached is None or any(fused(passed) for passed in reached.passed):
            return False
        scale_reached(graph, reached, signs)
    before.scale_outputs(np.abs(factors))
    graph.bypass(op, tensor)
    return True


def _scale_on(graph: ChannelGraph, op: OperatorT, tensor: int, factors: Floats) -> bool:
    """`W (a x)` as `(W a) x`."""
    if fused(op) != NO_ACTIVATION:
        return False
    reached = reach_of_factors(graph, int(op.outputs[0]), positive=bool((factors > 0).all()))
    if reached is None:
        return False
    for end in reached.ends:
        end.scale_inputs(factors)
    graph.bypass(op, tensor)
    return True


def _shift_back(graph: ChannelGraph, op: OperatorT, before: Layer | None, shift: Floats) -> bool:
    """`z + b` into the bias."""
    tensor = _activation(graph, op)
    if before is None or before.output != tensor or before.activation != NO_ACTIVATION:
        return False
    if not before.can_add():
        return False
    before.add(shift)
    before.op.builtinOptions.fusedActivationFunction = fused(op)
    graph.bypass(op, tensor)
    return True


def _shift_on(graph: ChannelGraph, op: OperatorT, tensor: int, shift: Floats) -> bool:
    """`W (x + b)` as `W x + W b`."""
    reached = reach_of_shift(graph, int(op.outputs[0])) if fused(op) == NO_ACTIVATION else None
    if reached is None:
        return False
    for end in reached.ends:
        end.add(end.response(shift))
    graph.bypass(op, tensor)
    return True


def scale_reached(graph: ChannelGraph, reached: Reached, factors: Floats) -> None:
    """Undo what divided the channels of a tensor by `factors`, in the layers that read them.

    Constants that are added on the way are divided too.
    """
    for op in reached.passed:
        if graph.name(op) == "ADD":
            combined = by_channel(graph, op)
            assert combined is not None
            _, place, values = combined
            repeated = np.tile(factors, len(values) // len(factors))
            graph.replace_constant(op, place, values / repeated)
    for end in reached.ends:
        end.scale_inputs(factors)


def _activation(graph: ChannelGraph, op: OperatorT) -> int:
    combined = by_channel(graph, op)
    assert combined is not None
    return combined[0]

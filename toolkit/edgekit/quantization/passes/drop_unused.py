"""Remove operators, tensors, buffers and operator codes that no output depends on.

Converters leave few of them; graphs that were cut or edited may have whole unused branches. Outputs
remain bit-identical.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.records import Array
from edgekit.tflite.graph import DTYPES, clone

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan


def drop_unused(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Remove the operators that no output depends on, then unreferenced tensors and buffers.

    Operators that change a state or a resource, that call another graph, or that have no outputs
    are kept, because they have effects beyond their output tensors.

    Args:
        model: A float graph; it is not changed.
        observed: Unused: the remaining activations do not change.
        settings: Unused.
    """
    _ = observed, settings
    slim = clone(model)
    for number, graph in enumerate(slim.subgraphs):
        graph.operators = _used_operators(slim, graph)
        kept = _used_tensors(slim, number)
        places = {old: new for new, old in enumerate(kept)}
        graph.tensors = [graph.tensors[index] for index in kept]
        _renumber(slim, number, places)
    _drop_codes(slim)
    _drop_buffers(slim)
    return model if _counts(slim) == _counts(model) else slim


DROP_UNUSED: Final = GraphPass(
    name="drop_unused",
    meaning="Drop operators, tensors and buffers that no output depends on.",
    apply=drop_unused,
)


def _used_operators(model: ModelT, graph: SubGraphT) -> list[OperatorT]:
    used = set(graph.outputs.tolist())
    kept = []
    for op in reversed(graph.operators):
        outputs = [index for index in op.outputs.tolist() if index >= 0]
        if used.intersection(outputs) or not outputs or has_effects(model, graph, op):
            kept.append(op)
            used.update(op.inputs.tolist())
    return kept[::-1]


def has_effects(model: ModelT, graph: SubGraphT, op: OperatorT) -> bool:
    """Whether an operator may do more than compute its outputs."""
    if model.operatorCodes[op.opcodeIndex].customCode:
        return True
    tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    # Resources and variants have no numpy type; a loop refers to its graphs in its options.
    options = [vars(part) for part in (op.builtinOptions, op.builtinOptions2) if part is not None]
    return any(t.isVariable or t.type not in DTYPES for t in tensors) or any(
        "ubgraph" in name for part in options for name in part
    )


def _used_tensors(model: ModelT, number: int) -> list[int]:
    graph = model.subgraphs[number]
    used = {*graph.inputs.tolist(), *graph.outputs.tolist()}
    for op in graph.operators:
        used.update(i for i in (*op.inputs.tolist(), *op.outputs.tolist()) if i >= 0)
        # `read` does not check these indices.
        used.update(int(i) for i in _listed(op.intermediates) if 0 <= i < len(graph.tensors))
    used.update(
        int(entry.tensorIndex)
        for signature in model.signatureDefs
        if signature.subgraphIndex == number
        for entry in (*signature.inputs, *signature.outputs)
    )
    return sorted(used)


def _renumber(model: ModelT, number: int, places: dict[int, int]) -> None:
    def moved(indices: Iterable[int]) -> Array:
        return np.array([places.get(int(i), -1) for i in indices], np.int32)

    graph = model.subgraphs[number]
    graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
    for op in graph.operators:
        op.inputs, op.outputs = moved(op.inputs), moved(op.outputs)
        if len(_listed(op.intermediates)):
            op.intermediates = moved(op.intermediates)
    for signature in model.signatureDefs:
        if signature.subgraphIndex == number:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = places[int(entry.tensorIndex)]


def _drop_codes(model: ModelT) -> None:
    every = [op for graph in model.subgraphs for op in graph.operators]
    used = sorted({int(op.opcodeIndex) for op in every})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for op in every:
        op.opcodeIndex = used.index(op.opcodeIndex)


def _drop_buffers(model: ModelT) -> None:
    """Remove unreferenced buffers, except the first, which is empty as the schema requires."""
    owners = [*(t for graph in model.subgraphs for t in graph.tensors), *model.metadata]
    older = [int(i) for i in _listed(model.metadataBuffer) if 0 <= i < len(model.buffers)]
    kept = sorted({0, *older, *(int(owner.buffer) for owner in owners)})
    places = {old: new for new, old in enumerate(kept)}
    model.buffers = [model.buffers[index] for index in kept]
    for owner in owners:
        owner.buffer = places[int(owner.buffer)]
    if older:
        model.metadataBuffer = np.array([places[index] for index in older], np.int32)


def _counts(model: ModelT) -> tuple[int, ...]:
    tensors, operators = (
        sum(len(getattr(graph, part)) for graph in model.subgraphs)
        for part in ("tensors", "operators")
    )
    return len(model.buffers), len(model.operatorCodes), tensors, operators


def _listed(values: Any) -> Any:
    return () if values is None else values

"""Which operator in the body of a GRU's loop computes which part of the layer; see `recurrent`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from edgekit.records import Ranges
from edgekit.tflite.graph import FLOAT32, constant, is_constant, operator_name
from edgekit.tflite.loops import Loop

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT

_INPUT, _STATE, _CONSTANT = "input", "outputs", "constant"
_MOVES: Final = (
    *("CONCATENATION", "DYNAMIC_UPDATE_SLICE", "GATHER", "RESHAPE", "SLICE", "SPLIT"),
    "STRIDED_SLICE",
)
# Operator, parts it takes (in any order) -> part it computes.
_PARTS: Final[Mapping[tuple[str, frozenset[str]], str]] = {
    (name, frozenset(taken)): part
    for name, taken, part in (
        ("FULLY_CONNECTED", (_INPUT,), "entered"),
        ("FULLY_CONNECTED", (_STATE,), "fed"),
        ("FULLY_CONNECTED", ("let",), "let_sum"),
        ("LOGISTIC", ("update_sum",), "update"),
        ("LOGISTIC", ("reset_sum",), "reset"),
        ("MUL", ("reset", "fed"), "let"),
        ("MUL", ("reset", _STATE), "let"),
        ("ADD", ("entered", "let"), "new_sum"),
        ("ADD", ("entered", "let_sum"), "new_sum"),
        ("TANH", ("new_sum",), "new"),
        ("MUL", ("update", _STATE), "kept"),
        ("SUB", (_CONSTANT, "update"), "rest"),
        ("MUL", ("rest", "new"), "added"),
        ("ADD", ("kept", "added"), _STATE),
    )
}
# The first two of three gates, in the order of the kernels.
_SUMS: Final = ("update_sum", "reset_sum")

Ends = tuple[float, float]


def ends_in_loop(
    model: ModelT, loop: Loop, trained: Ranges, owner: str, ends: Mapping[int, Ends]
) -> tuple[dict[int, Ends], dict[str, Ends]]:
    """Return the range of every float value of a loop.

    Args:
        model: The graph.
        loop: A loop of it.
        trained: Ranges by the names of layers and parts, as `qat.finish` returns them.
        owner: The layer.
        ends: Ranges of the first graph's tensors, by index.

    Returns:
        The ranges of what the loop returns, by tensor index of the first graph, and of all that its
        body computes and is given, by tensor name. Both are empty where one of them is not known.
    """
    op, body = model.subgraphs[0].operators[loop.position], model.subgraphs[loop.body]
    parts: dict[int, tuple[str, int]] = {}
    known = {
        part: (low, trained.high[f"{owner}/{part}"])
        for name, low in trained.low.items()
        if name.startswith(f"{owner}/") and (part := name.removeprefix(f"{owner}/"))
    }
    slots = list(zip(op.inputs, op.outputs, body.inputs, body.outputs, strict=True))
    floats = [slot for slot in slots if body.tensors[slot[2]].type == FLOAT32]
    for given, _, before, after in floats:
        # What every step is given anew is the sequence; all else is carried on.
        parts[int(before)] = (_INPUT if before == after else _STATE, 0)
        if before == after and int(given) in ends:
            known[_INPUT] = ends[int(given)]
    for inner in body.operators:
        if body.tensors[inner.outputs[0]].type == FLOAT32:
            parts |= _computed(model, body, inner, parts)
    computed = {int(i) for o in body.operators for i in o.outputs}
    needed = [i for i in computed if body.tensors[i].type == FLOAT32]
    if any(i not in parts or parts[i][0] not in known for i in (*parts, *needed)):
        return {}, {}
    return (
        {int(result): known[parts[int(before)][0]] for _, result, before, _ in floats},
        {body.tensors[i].name: known[part] for i, (part, _) in parts.items()},
    )


def _computed(
    model: ModelT, body: SubGraphT, op: OperatorT, parts: Mapping[int, tuple[str, int]]
) -> dict[int, tuple[str, int]]:
    """Return the parts, and the gates, of what an operator computes; empty if they are unknown."""
    name = operator_name(model, op)
    floats = [int(i) for i in op.inputs if i >= 0 and body.tensors[i].type == FLOAT32]
    taken = [parts.get(i, ("", 0)) for i in floats if not is_constant(model, body.tensors[i])]
    if not taken:
        return {}
    part, gate = taken[0]
    if name in _MOVES:
        if name == "STRIDED_SLICE":
            begin = constant(model, body.tensors[op.inputs[1]]).reshape(-1)[-1]
            gate = int(begin) // int(body.tensors[op.outputs[0]].shape[-1])
        return {
            int(index): (part, place if name == "SPLIT" else gate)
            for place, index in enumerate(op.outputs)
        }
    kinds = {kind for kind, _ in taken}
    if name == "SUB" and len(taken) < len(floats):
        kinds.add(_CONSTANT)
    if name == "ADD" and kinds == {"entered", "fed"}:
        gates = {number for _, number in taken}
        made = _SUMS[gates.pop()] if len(gates) == 1 and max(gates) < len(_SUMS) else ""
    else:
        made = _PARTS.get((name, frozenset(kinds)), "")
    return {int(op.outputs[0]): (made, 0)} if made else {}

"""What a model needs of a microcontroller: RAM for the arena, flash for itself and the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from edgekit.records import MemoryFit
from edgekit.targets.arena import aligned
from edgekit.targets.arena_tail import Model, arena_bytes_32, planning_bytes, tail_bytes
from edgekit.targets.node import Node
from edgekit.tflite import micro_interpreter
from edgekit.tflite.arena import Arena, plan
from edgekit.tflite.micro_interpreter import MicroRun
from edgekit.tflite.nodes import graph_tensors

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

CODE_BYTES: Final = 178_000
"""Flash of TFLite Micro with 15 operators, CMSIS-NN and printf, built for a Cortex-M4.

With the reference kernels it was 130,000. The linker leaves out operators that are not registered.
"""


def memory(
    model: ModelT,
    nodes: Sequence[Node],
    content: bytes,
    budgets: Mapping[str, Mapping[str, int]],
    *,
    interpret: bool = True,
) -> dict[str, MemoryFit]:
    """Return for each target what a model needs, and what there is.

    Args:
        model: The model.
        nodes: Its operators.
        content: Its file, not packed.
        budgets: Target -> bytes of `ram` and `flash`, as far as they are known.
        interpret: Whether TFLite Micro's interpreter is asked, where it is installed.
    """
    if not budgets:
        return {}
    described = _described(model, nodes)
    planned = plan(model, nodes)
    tried = None
    if interpret and micro_interpreter.available():
        tried = micro_interpreter.run(content, outputs=len(model.subgraphs[0].outputs))
    needs = _needs(described, planned, tried)
    if tried is not None and tried.arena_bytes is not None and not needs.measured:
        again = micro_interpreter.run(content, outputs=0, arena_bytes=aligned(tried.arena_bytes))
        if again.loads:
            needs = _Needs(tried.arena_bytes, tried.head_bytes, measured=True)
    return {
        target: MemoryFit(
            arena_bytes=needs.arena_bytes,
            head_bytes=needs.head_bytes,
            arena_bytes_32=None
            if needs.arena_bytes is None
            else arena_bytes_32(described, needs.arena_bytes),
            measured=needs.measured,
            loads=None if tried is None else tried.loads,
            message=None if tried is None else tried.message,
            model_bytes=len(content),
            code_bytes=CODE_BYTES,
            ram_bytes=budget.get("ram"),
            flash_bytes=budget.get("flash"),
        )
        for target, budget in budgets.items()
    }


class _Needs(NamedTuple):
    """Arena and head in bytes, and whether the arena is measured."""

    arena_bytes: int | None
    head_bytes: int | None
    measured: bool


def _needs(model: Model, planned: Arena | None, tried: MicroRun | None) -> _Needs:
    """Return the arena that a model needs, as measured where that tells, else as estimated."""
    head = planned.head_bytes if planned is not None else None
    tail = tail_bytes(model)
    total = None
    if tried is not None and tried.arena_bytes is not None and tried.head_bytes is not None:
        total, head = tried.arena_bytes, tried.head_bytes
        tail = total - head
    if head is None:
        return _Needs(None, None, measured=False)
    # What the interpreter reports is in use once it has loaded; before, planning takes memory.
    planning = planning_bytes(model, len(planned.buffers)) if planned is not None else 0
    return _Needs(tail + max(head, planning), head, measured=total is not None and planning <= head)


def _described(model: ModelT, nodes: Sequence[Node]) -> Model:
    tensors = [graph_tensors(model, graph) for graph in model.subgraphs]
    main = model.subgraphs[0]
    return Model(
        nodes=nodes,
        tensors=sum(map(len, tensors)),
        graphs=len(tensors),
        ends=[tensors[0][int(index)] for index in (*main.inputs, *main.outputs)],
        variables=[tensor for graph in tensors for tensor in graph if tensor.variable],
    )

"""What a model needs of a microcontroller: RAM for the arena, flash for itself and the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from edgekit.records import MemoryFit
from edgekit.targets.arena_tail import Model, arena_bytes_32, tail_bytes
from edgekit.targets.node import Node
from edgekit.tflite import micro_interpreter
from edgekit.tflite.arena import plan
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
    head = planned.head_bytes if planned is not None else None
    arena = None if head is None else head + tail_bytes(described)
    measured = tried is not None and tried.arena_bytes is not None
    if tried is not None and tried.arena_bytes is not None:
        head, arena = tried.head_bytes, tried.arena_bytes
    return {
        target: MemoryFit(
            arena_bytes=arena,
            head_bytes=head,
            arena_bytes_32=None if arena is None else arena_bytes_32(described, arena),
            measured=measured,
            loads=None if tried is None else tried.loads,
            message=None if tried is None else tried.message,
            model_bytes=len(content),
            code_bytes=CODE_BYTES,
            ram_bytes=budget.get("ram"),
            flash_bytes=budget.get("flash"),
        )
        for target, budget in budgets.items()
    }


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

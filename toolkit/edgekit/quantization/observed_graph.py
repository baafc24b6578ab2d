"""A float graph that is prepared so that all of its activations can be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import ConversionError
from edgekit.quantization.kept_outputs import KeptOutputs
from edgekit.quantization.loop_steps import LoopSteps, prepare
from edgekit.tflite.graph import operator_name, write
from edgekit.tflite.loops import Loop, loops_of
from edgekit.tflite.lstm import LstmCell, lstm_cells
from edgekit.tflite.ranges import activations, limits, with_all_outputs
from edgekit.tflite.signature import signature_names
from edgekit_runner import state_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_WITH_GRAPHS = ("WHILE", "IF", "STABLEHLO_WHILE", "STABLEHLO_CASE")


@dataclass(frozen=True, slots=True)
class ObservedGraph:
    """A float graph prepared for calibration.

    Attributes:
        content: The file, with all activations as outputs.
        names: Tensor index -> tensor name, of the observed tensors: activations, and the cell
            states of fused LSTMs. Those of the loops follow.
        limits: Position among these -> ends that its values keep within (`tflite.ranges.limits`).
        inputs: Input name -> tensor index.
        unclipped: Names of the tensors whose range is never clipped.
        state: Where it keeps its state (`edgekit_runner.state_of`).
        cells: Tensor index of a cell state -> what computes it.
        loops: Its loops, whose bodies are run step by step.
        outputs: Where its outputs are kept; None where they are not.
    """

    content: bytes
    names: Mapping[int, str]
    limits: Mapping[int, tuple[float, float]]
    inputs: Mapping[str, int]
    unclipped: frozenset[str]
    state: str
    cells: Mapping[int, LstmCell]
    loops: tuple[LoopSteps, ...]
    outputs: KeptOutputs | None = None

    @property
    def observed(self) -> list[str]:
        """Return the names of all observed tensors."""
        return [
            *self.names.values(),
            *(name for loop in self.loops for name in loop.names.values()),
        ]


def prepared_graph(model: ModelT) -> ObservedGraph:
    """Prepare a float graph with batch size 1.

    Raises:
        ConversionError: It holds loops that cannot be taken apart.
    """
    loops = loops_of(model)
    _refuse_other(model, loops)
    graph = model.subgraphs[0]
    named = signature_names(model)[0]
    steps = tuple(prepare(model, loop) for loop in loops)
    content = write(with_all_outputs(model, also={i for loop in steps for i in loop.read}))
    cells = {cell.cell: cell for cell in lstm_cells(model)}
    kept = [name for loop in steps for names in loop.carried for name in names]
    shown = (*activations(model), *cells)
    clamped = limits(model)
    return ObservedGraph(
        content=content,
        names={i: graph.tensors[i].name for i in shown},
        limits={place: clamped[i] for place, i in enumerate(shown) if i in clamped},
        inputs={named.get(int(i), graph.tensors[i].name): int(i) for i in graph.inputs},
        unclipped=frozenset(
            [*(graph.tensors[i].name for i in (*graph.inputs, *graph.outputs, *cells)), *kept]
        ),
        state=state_of(content),
        cells=cells,
        loops=steps,
    )


def _refuse_other(model: ModelT, loops: Sequence[Loop]) -> None:
    """Refuse operators that call graphs, but for these loops."""
    known = {loop.position for loop in loops}
    for position, op in enumerate(model.subgraphs[0].operators):
        name = operator_name(model, op)
        if name in _WITH_GRAPHS and position not in known:
            computed = [model.subgraphs[0].tensors[i].name for i in op.outputs if i >= 0]
            raise ConversionError(
                f"The activations inside {name} cannot be calibrated.",
                found=f"{name} computes {computed[0].split(';')[0]}" if computed else None,
                hint="Give the Keras model, whose recurrent layers edgekit writes out step by step "
                "(over 512 steps: built with unroll=True); or choose dynamic or float16.",
            )

"""The float graph of a model, and the forms of it that integers need of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.choices import COMPACT, FUSED, UNROLLED, RecurrentForm
from edgekit.errors import DataError
from edgekit.modes import INT8
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.request import calibrates
from edgekit.pipeline.verified_lowering import lowered_as
from edgekit.quantization import (
    MINMAX,
    FloatGraph,
    Observed,
    learned,
    observe,
    read_float_graph,
)
from edgekit.records import Listener, Plan, Progress, Ranges
from edgekit.tflite import has_loops
from edgekit.tflite.lstm import fused_lstms
from edgekit.worker import TensorFlowProcess

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class Form:
    """A float graph in one form.

    Attributes:
        graph: The graph.
        observe: Returns the statistics of its activations, or of those of a graph made of it.
        notes: What was done to make it.
    """

    graph: FloatGraph
    observe: Callable[[ModelT], Observed]
    notes: tuple[str, ...] = ()


class FloatGraphs:
    """The float graph in the forms that variants need, each made and observed once, when needed.

    Args:
        imported: The float graph as it was imported, which is the first form.
        plans: The variants.
        folder: Where other forms are written, and removed again.
        tensorflow: Lowers the model again; it holds it still.
        listener: Progress callback.
    """

    def __init__(
        self,
        imported: ImportedModel,
        plans: Sequence[Plan],
        folder: Path,
        tensorflow: TensorFlowProcess | None,
        listener: Listener,
    ) -> None:
        self._imported = imported
        self._folder = folder
        self._tensorflow = tensorflow
        self._listener = listener
        self._histograms = any(calibrates(p) and p.ranges != MINMAX for p in plans)
        first = read_float_graph(imported.graph)
        self._forms: dict[RecurrentForm, Form] = {COMPACT: Form(first, self._observer(first))}

    def forms(self, plan: Plan) -> Iterator[Form]:
        """Yield the forms in which a variant may be possible, the most compact first."""
        for name in self._names(plan):
            if name not in self._forms:
                self._forms[name] = self._made(name)
            form = self._forms[name]
            trained = self._imported.trained
            if trained is not None and plan.mode == INT8.name:
                # Recurrent layers were left in float: there are no cell states to observe.
                yield replace(form, observe=partial(_learned, trained))
            else:
                yield form

    def _names(self, plan: Plan) -> tuple[RecurrentForm, ...]:
        model = self._forms[COMPACT].graph.model
        loops, fused = has_loops(model), bool(fused_lstms(model))
        trained = self._imported.trained is not None  # for the tensors of the first form
        if not calibrates(plan) or not (loops or fused) or trained or not self._lowers_again():
            return (COMPACT,)
        if plan.mode == INT8.name or not fused:
            # The fused operator has no kernel with int16 activations.
            return (COMPACT, *((FUSED,) if loops and fused else ()), UNROLLED)
        return (UNROLLED,)

    def _lowers_again(self) -> bool:
        return self._tensorflow is not None and self._imported.source.kind != "tflite"

    def _made(self, name: RecurrentForm) -> Form:
        assert self._tensorflow is not None
        self._listener(Progress(stage="lowering", detail="recurrent layers step by step"))
        path = self._folder / f"{name}.tflite~"
        try:
            notes = lowered_as(name, self._imported, path, self._tensorflow)
            graph = read_float_graph(path)
        finally:
            path.unlink(missing_ok=True)
        return Form(graph, self._observer(graph), notes)

    def _observer(self, graph: FloatGraph) -> Callable[[ModelT], Observed]:
        """What observes a graph on the calibration samples, the plain graph only once."""
        dataset = self._imported.dataset
        samples = None if dataset is None else dataset.calibrate
        known: list[Observed] = []

        def observed(model: ModelT) -> Observed:
            if model is graph.model and known:
                return known[0]
            if samples is None:
                raise DataError(
                    "A graph pass needs training samples to calibrate on.",
                    hint="Give --data with a train split, or drop the pass.",
                )
            found = observe(model, samples, histograms=self._histograms, listener=self._listener)
            if model is graph.model:
                known.append(found)
            return found

        return observed


def _learned(trained: Ranges, model: ModelT) -> Observed:
    """The trained ranges, whatever graph of the form is observed."""
    del model
    return learned(trained)

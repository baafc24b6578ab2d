"""The float graph of a model, and the forms of it that integers need of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.choices import AUTO, COMPACT, FUSED, MINMAX, UNROLLED, RecurrentForm
from edgekit.errors import DataError
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.modes import INT8
from edgekit.pipeline.calibration_inputs import CalibrationInputs
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.request import calibrates
from edgekit.pipeline.verified_lowering import lowered_as
from edgekit.quantization import (
    Calibration,
    FloatGraph,
    Observed,
    Recorded,
    learned,
    read_float_graph,
)
from edgekit.records import Listener, Plan, Progress, Ranges, TensorSpec
from edgekit.tflite import has_loops
from edgekit.tflite.lstm import fused_lstms
from edgekit.tflite.signature import signature, signature_names
from edgekit.worker import TensorFlowProcess

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class Form:
    """A float graph in one form.

    Attributes:
        graph: The graph.
        observe: Returns the statistics of its activations, or of those of a graph made of it.
        calibration: The samples that choose between ranges; None where these are given.
        notes: What was done to make it.
    """

    graph: FloatGraph
    observe: Callable[[ModelT], Observed]
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()


class FloatGraphs:
    """The float graph in the forms that variants need, each made and observed once, when needed.

    Args:
        imported: The float graph as it was imported, which is the first form.
        plans: The variants.
        folder: Where other forms are written, and removed again.
        tensorflow: Lowers the model again; it holds it still.
        listener: Progress callback.
        recorded: The choice of ranges to repeat; None searches for one.

    Attributes:
        calibration: The samples that calibrate them.
    """

    def __init__(
        self,
        imported: ImportedModel,
        plans: Sequence[Plan],
        folder: Path,
        tensorflow: TensorFlowProcess | None,
        listener: Listener,
        *,
        recorded: Recorded | None = None,
    ) -> None:
        self._imported = imported
        self._folder = folder
        self._tensorflow = tensorflow
        self._listener = listener
        self._recorded = recorded
        self._histograms = any(calibrates(p) and p.ranges not in (AUTO, MINMAX) for p in plans)
        self.calibration = imported.calibration or CalibrationInputs.of(
            imported.dataset, plans, listener
        )
        self._forms: dict[RecurrentForm, Form] = {
            COMPACT: self._form(read_float_graph(imported.graph))
        }

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of the graph."""
        return signature(self._forms[COMPACT].graph.model)[0]

    def forms(self, plan: Plan) -> Iterator[Form]:
        """Yield the forms in which a variant may be possible, the most compact first."""
        for name in self._names(plan):
            if name not in self._forms:
                self._forms[name] = self._made(name)
            form = self._forms[name]
            trained = self._imported.trained
            if trained is None:
                yield form
            elif plan.mode == INT8.name:
                # Recurrent layers were left in float: there are no cell states to observe.
                yield replace(form, observe=partial(_learned, trained), calibration=None)
            else:
                # Its weights were trained for the grid that they are on.
                yield replace(form, calibration=None)

    def has_one_form(self, plan: Plan) -> bool:
        """Whether a variant is possible in one form only."""
        return len(self._names(plan)) == 1

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
        return self._form(graph, notes)

    def _form(self, graph: FloatGraph, notes: tuple[str, ...] = ()) -> Form:
        """A form whose graphs are observed on the calibration samples, each only once."""
        samples = self.calibration.samples
        if samples is None:
            return Form(graph, _unobserved, notes=notes)
        calibration = Calibration(
            samples,
            class_scores=self._class_scores(graph),
            recorded=self._recorded,
            listener=self._listener,
        )
        observe = partial(calibration.observe, histograms=self._histograms)
        return Form(graph, observe, calibration, notes)

    def _class_scores(self, graph: FloatGraph) -> str | None:
        dataset = self._imported.dataset
        if dataset is None or dataset.task != CLASSIFICATION.name:
            return None
        return dataset.output or next(iter(signature_names(graph.model)[1].values()), None)


def _unobserved(model: ModelT) -> Observed:
    del model
    raise DataError(
        "A graph pass needs training samples to calibrate on.",
        hint="Give --data with a train split, or drop the pass.",
    )


def _learned(trained: Ranges, model: ModelT) -> Observed:
    """The trained ranges, whatever graph of the form is observed."""
    del model
    return learned(trained)

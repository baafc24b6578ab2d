"""Run a float graph and the same one with rounded weights, layer by layer, on samples.

What reaches a layer is known for all samples before the next layer is run, so that a layer can be
changed by what the rounded ones before it did to its inputs; each operator runs once for each
sample and graph. What no later operator reads is freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.errors import ConversionError
from edgekit.isolate import ChildDiedError, isolated
from edgekit.quantization.observe import NOTHING, Observed
from edgekit.quantization.one_thread import on_one_thread
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.quantization.passes.grids import Grid, grids
from edgekit.quantization.passes.layers import ChannelGraph, Floats, Layer
from edgekit.quantization.rules import ruled_otherwise
from edgekit.records import Array, Plan, Samples
from edgekit.tflite.graph import clone, write
from edgekit.tflite.ranges import activations
from edgekit.tflite.signature import signature_names
from edgekit_runner import state_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

# Bytes of activations that are held at once, in both graphs together, and samples at most.
_HELD: Final = 1 << 29
_MOST: Final = 256
_FEWEST: Final = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer in both graphs.

    Attributes:
        exact: The layer of the float graph.
        rounded: That of the other, whose weights and bias are not yet rounded, and can be replaced.
        grid: The codes that its weights get; None where they remain float.
        exact_given: What it reads in the float graph, of each sample.
        rounded_given: What it reads in the other.
    """

    exact: Layer
    rounded: Layer
    grid: Grid | None
    exact_given: Sequence[Array]
    rounded_given: Sequence[Array]

    @property
    def stored(self) -> Floats:
        """Return what is left of its weights after they were rounded."""
        weights = self.rounded.weights
        return weights if self.grid is None else self.grid.stored(weights)


@dataclass(frozen=True, slots=True)
class Change:
    """What replaces weights and bias of a layer; None leaves them as they are."""

    weights: Floats | None = None
    bias: Floats | None = None


Fit = Callable[[Pair], Change | None]
"""Returns what is to change in a layer."""


def fitted(model: ModelT, observed: Observed, settings: Plan, fit: Fit) -> ModelT:
    """Return a graph whose layers were changed one after the other.

    Args:
        model: A float graph; it is not changed.
        observed: The samples, and the graph whose outputs are to be reached.
        settings: Mode and rules.
        fit: Is given the layers that no rule excepts, in execution order; those before are rounded
            then.

    Raises:
        ConversionError: There are no samples, or the graph cannot be run layer by layer.
    """
    chosen = grids(model, settings)
    if not chosen:
        return model
    samples = observed.samples
    if samples is None:
        raise ConversionError(
            "Weights cannot be fitted to samples: the ranges of this model were trained.",
            hint="Drop round_weights and correct_biases from the passes.",
        )
    exact = observed.exact or model
    if len(model.subgraphs) > 1 or state_of(write(model)):
        raise ConversionError(
            "Weights cannot be fitted to samples: the graph has loops or keeps a state.",
            hint="Drop round_weights and correct_biases from the passes.",
        )

    def changes() -> dict[str, Change]:
        on_one_thread()
        return dict(_changes((exact, model), samples, chosen, fit, settings))

    try:
        found = isolated(changes)
    except ChildDiedError as error:
        raise ConversionError(
            "The process that fits weights to samples crashed.",
            found=f"it ended with {error.reason}",
            hint="Drop round_weights and correct_biases from the passes.",
        ) from error
    return _changed(model, found) if found else model


def _changed(model: ModelT, changes: Mapping[str, Change]) -> ModelT:
    graph = ChannelGraph(clone(model))
    for layer in list(graph.layers()):
        change = changes.get(graph.graph.tensors[layer.output].name)
        if change is not None:
            _replace(layer, change)
    return graph.model


def _replace(layer: Layer, change: Change) -> None:
    if change.weights is not None:
        layer.graph.replace_constant(layer.op, 1, change.weights)
    if change.bias is not None:
        layer.graph.replace_constant(layer.op, 2, change.bias)


def _changes(
    graphs: tuple[ModelT, ModelT],
    samples: Samples,
    chosen: Mapping[str, Grid],
    fit: Fit,
    settings: Plan,
) -> Iterator[tuple[str, Change]]:
    """Run both graphs up to each layer, and yield what is to change in it."""
    count = min(samples.n, _MOST, max(_FEWEST, _HELD // max(1, 2 * _live_bytes(graphs[0]))))
    first, second = (_Run(graph, samples, count, settings) for graph in graphs)
    targets = {first.name(layer): layer for layer in first.graph.layers()}
    kept = ruled_otherwise(settings, graphs[1]) - chosen.keys()
    for layer in list(second.graph.layers()):
        name = second.name(layer)
        if name in kept or name not in targets:
            continue
        given = first.read_by(targets[name]), second.read_by(layer)
        if given[0] is None or given[1] is None:
            continue  # it reads constants alone
        pair = Pair(targets[name], layer, chosen.get(name), given[0], given[1])
        change = fit(pair) if layer.rewritable else None
        if change is not None:
            yield name, change
            _replace(layer, change)
        layer.graph.replace_constant(layer.op, 1, pair.stored)


class _Run:
    """A graph that is run part by part; constants of what follows can still be replaced.

    Args:
        model: The graph; it is not changed.
        samples: What it is run on.
        count: How many of them.
        settings: The plan.
    """

    def __init__(self, model: ModelT, samples: Samples, count: int, settings: Plan) -> None:
        self._settings = settings
        self.graph = ChannelGraph(clone(model))
        self._next = 0
        tensors = self.graph.graph.tensors
        names = {signature_names(model)[0].get(i, tensors[i].name): i for i in self.graph.inputs}
        self._values: list[dict[int, Array]] = []
        for start in range(0, count, 16):
            given = samples.read(np.arange(start, min(start + 16, count))).inputs
            rows = len(next(iter(given.values())))
            self._values += [
                {int(names[name]): values[row : row + 1] for name, values in given.items()}
                for row in range(rows)
            ]

    def name(self, layer: Layer) -> str:
        """Return the name of the tensor that a layer computes."""
        name: str = self.graph.graph.tensors[layer.output].name
        return name

    def read_by(self, layer: Layer) -> list[Array] | None:
        """Return what a layer reads, of each sample; None where that is a constant."""
        operators = self.graph.graph.operators
        position = next(i for i, op in enumerate(operators) if op is layer.op)
        part, later = operators[self._next : position], operators[position:]
        self._next = position
        needed = {int(i) for op in later for i in op.inputs}
        self._run(part, needed)
        tensor = int(layer.op.inputs[0])
        if tensor not in self._values[0]:
            return None
        return [values[tensor] for values in self._values]

    def _run(self, part: list[OperatorT], needed: set[int]) -> None:
        """Run some operators, and keep what others need."""
        made = {int(i) for op in part for i in op.outputs}
        read = {int(i) for op in part for i in op.inputs}
        inputs = sorted(read.intersection(self._values[0]))
        outputs = sorted(made & needed)
        interpreter = self._opened(part, inputs, outputs) if outputs else None
        for values in self._values:
            found = _outputs(interpreter, [values[i] for i in inputs]) if interpreter else []
            for gone in [i for i in values if i not in needed]:
                del values[gone]
            values.update(zip(outputs, found, strict=True))

    def _opened(self, part: list[OperatorT], inputs: list[int], outputs: list[int]) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        cut = clone(self.graph.model)
        graph = cut.subgraphs[0]
        places = {id(op): number for number, op in enumerate(self.graph.graph.operators)}
        graph.operators = [graph.operators[places[id(op)]] for op in part]
        graph.inputs, graph.outputs = (np.array(ends, np.int32) for ends in (inputs, outputs))
        cut.signatureDefs, cut.metadata, cut.metadataBuffer = [], [], None
        content = write(drop_unused(cut, NOTHING, self._settings))
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter


def _outputs(interpreter: Any, inputs: list[Array]) -> list[Array]:
    for spec, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(spec["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(spec["index"]) for spec in interpreter.get_output_details()]


def _live_bytes(model: ModelT) -> int:
    """Return the most bytes of activations that are needed at once for a sample."""
    graph = model.subgraphs[0]
    sizes = {i: 4 * int(np.prod(graph.tensors[i].shape)) for i in activations(model)}
    last = {int(i): number for number, op in enumerate(graph.operators) for i in op.inputs}
    most, live = 0, {int(i) for i in graph.inputs}
    for number, op in enumerate(graph.operators):
        live.update(int(i) for i in op.outputs)
        most = max(most, sum(sizes.get(i, 0) for i in live))
        live = {i for i in live if last.get(i, -1) > number}
    return most

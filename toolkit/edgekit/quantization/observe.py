"""Calibration: ranges and distributions of all activations over the calibration samples.

The float graph runs in LiteRT with XNNPACK, in one process per core, with every activation exposed
as an output; values are read in the runtime's memory. State is reset as in evaluation: before each
sample, or where a sequence starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.choices import MINMAX
from edgekit.errors import ConversionError, DataError
from edgekit.isolate import ChildDiedError, report, spread
from edgekit.numerics import Histogram, entropy_range, mse_range, percentile_range
from edgekit.quantization.kept_outputs import KeptOutputs
from edgekit.quantization.loop_steps import LoopRunners
from edgekit.quantization.observed_graph import ObservedGraph, prepared_graph
from edgekit.quantization.tallies import Channels, Extremes, Tallies
from edgekit.records import Array, Listener, Progress, Ranges, Samples, silent
from edgekit.tflite.lstm import LstmCell
from edgekit_runner import RESOURCES, TENSORS

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Samples that a child process reads at once; it reports progress after each group.
_PIECE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Statistics of the activations of a float graph, by flatbuffer tensor name.

    Attributes:
        low: Smallest value of each tensor.
        high: Largest value of each tensor.
        n: Number of calibration samples.
        unclipped: Names of the tensors whose range is never clipped: inputs and outputs of the
            model, where no later layer compensates for clipping, states, and what loops carry.
        histograms: Distribution of each tensor; None if not computed.
        trained: Ranges from quantization-aware training, used instead of the observed ones.
        channels: Smallest and largest value of every channel, `[2, channels]`, of tensors where
            that was asked for (`observe_channels`).
        samples: The samples; None where ranges were trained.
        exact: The graph before passes that change its outputs; None before there was one.
        outputs: Output name -> `[n, ...]`, the graph's outputs, where they were kept.
    """

    low: Mapping[str, float]
    high: Mapping[str, float]
    n: int
    unclipped: frozenset[str] = frozenset()
    histograms: Mapping[str, Histogram] | None = None
    trained: Ranges | None = None
    channels: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    samples: Samples | None = field(default=None, compare=False, repr=False)
    exact: ModelT | None = field(default=None, compare=False, repr=False)
    outputs: Mapping[str, Array] | None = field(default=None, compare=False, repr=False)

    def ranges(self, method: str = MINMAX, percentile: float = 99.99) -> Ranges:
        """Choose the range of every activation.

        Args:
            method: `minmax`: the extremes. `percentile`: all but the outermost values on either
                side. `mse`: the range with the least squared error of int8 codes. `entropy`: the
                range with the least Kullback-Leibler divergence (see `numerics.ranges`). All but
                the first need histograms.
            percentile: Share of values below the upper end, in percent.
        """
        if self.trained is not None:
            return self.trained
        low, high = dict(self.low), dict(self.high)
        if method != MINMAX:
            choices: Mapping[str, Callable[[Histogram], tuple[float, float]]] = {
                "percentile": lambda histogram: percentile_range(histogram, percentile),
                "mse": mse_range,
                "entropy": entropy_range,
            }
            choose = choices[method]
            assert self.histograms is not None
            for name, histogram in self.histograms.items():
                if name not in self.unclipped:
                    low[name], high[name] = choose(histogram)
        return Ranges(method=method, low=low, high=high, n=self.n)


NOTHING: Final = Observed(low={}, high={}, n=0)
"""Statistics of a graph that was not run."""


def learned(ranges: Ranges) -> Observed:
    """Return trained ranges in the form of observed ones."""
    return replace(NOTHING, trained=ranges)


def observe(
    model: ModelT,
    samples: Samples,
    *,
    histograms: bool = False,
    keep: bool = False,
    listener: Listener = silent,
) -> Observed:
    """Run a float graph on samples and record every float activation.

    Args:
        model: A float graph with batch size 1.
        samples: Calibration samples; their inputs are named as in the signature.
        histograms: Whether to run them a second time, for the distribution of every tensor.
        keep: Whether to keep the graph's outputs, as `KeptOutputs` can.
        listener: Progress callback.

    Raises:
        ConversionError: The graph holds loops that cannot be taken apart, or computes NaN or
            infinity.
        DataError: The samples do not fit the graph.
    """
    graph = prepared_graph(model)
    if keep:
        graph = replace(graph, outputs=KeptOutputs.of(model, samples.n))
    (extremes,) = _observe(graph, samples, _extremes_of(graph), "calibrating", listener)
    found = _found(graph, extremes, samples)
    return with_histograms(model, samples, found, listener=listener) if histograms else found


def observe_parts(
    model: ModelT, samples: Samples, first: int, *, listener: Listener = silent
) -> tuple[Observed, Observed]:
    """Observe the first samples, and the others, of which the outputs are kept.

    Both are run together, unless the graph keeps a state, which starts anew with each part.

    Args:
        model: A float graph with batch size 1.
        samples: All samples.
        first: Number of the first.
        listener: Progress callback.

    Raises:
        ConversionError: As of `observe`.
        DataError: Likewise.
    """
    graph = prepared_graph(model)
    parts = [samples.at(np.arange(first)), samples.at(np.arange(first, samples.n))]
    if graph.state:
        one, other = (observe(model, p, keep=p is parts[1], listener=listener) for p in parts)
        return one, other
    graph = replace(graph, outputs=KeptOutputs.of(model, parts[1].n, first=first))
    both = _observe(graph, samples, _extremes_of(graph), "calibrating", listener, first=first)
    one, other = (_found(graph, *each) for each in zip(both, parts, strict=True))
    return replace(one, outputs=None), other


def _extremes_of(graph: ObservedGraph) -> Callable[[Sequence[str]], Extremes]:
    return lambda names: Extremes(names, graph.limits)


def _found(graph: ObservedGraph, extremes: Extremes, samples: Samples) -> Observed:
    """Return what the extremes of all tensors tell."""
    low, high = extremes.ends(graph.observed)
    for names in (names for loop in graph.loops for names in loop.carried):
        # Every step reads what the last one wrote, and constants are not observed.
        ends = [name for name in names if name in low]
        low.update(dict.fromkeys(ends, min(low[name] for name in ends)))
        high.update(dict.fromkeys(ends, max(high[name] for name in ends)))
    return Observed(
        low=low,
        high=high,
        n=samples.n,
        unclipped=graph.unclipped,
        samples=samples,
        outputs=graph.outputs.values if graph.outputs else None,
    )


def with_histograms(
    model: ModelT, samples: Samples, observed: Observed, *, listener: Listener = silent
) -> Observed:
    """Run samples again, for the distribution of every tensor between its observed ends."""

    def tallies(names: Sequence[str]) -> Tallies:
        return Tallies(names, observed.low, observed.high)

    graph = prepared_graph(model)
    (found,) = _observe(graph, samples, tallies, "calibrating: histograms", listener)
    return replace(observed, histograms=found.histograms())


def observe_channels(
    model: ModelT, samples: Samples, names: Collection[str], *, listener: Listener = silent
) -> Observed:
    """Return statistics with the ends of every channel of some tensors only."""

    def tallies(observed: Sequence[str]) -> Channels:
        return Channels(observed, frozenset(names))

    graph = prepared_graph(model)
    (found,) = _observe(graph, samples, tallies, "calibrating: channels", listener)
    return replace(NOTHING, channels=found.ends)


_Tally = TypeVar("_Tally", Extremes, Tallies, Channels)


def _observe(
    graph: ObservedGraph,
    samples: Samples,
    start: Callable[[Sequence[str]], _Tally],
    stage: str,
    listener: Listener,
    *,
    first: int | None = None,
) -> list[_Tally]:
    """Run all samples, an equal share per core, and combine the results.

    Returns:
        What was seen of all samples; or of the first ones, and of the others.
    """
    workers = max(1, min(len(os.sched_getaffinity(0)), samples.n))
    starts = samples.starts() if graph.state else None
    shares = np.arange(samples.n) if starts is None else np.cumsum(starts)
    done = 0

    def tick(steps: int) -> None:
        nonlocal done
        done += steps
        listener(Progress(stage=stage, done=done, total=samples.n))

    def share(worker: int) -> list[_Tally]:
        # Whole sequences, where there are any.
        indices = np.flatnonzero(shares % workers == worker)
        fresh = np.ones(samples.n, np.bool_) if starts is None else starts
        tallies = [start(graph.observed) for _ in range(1 if first is None else 2)]
        _run(
            graph,
            samples,
            indices,
            fresh[indices],
            lambda index: tallies[first is not None and index >= first],
        )
        return tallies

    try:
        shares_seen = spread(share, range(workers), tick=tick)
    except ChildDiedError as error:
        raise ConversionError(
            "The calibration process crashed while running the float model.",
            found=f"the process ended with {error.reason}",
            hint="Check that the float32 file runs: edgekit bench.",
        ) from error
    total = shares_seen[0]
    for others in shares_seen[1:]:
        for tally, other in zip(total, others, strict=True):
            tally.merge(other)
    return total


def _run(
    graph: ObservedGraph,
    samples: Samples,
    indices: NDArray[np.int64],
    starts: NDArray[np.bool_],
    tally_of: Callable[[int], _Tally],
) -> None:
    """In a child process, run some of the samples and process every observed tensor.

    Args:
        graph: The graph.
        samples: All samples.
        indices: Those to run, `[k]`.
        starts: `[k]`, whether the graph's state is reset before a sample.
        tally_of: Number of a sample -> receives what the tensors hold.
    """
    interpreter, before, after = _opened(graph)
    loops = LoopRunners(graph.loops, first=len(graph.names)) if graph.loops else None
    for start in range(0, len(indices), _PIECE):
        piece = indices[start : start + _PIECE]
        inputs = samples.read(piece).inputs
        for row in range(len(piece)):
            if starts[start + row] and graph.state == RESOURCES:
                interpreter, before, after = _opened(graph)
            elif starts[start + row] and graph.state == TENSORS:
                interpreter.reset_all_variables()
            _feed(interpreter, graph, inputs, row)
            tally = tally_of(int(piece[row]))
            for position, view in before:
                tally.add(position, view())
            interpreter.invoke()
            for position, view in after:
                tally.add(position, view())
            if graph.outputs:
                graph.outputs.store(interpreter, int(piece[row]))
            if loops:
                read = {i: inputs[name][row : row + 1] for name, i in graph.inputs.items()}
                for position, values in loops.run(interpreter, read):
                    tally.add(position, values)
        report(len(piece))


_Views = list[tuple[int, Callable[[], NDArray[np.float32]]]]


def _opened(graph: ObservedGraph) -> tuple[Any, _Views, _Views]:
    """Return a new interpreter, and the observed tensors that are read before and after a run."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graph.content, num_threads=1)
    interpreter.allocate_tensors()
    given = set(graph.inputs.values())
    before: _Views = []
    after: _Views = []
    for position, index in enumerate(graph.names):
        cell = graph.cells.get(index)
        source = index if cell is None else cell.sequence
        view = interpreter.tensor(source)
        # The runtime may reuse the memory of an input after reading it.
        views = before if source in given else after
        views.append((position, view if cell is None else partial(_states, cell, view)))
    return interpreter, before, after


def _states(cell: LstmCell, view: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    return cell.states(view())


def _feed(interpreter: Any, graph: ObservedGraph, inputs: Mapping[str, Array], row: int) -> None:
    if set(inputs) != set(graph.inputs):
        raise DataError(
            "The calibration samples do not have the model's inputs.",
            found=f"samples: {sorted(inputs)}; model: {sorted(graph.inputs)}",
            hint="Name the arrays as the model names its inputs.",
        )
    for name, index in graph.inputs.items():
        try:
            interpreter.set_tensor(index, inputs[name][row : row + 1])
        except ValueError as error:
            raise DataError(
                f"The calibration samples do not fit input {name}.",
                found=str(error).splitlines()[0],
                hint="Give samples of the model's shape and dtype.",
            ) from error

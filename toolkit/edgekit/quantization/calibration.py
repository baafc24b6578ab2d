"""Calibration samples: which are used, and what they tell of a float graph.

A choice between ranges is judged on samples that no range was taken from: the first half of the
samples (all but `HELD_BACK` of many) gives the ranges that are compared, the others judge them.
They come in rounds of one sample a class, so that both parts hold all classes. The file then gets
the ranges of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.choices import MINMAX
from edgekit.evaluation.predict import sweep
from edgekit.files import temporary_folder
from edgekit.quantization.observe import (
    Observed,
    observe,
    observe_channels,
    observe_parts,
    with_histograms,
)
from edgekit.records import Array, Listener, Ranges, Samples, silent
from edgekit.tflite.graph import write

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.recorded_choice import Recorded

T = TypeVar("T")

HELD_BACK: Final = 100
"""Most samples that judge."""
FEWEST_TO_CLIP: Final = 40
"""With fewer samples no range is narrower than what was seen: the tails are not known."""
FEWEST_TO_JUDGE: Final = 8
"""With fewer samples nothing is judged."""

OUTLYING: Final = 3.0
"""A sample is out of line whose largest magnitude is so many times the 90th percentile of all."""
_FEWEST_TO_DROP: Final = 10
_PIECE: Final = 64

# Samples for the distribution of values: more take time and change little.
_FOR_HISTOGRAMS: Final = 100
# Samples for the ends of every channel.
_FOR_CHANNELS: Final = 32


class Calibration:
    """Calibration samples of a graph, and what is known of graphs made of it.

    Args:
        samples: The samples.
        class_scores: The output that is known to hold a score for each class.
        recorded: The choice to repeat instead of searching for one.
        listener: Progress callback.

    Attributes:
        samples: All of them.
        fit: Those that ranges are taken from where they are compared.
        held: Those that judge; None where there are too few.
        choices: What was chosen for a graph and a plan (`choose`).
    """

    def __init__(
        self,
        samples: Samples,
        *,
        class_scores: str | None = None,
        recorded: Recorded | None = None,
        listener: Listener = silent,
    ) -> None:
        self.samples = samples
        self.class_scores = class_scores
        self.recorded = recorded
        self.listener = listener
        n = samples.n
        count = min(HELD_BACK, n // 2) if n >= FEWEST_TO_JUDGE else 0
        self.fit = samples.at(np.arange(n - count))
        self.held = samples.at(np.arange(n - count, n)) if count else None
        self.choices: dict[Any, Any] = {}
        # By identity; the models are kept, so that no other gets the same.
        self._chosen: set[int] = set()
        self._known: dict[tuple[int, str], tuple[ModelT, Any]] = {}

    def observe(self, model: ModelT, *, histograms: bool = False) -> Observed:
        """Return the statistics of all samples."""
        found = self._once(model, "all", lambda: self._joined(model))
        if not histograms:
            return found
        return self._once(
            model,
            "histograms",
            lambda: with_histograms(model, self.samples, found, listener=self.listener),
        )

    def observe_part(self, model: ModelT, turn: int = 0, *, histograms: bool = False) -> Observed:
        """Return the statistics of the samples that ranges are compared by.

        Args:
            model: The graph.
            turn: 0 for `fit`, 1 for `held`, which judge else.
            histograms: Whether to return the distribution of every tensor, too.
        """
        samples = self._part(turn)
        found = self._once(
            model,
            f"part {turn}",
            lambda: observe(model, samples, keep=samples is self.held, listener=self.listener),
        )
        if not histograms:
            return found
        few = samples.at(np.arange(min(samples.n, _FOR_HISTOGRAMS)))
        return self._once(
            model,
            f"part {turn}, histograms",
            lambda: with_histograms(model, few, found, listener=self.listener),
        )

    def observe_parts(self, model: ModelT) -> None:
        """Observe both parts of a graph together, of which both will be asked."""
        if self.held is None or (id(model), "part 0") in self._known:
            return
        both = observe_parts(model, self.samples, self.fit.n, listener=self.listener)
        for turn, found in enumerate(both):
            self._known[id(model), f"part {turn}"] = (model, found)

    def ranges(self, model: ModelT, method: str, percentile: float) -> Ranges:
        """Return ranges of all samples; what is clipped follows from those they are compared by.

        Args:
            model: A float graph.
            method: As of `Observed.ranges`.
            percentile: Likewise.
        """
        everything = self.observe(model)
        if method != MINMAX:
            # Ends that are never clipped are those of all samples.
            known = self.observe_part(model, histograms=True)
            everything = replace(everything, histograms=known.histograms)
        return everything.ranges(method, percentile)

    def observe_channels(self, model: ModelT, names: Collection[str]) -> Observed:
        """Return the smallest and largest value of every channel of some tensors."""
        few = self.fit.at(np.arange(min(self.fit.n, _FOR_CHANNELS)))
        return observe_channels(model, few, names, listener=self.listener)

    def reference(
        self, model: ModelT, n: int, turn: int = 0, *, observed: bool = False
    ) -> Mapping[str, Array]:
        """Return the outputs of a float graph on the first samples that judge.

        Args:
            model: The graph.
            n: Number of samples, at most those of `held`.
            turn: As of `outputs`.
            observed: Whether the graph is observed on them in any case, which tells its outputs.
        """
        if observed and self._part(1 - turn) is self.held:
            kept = self.observe_part(model, 1 - turn).outputs
            if kept is not None:
                return {name: values[:n] for name, values in kept.items()}
        return self._once(model, f"outputs {n} {turn}", lambda: self.outputs(write(model), n, turn))

    def outputs(self, data: bytes, n: int, turn: int = 0) -> Mapping[str, Array]:
        """Return the outputs of a file on the first `n` samples that judge.

        Args:
            data: The file.
            n: Number of samples, at most those of `held`.
            turn: 0 for `held`, 1 for `fit`, whose ranges are judged else.

        Raises:
            ModelError: It cannot be run.
        """
        judging = self._part(1 - turn).at(np.arange(n))
        with temporary_folder() as folder:
            path = folder / "trial.tflite"
            path.write_bytes(data)
            _, outputs = sweep(path, judging, _nothing)
        return outputs

    def _part(self, turn: int) -> Samples:
        assert self.held is not None or not turn
        return self.held if turn and self.held is not None else self.fit

    def forget_all_but(self, *models: ModelT) -> None:
        """Free what is known of other graphs, whose weights may be large."""
        kept = {id(model) for model in models} | self._chosen
        self._chosen = kept
        self._known = {key: known for key, known in self._known.items() if key[0] in kept}

    def _joined(self, model: ModelT) -> Observed:
        first = self.observe_part(model)
        if self.held is None:
            return first
        both = joined(first, self.observe_part(model, 1))
        return replace(both, samples=self.samples)

    def _once(self, model: ModelT, what: str, make: Callable[[], T]) -> T:
        key = (id(model), what)
        if key not in self._known:
            self._known[key] = (model, make())
        found: T = self._known[key][1]
        return found


def joined(first: Observed, second: Observed) -> Observed:
    """Return the extremes of two sets of samples together."""
    return replace(
        first,
        low={name: min(low, second.low[name]) for name, low in first.low.items()},
        high={name: max(high, second.high[name]) for name, high in first.high.items()},
        n=first.n + second.n,
    )


def widening(first: Observed, whole: Observed) -> tuple[float, float]:
    """Return by how much more samples widened the ranges: the median, and the most.

    Args:
        first: What some of the samples told.
        whole: What all of them told.

    Returns:
        Shares of the widths that were known before.
    """
    widths = [(first.high[name] - low, name) for name, low in first.low.items()]
    grown = [
        (whole.high[name] - whole.low[name]) / width - 1 for width, name in widths if width > 0
    ]
    return (float(np.median(grown)), max(grown)) if grown else (0.0, 0.0)


def out_of_line(samples: Samples) -> list[int]:
    """Return the samples whose values are far beyond those of the others.

    One picture that was not scaled would set all ranges: a sample is out of line whose largest
    magnitude in a float input is over three times the 90th percentile of all samples'. Parts of a
    sequence are not told apart.

    Args:
        samples: At least ten; of fewer, none is called out of line.
    """
    if samples.n < _FEWEST_TO_DROP or samples.sequences is not None:
        return []
    largest: dict[str, list[NDArray[np.float32]]] = {}
    for batch in samples.batches(_PIECE):
        for name, values in batch.inputs.items():
            if values.dtype.kind == "f" and values[:1].size:
                flat = values.reshape(len(values), -1)
                ends = np.maximum(flat.max(axis=1), -flat.min(axis=1))
                largest.setdefault(name, []).append(ends)
    outlying = np.zeros(samples.n, np.bool_)
    for parts in largest.values():
        ends = np.concatenate(parts)
        usual = float(np.percentile(ends, 90, method="lower"))
        if usual > 0:
            outlying |= ends / OUTLYING > usual
    return [int(row) for row in np.flatnonzero(outlying)]


def _nothing(batch: Any, outputs: Any) -> Mapping[str, Array]:
    del batch, outputs
    return {}

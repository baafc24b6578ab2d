"""Remove channels until the model is as much faster as requested, by measured latency.

Multiply-accumulates are a poor estimate of latency: how much a cut saves depends on the kernels
that run the rest. So every candidate is lowered and timed by the runner, as the final file will be.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgekit import devices
from edgekit.choices import MACS
from edgekit.data import open_request
from edgekit.errors import UsageError
from edgekit.files import temporary_folder
from edgekit.pipeline.quantize import make
from edgekit.pipeline.request import FLOAT
from edgekit.pipeline.sources import example_shapes, lower
from edgekit.recipe import Shrink
from edgekit.records import Dataset, Listener, Plan, Progress, Timing, silent
from edgekit.tflite.inspect import inspect
from edgekit.training.finetuning import Tuning
from edgekit.training.passes import PassResult
from edgekit.worker import TensorFlowProcess

Bench = Callable[[Path], Timing]
OpenBench = Callable[[], AbstractContextManager[Bench]]
"""Sets a device up and yields a function that times a file on it."""

CLOSE = 0.02
"""Precision of the search, as a share; latencies vary about as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A candidate timed side by side with the original.

    Attributes:
        macs_share: Requested share of multiply-accumulates to remove.
        macs: Multiply-accumulates of the lowered file.
        original_macs: Multiply-accumulates of the original.
        latency_ns: Median of its invocations.
        original_latency_ns: Median of the original's, taken before and after.
    """

    macs_share: float
    macs: int
    original_macs: int
    latency_ns: float
    original_latency_ns: float

    @property
    def removed(self) -> float:
        """Return the share of multiply-accumulates that was removed."""
        return 1 - self.macs / self.original_macs

    @property
    def ratio(self) -> float:
        """Return the latency in units of the original's."""
        return self.latency_ns / self.original_latency_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPruningResult:
    """Result of a search for a latency goal.

    Attributes:
        passed: The final cut, fine-tuned.
        chosen: The candidate it corresponds to.
        measured: Every candidate, in the order in which they were timed.
        final: The fine-tuned model, timed like the candidates.
    """

    passed: PassResult
    chosen: Measured
    measured: tuple[Measured, ...]
    final: Measured


def bench_here() -> AbstractContextManager[Bench]:
    """Yield a function that times a file on this machine."""
    return nullcontext(devices.bench)


def shrink_to_latency(
    tensorflow: TensorFlowProcess,
    source: Path | Any,
    step: Shrink,
    *,
    tuning: Tuning,
    destination: Path,
    plan: Plan = FLOAT,
    dataset: Dataset | None = None,
    open_bench: OpenBench = bench_here,
    listener: Listener = silent,
) -> LatencyPruningResult:
    """Find the smallest cut that makes a model `share` faster, make it, and fine-tune.

    Candidates are cut without training, which changes no shape and so no latency.

    Args:
        tensorflow: Loads, cuts and lowers models; has `source` loaded again afterwards.
        source: A Keras model that it can load.
        step: Its `share` is that of the latency to remove.
        tuning: Data and training of the final cut.
        destination: The `.keras` to write.
        plan: What is timed: the float32 file, or a variant that `dataset` calibrates.
        dataset: Samples that each lowered file is verified and calibrated on.
        open_bench: Sets up what times files: once for all candidates, and once for the final
            model, because fine-tuning may take longer than a connection lasts.
        listener: Progress callback.

    Raises:
        UsageError: The latency cannot be reached by cutting channels.
        EdgekitError: As the rooms below raise it.
    """
    example = example_shapes(dataset or open_request(tuning.data))
    with temporary_folder() as folder:

        def file_of(model: Path | Any, stem: str) -> tuple[Path, int]:
            place = folder / stem
            place.mkdir()
            goal = place / "float32.tflite"
            imported = lower(model, dataset, goal, tensorflow, example=example)
            artifacts, _ = make(imported, [plan], place, tensorflow)
            return artifacts[-1].path, inspect(imported.graph).macs

        def load() -> None:
            tensorflow.load(source, example=example, to_train=isinstance(source, Path))

        original, original_macs = file_of(source, "original")
        known: dict[int, Measured] = {}

        def measure(bench: Bench, model: Path, macs_share: float, stem: str) -> Measured:
            path, macs = file_of(model, stem)
            if macs not in known or stem == "final":
                timed = _side_by_side(original, path, bench)
                known[macs] = Measured(
                    macs_share=macs_share,
                    macs=macs,
                    original_macs=original_macs,
                    latency_ns=timed[1],
                    original_latency_ns=timed[0],
                )
            return known[macs]

        def cut(macs_share: float, training: Tuning, place: Path) -> PassResult:
            by_macs = replace(step, share=macs_share, goal=MACS)
            return tensorflow.transform(by_macs, training, place)

        def attempt(bench: Bench, macs_share: float) -> Measured:
            listener(Progress(stage="timing a cut", detail=f"{macs_share:.0%} of the MACs gone"))
            stem = f"cut{macs_share:.6f}"
            candidate = folder / f"{stem}.keras"
            load()
            cut(macs_share, replace(tuning, epochs=0), candidate)
            return measure(bench, candidate, macs_share, stem)

        load()
        most = tensorflow.largest_share(step.exclude, step.multiple)
        with open_bench() as bench:
            chosen = search(step.share, most, partial(attempt, bench))
        measured = tuple(known.values())
        load()
        passed = cut(chosen.macs_share, tuning, destination)
        with open_bench() as bench:
            final = measure(bench, destination, chosen.macs_share, "final")
        load()
    return LatencyPruningResult(passed=passed, chosen=chosen, measured=measured, final=final)


def search(share: float, most: float, attempt: Callable[[float], Measured]) -> Measured:
    """Find the smallest cut whose latency is at most `1 - share` of the original's, by bisection.

    The first guess is that latency goes with multiply-accumulates; the second, where that is too
    slow, the largest cut. Cuts are made of whole blocks of channels: an interval shrinks to where
    the next block begins.

    Args:
        share: Share of the latency to remove.
        most: The largest share of multiply-accumulates that can be removed.
        attempt: Cuts that share and measures.

    Raises:
        UsageError: Not even the largest cut is fast enough.
    """
    goal = 1 - share
    low, high = 0.0, most
    best: Measured | None = None
    guess = min(share, most)
    while best is None or high - low > CLOSE:
        found = attempt(guess)
        if found.ratio <= goal:
            best, high = found, guess
            if found.ratio > goal - CLOSE:
                break
        elif guess >= most:
            raise UsageError(
                f"Cutting channels does not make the model {share:.0%} faster.",
                found=f"With {found.removed:.0%} of its multiply-accumulates gone it takes "
                f"{found.ratio:.0%} of the time.",
                hint="Ask for less, or quantize: int8 kernels are faster on most devices.",
            )
        else:
            low = max(guess, min(found.removed, high))
            if best is None:
                guess = most
                continue
        guess = (low + high) / 2
    return best


def _side_by_side(original: Path, candidate: Path, bench: Bench) -> tuple[float, float]:
    """Return median latencies in nanoseconds; each is timed twice, so that drift affects both."""
    values: dict[Path, list[int]] = {original: [], candidate: []}
    for path in (original, candidate, candidate, original):
        values[path].extend(bench(path).values_ns)
    return statistics.median(values[original]), statistics.median(values[candidate])

"""Which layers of a model a target does not take, what can replace them, and what that is worth.

All is tried on the model itself: each replacement is measured by how far it moves the outputs on
calibration samples, before any training, and the target is asked about the int8 file of the model
with the nearest ones; where it does not take one, the next nearest follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from edgekit.choices import COMPACT, MINMAX
from edgekit.errors import ConversionError
from edgekit.modes import INT8
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.quantize import make
from edgekit.pipeline.verified_lowering import lowered_and_verified, samples_of
from edgekit.recipe import Adapt, default_plan
from edgekit.records import Array, Dataset, Inspection, Listener, Progress, silent
from edgekit.tflite.inspect import inspect
from edgekit.training.adapting import Site
from edgekit.worker import TensorFlowProcess

# Enough for ranges that are only to say which operators there are, and to tell functions apart.
_SAMPLES: Final = 64
_CONVERSIONS: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})
_NOT_TAKEN: Final = "the target does not take it either"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenSwap:
    """What is replaced, by what, and what that is worth.

    Attributes:
        swap: What the layers compute.
        replacement: What they compute then.
        layers: The layers.
        operators: How many of their operators the target does not take.
        change: Root mean square of what it alone moves the outputs by, in standard deviations of
            the outputs, on calibration samples and before any training.
        others: Further replacements -> why they were not chosen.
    """

    swap: str
    replacement: str
    layers: tuple[str, ...]
    operators: int
    change: float
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapPlan:
    """What is to be replaced for a target, and what it will take then.

    Attributes:
        target: The target.
        before: The int8 file of the model, and which operators the target takes.
        after: The same with the swaps; None where there are none.
        swaps: What is replaced.
        left: Layers that are not taken and stay, with the reason.
        graph: The float file of the changed model, before any training; None without swaps.
    """

    target: str
    before: Inspection
    after: Inspection | None = None
    swaps: tuple[ChosenSwap, ...] = ()
    left: tuple[Site, ...] = ()
    graph: Path | None = None

    @property
    def chosen(self) -> dict[str, tuple[str, str]]:
        """Layer -> its swap and the replacement, as `TensorFlowProcess.adapt` takes it."""
        return {layer: (one.swap, one.replacement) for one in self.swaps for layer in one.layers}

    def lines(self, *, others: bool = True) -> Iterator[str]:
        """Yield what the target takes, what each swap is worth, and what has none.

        Args:
            others: Whether replacements that were not chosen are named, too.
        """
        by = self.before.decided_by(self.target)
        how = f"by {by}" if by else "predicted"
        taken, there = self.taken(self.before)
        line = f"{self.target}, {how}: takes {taken} of {there} operators of the int8 file"
        if self.after is not None:
            taken_then, there_then = self.taken(self.after)
            line += f"; with the replacements {taken_then} of {there_then}"
            # A function that is fused into a convolution then is no operator any more.
            line += f" ({taken_then - taken:+})" if taken_then > taken else ""
        yield line
        for one in self.swaps:
            yield (
                f"{one.swap} -> {one.replacement} in {_named(one.layers)}: "
                f"operators not taken so far: {one.operators}; moves the outputs by "
                f"{one.change:.2g} of their spread, before training"
            )
            if one.others and others:
                listed = "; ".join(f"{name}: {why}" for name, why in one.others.items())
                yield f"instead of {one.swap} also: {listed}"
        same: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for site in self.left:
            same.setdefault((site.why, site.operators), []).append(site.layer)
        for (why, operators), layers in same.items():
            yield f"no replacement for {_named(layers)} ({', '.join(operators)}): {why}"

    def taken(self, inspection: Inspection) -> tuple[int, int]:
        """Return how many operators of a file the target takes, and how many there are."""
        return len(inspection.ops) - len(inspection.unmapped(self.target)), len(inspection.ops)


def plan_swaps(
    imported: ImportedModel,
    step: Adapt,
    tensorflow: TensorFlowProcess,
    folder: Path,
    *,
    listener: Listener = silent,
) -> SwapPlan:
    """Find what a target does not take of a model, and the nearest replacements that it takes.

    Args:
        imported: The model, as `tensorflow` has it loaded, to be trained.
        step: The target, and layers that are left as they are.
        tensorflow: Has the model with the swaps when this returns.
        folder: For files, which remain there.
        listener: Progress callback.

    Raises:
        ConversionError: The model cannot be quantized to int8.
        ModelError: It is neither functional nor sequential.
        UsageError: An exclusion matches no layer.
    """
    trials = _Trials(imported, step, tensorflow, folder, listener)
    before = trials.in_int8(imported.graph)
    found = trials.sites(before)
    without = tuple(site for site in found if site.swap is None)
    groups: dict[tuple[str, tuple[str, ...]], list[Site]] = {}
    for site in found:
        if site.swap is not None:
            groups.setdefault((site.swap, site.replacements), []).append(site)
    options = [_Options(sites, trials.changes(sites)) for sites in groups.values()]
    while chosen := {layer: pair for one in options for layer, pair in one.chosen.items()}:
        attempt = trials.attempt(chosen)
        blocked = {site.layer for site in attempt.sites}
        refused = [one for one in options if blocked.intersection(one.chosen)]
        if not refused:
            break
        for one in refused:
            one.drop()
    exhausted = tuple(
        replace(site, swap=None, why=f"{' and '.join(one.others)}: {_NOT_TAKEN}")
        for one in options
        if not one.chosen
        for site in one.sites
    )
    plan = SwapPlan(target=step.target, before=before, left=(*without, *exhausted))
    if not chosen:
        tensorflow.adapt({})
        return plan
    if attempt.inspection is None or len(attempt.inspection.unmapped(step.target)) >= len(
        before.unmapped(step.target)
    ):
        tensorflow.adapt({})
        why = "replacing it frees no operator while the others stay"
        useless = (
            replace(site, swap=None, why=why) for one in options if one.chosen for site in one.sites
        )
        return replace(plan, left=(*plan.left, *useless))
    return replace(
        plan,
        after=attempt.inspection,
        graph=attempt.graph,
        swaps=tuple(_merged([one.result() for one in options if one.chosen])),
    )


def _named(layers: Sequence[str]) -> str:
    """Return the layers by name, or how many there are with the first."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"{len(layers)} layers ({', '.join(layers[:3])}{', ...' if len(layers) > 3 else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A model with some replacements: its float graph, and what its int8 file is made of."""

    graph: Path | None
    inspection: Inspection | None
    sites: tuple[Site, ...]


class _Options:
    """The replacements of like layers that are still possible, the nearest first."""

    def __init__(self, sites: Sequence[Site], changes: Mapping[str, float]) -> None:
        self.sites = sites
        self._changes = changes
        self._left = sorted(changes, key=lambda name: changes[name])
        self.others: dict[str, str] = {}

    @property
    def chosen(self) -> dict[str, tuple[str, str]]:
        if not self._left:
            return {}
        return {site.layer: (str(site.swap), self._left[0]) for site in self.sites}

    def drop(self) -> None:
        self.others[self._left.pop(0)] = _NOT_TAKEN

    def result(self) -> ChosenSwap:
        replacement, *further = self._left
        others = {name: f"moves the outputs by {self._changes[name]:.2g}" for name in further}
        return ChosenSwap(
            swap=str(self.sites[0].swap),
            replacement=replacement,
            layers=tuple(site.layer for site in self.sites),
            operators=sum(len(site.operators) for site in self.sites),
            change=self._changes[replacement],
            others={**self.others, **others},
        )


class _Trials:
    """Changes the model, and asks the target about the result."""

    def __init__(
        self,
        imported: ImportedModel,
        step: Adapt,
        tensorflow: TensorFlowProcess,
        folder: Path,
        listener: Listener,
    ) -> None:
        dataset = _with_few(imported.dataset)
        # What qat trained does not hold for another model.
        self._imported = replace(imported, dataset=dataset, trained=None, rules=())
        self._step = step
        self._tensorflow = tensorflow
        self._folder = folder
        self._listener = listener
        self._count = 0
        self._reference: Mapping[str, Array] | None = None
        self._batch = samples_of(dataset, imported.source.inputs)

    def in_int8(self, graph: Path) -> Inspection:
        """Return what the int8 file of a float graph is made of."""
        self._count += 1
        place = self._folder / f"int8-{self._count}"
        place.mkdir()
        # Inputs and outputs in int8: conversions at both ends are no matter of layers.
        plan = default_plan(INT8.name, io=INT8.name, ranges=MINMAX)
        copied = place / "float32.tflite"
        copied.write_bytes(graph.read_bytes())
        files, _ = make(replace(self._imported, graph=copied), [plan], place, self._tensorflow)
        return inspect(files[-1].path, targets=(self._step.target,))

    def sites(self, inspection: Inspection) -> tuple[Site, ...]:
        """Return the layers whose own operators are not taken."""
        blocked: dict[str, list[str]] = {}
        for op in inspection.unmapped(self._step.target):
            if op.name not in _CONVERSIONS and not op.targets[self._step.target].follows:
                blocked.setdefault(op.layer, []).append(op.name)
        if not (blocked or self._step.exclude):
            return ()
        return self._tensorflow.swaps(blocked, self._step.exclude)

    def changes(self, sites: Sequence[Site]) -> dict[str, float]:
        """Return for each replacement in like layers by how much it moves the outputs."""
        inputs = self._batch.inputs
        if self._reference is None:
            self._reference = self._tensorflow.predict(inputs)
        found = {}
        for name in sites[0].replacements:
            self._listener(Progress(stage="trying replacements", detail=f"{sites[0].swap}: {name}"))
            self._tensorflow.adapt({site.layer: (str(site.swap), name) for site in sites})
            found[name] = _moved(self._reference, self._tensorflow.predict(inputs))
        self._tensorflow.adapt({})
        return found

    def attempt(self, chosen: Mapping[str, tuple[str, str]]) -> _Attempt:
        """Replace layers, and see what the target takes of the result."""
        self._listener(Progress(stage="trying replacements", detail=f"{len(chosen)} layers"))
        self._tensorflow.adapt(chosen)
        graph = self._folder / f"changed-{self._count}.tflite"
        try:
            lowered_and_verified(
                self._imported.source,
                graph,
                self._tensorflow,
                self._batch,
                real=True,
                form=COMPACT,
            )
            inspection = self.in_int8(graph)
        except ConversionError:  # which of them is in the way is not known
            sites = tuple(Site(layer=layer, operators=()) for layer in chosen)
            return _Attempt(graph=None, inspection=None, sites=sites)
        return _Attempt(graph=graph, inspection=inspection, sites=self.sites(inspection))


def _with_few(dataset: Dataset | None) -> Dataset | None:
    """Return data that calibrates with few samples."""
    if dataset is None or dataset.calibrate is None:
        return dataset
    some = np.arange(min(dataset.calibrate.n, _SAMPLES))
    return replace(dataset, calibrate=dataset.calibrate.at(some))


def _moved(reference: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """Return by how many standard deviations outputs are moved; of several, the most moved one."""
    largest = 0.0
    for name, wanted in reference.items():
        difference = np.sqrt(np.mean(np.square(np.asarray(found[name], np.float64) - wanted)))
        spread = float(np.std(np.asarray(wanted, np.float64))) or 1.0
        moved = float(difference) / spread
        largest = max(largest, moved if np.isfinite(moved) else np.inf)
    return largest


def _merged(swaps: Sequence[ChosenSwap]) -> list[ChosenSwap]:
    """Return one entry for a swap and its replacement, where layers differ in what else fits."""
    found: dict[tuple[str, str], ChosenSwap] = {}
    for one in swaps:
        key = one.swap, one.replacement
        if key in found:
            known = found[key]
            one = replace(  # noqa: PLW2901
                known,
                layers=(*known.layers, *one.layers),
                operators=known.operators + one.operators,
                change=max(known.change, one.change),
                others={**one.others, **known.others},
            )
        found[key] = one
    return list(found.values())

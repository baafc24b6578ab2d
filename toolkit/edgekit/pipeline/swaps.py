"""Which layers of a model a target does not take, what can replace them, and what that is worth.

All is tried on the model itself: each replacement is measured by how far it moves the outputs on
calibration samples, before any training, and the target is asked about the int8 file of the model
with the nearest ones; where it does not take one, the next nearest follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from edgekit.choices import COMPACT, MINMAX
from edgekit.errors import ConversionError, ModelError
from edgekit.modes import INT8
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.quantize import make
from edgekit.pipeline.swap_plan import ChosenSwap, SwapPlan, chosen_of, merged
from edgekit.pipeline.verified_lowering import lowered_and_verified, samples_of
from edgekit.recipe import Adapt, default_plan
from edgekit.records import Array, Dataset, Inspection, Listener, Progress, silent
from edgekit.tflite.inspect import inspect
from edgekit.training.adapting import Chosen, Site
from edgekit.worker import TensorFlowProcess

# Enough for ranges that are only to say which operators there are, and to tell functions apart.
_SAMPLES: Final = 64
_CONVERSIONS: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})
_NOT_TAKEN: Final = "the target does not take it either"
_NOT_BUILT: Final = "the model cannot be built with it, as sizes change"


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
    options = [one for sites in groups.values() for one in trials.options(sites)]
    while possible := [one for one in options if one.possible]:
        attempt = trials.attempt(chosen_of([one.result() for one in possible]))
        refused = _refused(possible, attempt, found)
        if not refused:
            break
        for one in refused:
            one.drop()
    exhausted = tuple(
        replace(site, swap=None, why=one.refusal)
        for one in options
        if not one.possible
        for site in one.sites
    )
    plan = SwapPlan(target=step.target, before=before, left=(*without, *exhausted))
    if not possible:
        tensorflow.adapt({})
        return plan
    if attempt.inspection is None or len(attempt.inspection.unmapped(step.target)) >= len(
        before.unmapped(step.target)
    ):
        tensorflow.adapt({})
        why = "replacing it frees no operator while the others stay"
        useless = (replace(site, swap=None, why=why) for one in possible for site in one.sites)
        return replace(plan, left=(*plan.left, *useless))
    swaps = merged([one.result() for one in possible])
    plan = replace(plan, after=attempt.inspection, graph=attempt.graph, swaps=swaps)
    plan = _priced(plan, trials)
    tensorflow.adapt(plan.chosen)
    return plan


def _refused(
    options: Sequence[_Options], attempt: _Attempt, before: Sequence[Site]
) -> list[_Options]:
    """Return those whose replacements the target does not take.

    Args:
        options: What was replaced.
        attempt: What became of it.
        before: What the target did not take of the original.
    """
    if attempt.inspection is None:  # which of them is in the way is not known
        return list(options)
    replaced = {site.part: one for one in options for site in one.sites}
    known = {site.part for site in before}
    found: list[_Options] = []
    for site in attempt.sites:
        if site.part in replaced:
            found.append(replaced[site.part])
        elif site.part not in known:  # what a replacement brought along, or is made of
            found += [
                one
                for (layer, _), one in replaced.items()
                if site.layer == layer or site.layer.startswith(f"{layer}/")
            ]
    return list(dict.fromkeys(found))


def _priced(plan: SwapPlan, trials: _Trials) -> SwapPlan:
    """Return a plan whose swaps tell what each adds to those before it."""
    swaps = []
    before = plan.taken(plan.before)
    for position, one in enumerate(plan.swaps, start=1):
        last = position == len(plan.swaps)
        found = plan.after if last else trials.attempt(chosen_of(plan.swaps[:position])).inspection
        # A part of the swaps that cannot be converted frees nothing; the next one then does.
        after = before if found is None else plan.taken(found)
        more = after[0] - before[0]
        swaps.append(replace(one, more=more, fewer=before[1] - after[1] + more))
        before = after
    return replace(plan, swaps=tuple(swaps))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A model with some replacements: its float graph, and what its int8 file is made of."""

    graph: Path | None
    inspection: Inspection | None
    sites: tuple[Site, ...]


class _Options:
    """The replacements of like layers that are still possible, the nearest first."""

    def __init__(
        self, sites: Sequence[Site], changes: Mapping[str, float], unbuilt: Sequence[str] = ()
    ) -> None:
        self.sites = sites
        self._changes = changes
        self._left = sorted(changes, key=lambda name: changes[name])
        self.others = dict.fromkeys(unbuilt, _NOT_BUILT)

    @property
    def possible(self) -> bool:
        return bool(self._left)

    @property
    def refusal(self) -> str:
        """Why none is possible: names of replacements, and the reason."""
        names: dict[str, list[str]] = {}
        for name, why in self.others.items():
            names.setdefault(why, []).append(name)
        return "; ".join(f"{' and '.join(those)}: {why}" for why, those in names.items())

    def drop(self) -> None:
        self.others[self._left.pop(0)] = _NOT_TAKEN

    def result(self) -> ChosenSwap:
        replacement, *further = self._left
        others = {name: f"moves the outputs by {self._changes[name]:.2g}" for name in further}
        return ChosenSwap(
            swap=str(self.sites[0].swap),
            replacement=replacement,
            layers=tuple(site.layer for site in self.sites),
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

    def options(self, sites: Sequence[Site]) -> list[_Options]:
        """Return the replacements in like layers, with how much each moves the outputs.

        Layers are looked at one by one where the model cannot be built with one in all of them.
        """
        inputs = self._batch.inputs
        if self._reference is None:
            self._reference = self._tensorflow.predict(inputs)
        found: dict[str, float] = {}
        unbuilt = []
        for name in sites[0].replacements:
            self._listener(Progress(stage="trying replacements", detail=f"{sites[0].swap}: {name}"))
            try:
                self._tensorflow.adapt({(site.layer, str(site.swap)): name for site in sites})
            except ModelError:
                unbuilt.append(name)
            else:
                found[name] = _moved(self._reference, self._tensorflow.predict(inputs))
        self._tensorflow.adapt({})
        if unbuilt and len(sites) > 1:
            return [one for site in sites for one in self.options([site])]
        return [_Options(sites, found, unbuilt)]

    def attempt(self, chosen: Chosen) -> _Attempt:
        """Replace layers, and see what the target takes of the result."""
        layers = len({layer for layer, _ in chosen})
        self._listener(Progress(stage="trying replacements", detail=f"{layers} layers"))
        graph = self._folder / f"changed-{self._count}.tflite"
        try:
            self._tensorflow.adapt(chosen)
            lowered_and_verified(
                self._imported.source,
                graph,
                self._tensorflow,
                self._batch,
                real=True,
                form=COMPACT,
                lowering=self._tensorflow.start_lowering(graph, recurrent=COMPACT),
            )
            inspection = self.in_int8(graph)
        except (ConversionError, ModelError):
            return _Attempt(graph=None, inspection=None, sites=())
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

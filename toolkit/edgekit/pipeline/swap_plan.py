"""What is replaced in a model for a target, and what each replacement is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.records import Inspection
from edgekit.training.adapting import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenSwap:
    """What is replaced, by what, and what that is worth.

    Attributes:
        swap: What the layers compute.
        replacement: What they compute then.
        layers: The layers.
        more: How many operators more the target takes with it, those named before it replaced.
        fewer: How many fewer remain that it does not take; more than those where some are fused.
        change: Root mean square of what it alone moves the outputs by, in standard deviations of
            the outputs, on calibration samples and before any training.
        others: Further replacements -> why they were not chosen.
    """

    swap: str
    replacement: str
    layers: tuple[str, ...]
    change: float
    more: int = 0
    fewer: int = 0
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
    def chosen(self) -> dict[tuple[str, str], str]:
        """What is replaced, by what, as `TensorFlowProcess.adapt` takes it."""
        return chosen_of(self.swaps)

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
        for position, one in enumerate(self.swaps):
            price = f"{one.more:+} operator{'' if one.more == 1 else 's'} on {self.target}"
            if one.fewer != one.more:
                price += f", {-one.fewer:+} elsewhere"
            price += f" ({how}{', with those above' if position else ''})"
            yield (
                f"{one.swap} -> {one.replacement} in {_named(one.layers)}: {price}; moves the "
                f"outputs by {one.change:.2g} of their spread, before training"
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


def chosen_of(swaps: Sequence[ChosenSwap]) -> dict[tuple[str, str], str]:
    """Return what swaps replace, by what, as `TensorFlowProcess.adapt` takes it."""
    return {(layer, one.swap): one.replacement for one in swaps for layer in one.layers}


def merged(swaps: Sequence[ChosenSwap]) -> tuple[ChosenSwap, ...]:
    """Return one entry for a swap and its replacement, where layers differ in what else fits."""
    found: dict[tuple[str, str], ChosenSwap] = {}
    for one in swaps:
        key = one.swap, one.replacement
        if key in found:
            known = found[key]
            one = replace(  # noqa: PLW2901
                known,
                layers=(*known.layers, *one.layers),
                change=max(known.change, one.change),
                others={**one.others, **known.others},
            )
        found[key] = one
    return tuple(found.values())


def _named(layers: Sequence[str]) -> str:
    """Return the layers by name, or how many there are with the first."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"{len(layers)} layers ({', '.join(layers[:3])}{', ...' if len(layers) > 3 else ''})"

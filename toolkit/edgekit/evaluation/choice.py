"""The rule that chooses one of several files: ratios and verdicts in, a choice and reasons out.

It knows neither files nor words; `recommend` has both. docs/accuracy.md states the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from edgekit.choices import Prefer
from edgekit.records import TIE, Verdict

NEAR_BEST: Final = 1.1
"""Of unproven files as near the best as this, the one with the least measured loss is taken."""

Rejection = Literal[
    "failed", "unloadable", "collapsed", "unscored", "beyond", "unproven", "slower", "untimed"
]
"""Why a file cannot be chosen.

`failed`: it could not be run. `unloadable`: the runtime does not load it. `collapsed`: it lost an
output or a class. `unscored`: its loss is unknown. `beyond`: its measured loss is beyond what is
accepted, proven or not. `unproven`: another file is proven to keep the score. `slower` than
float32. `untimed`, where float32 was timed: it may be slower. Latencies that are equal (`TIE`),
or may be within the noise, are not slower.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of a file.

    Attributes:
        name: The variant.
        size: Its size, over that of float32.
        latency: Its median latency, over that of float32 on the same device; None if unknown.
        latency_low: The least that this ratio may be within the noise of both; None where the noise
            is unknown.
        verdict: The verdict on its loss; None where that is unknown. Not read of float32.
        loss: The measured loss; positive is worse.
        within_budget: Whether the measured loss is accepted.
        collapsed: Whether it lost an output, a column or a class.
        loadable: Whether the runtime it is meant for loads it.
        failed: Whether it could not be scored or timed.
        is_baseline: Whether it is the float32 file, which keeps the score by definition.
    """

    name: str
    size: float
    latency: float | None = None
    latency_low: float | None = None
    verdict: Verdict | None = None
    loss: float = 0.0
    within_budget: bool = False
    collapsed: bool = False
    loadable: bool = True
    failed: bool = False
    is_baseline: bool = False

    @property
    def at_best(self) -> Candidate:
        """This file, as fast as it may be within the noise."""
        return self if self.latency_low is None else replace(self, latency=self.latency_low)

    @property
    def is_slower(self) -> bool:
        """Whether it is slower than float32 by more than the noise, and by more than `TIE`."""
        return _latency(self.at_best) > TIE


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The file to ship, and what became of the others.

    Attributes:
        chosen: The file; None where there is none to recommend.
        runner_up: The next best by the same rule, other than float32.
        rejected: Why a file cannot be chosen, the most attractive file first.
    """

    chosen: Candidate | None
    runner_up: Candidate | None
    rejected: tuple[tuple[Candidate, Rejection], ...]


def _product(candidate: Candidate) -> float:
    return candidate.size * _latency(candidate)


def _size(candidate: Candidate) -> float:
    return candidate.size


def _latency(candidate: Candidate) -> float:
    return 1.0 if candidate.latency is None else candidate.latency


# What is to be least; and what decides between files that are equal in that.
_OBJECTIVES: Final[Mapping[Prefer, tuple[Callable[[Candidate], float], ...]]] = {
    "size": (_size, _latency),
    "latency": (_latency, _size),
    "balanced": (_product, _size),
}
_WORDS: Final[Mapping[Prefer, str]] = {
    "size": "size",
    "latency": "latency",
    "balanced": "product of size and latency",
}


def objective_in_words(prefer: Prefer, *, timed: bool) -> str:
    """Return what is to be least; without latencies that is the size."""
    return _WORDS[prefer if timed else "size"]


def choose(candidates: Sequence[Candidate], prefer: Prefer) -> Choice:
    """Choose the file to ship.

    Of the files that keep the score, float32 among them: the one with the least objective, which
    is the size, the latency or the product of the two; of those that may be as good within the
    noise of their latencies, the smallest. Only where no file but float32 keeps the
    score: of the unproven files that are better than float32, those within 10 % of the best, and
    of these the one with the least measured loss. A file slower than float32 is chosen by
    `size` only. Where float32 was not timed, the size alone decides.

    Args:
        candidates: The files.
        prefer: What is to be least.
    """
    baseline = next((one for one in candidates if one.is_baseline), None)
    timed = baseline.latency is not None if baseline else all(c.latency for c in candidates)
    effective: Prefer = prefer if timed else "size"
    objective, other = _OBJECTIVES[effective]
    limit_latency = timed and baseline is not None and effective != "size"
    any_kept = any(_keeps(one) for one in candidates if not one.is_baseline)

    rejected = []
    pool = []
    for one in sorted(candidates, key=lambda one: (objective(one), other(one))):
        reason = _rejection(one, any_kept=any_kept, limit_latency=limit_latency)
        if reason is None:
            pool.append(one)
        else:
            rejected.append((one, reason))

    fallback = baseline if baseline in pool else None

    def gains(one: Candidate) -> bool:
        if fallback is None or objective(one) < objective(fallback):
            return True
        equal = objective(one.at_best) <= objective(fallback)
        return equal and other(one) < other(fallback)

    def best(files: Sequence[Candidate]) -> Candidate | None:
        if not files:
            return None
        if any_kept:
            tie = 1.0 if effective == "balanced" else TIE
            # Of files equal in both, float32: no other is worth a change.
            return min(
                _near(files, objective, tie),
                key=lambda one: (other(one), not one.is_baseline),
            )
        unproven = [one for one in files if one is not fallback and gains(one)]
        near = _near(unproven, objective, NEAR_BEST)
        return min(near, key=lambda one: (one.loss, objective(one)), default=fallback)

    chosen = best(pool)
    left = [one for one in pool if one is not chosen and one is not fallback and gains(one)]
    return Choice(chosen=chosen, runner_up=best(left), rejected=tuple(rejected))


def _near(
    files: Sequence[Candidate], objective: Callable[[Candidate], float], factor: float
) -> list[Candidate]:
    least = min(map(objective, files), default=0.0)
    return [one for one in files if objective(one.at_best) <= factor * least]


def _keeps(one: Candidate) -> bool:
    usable = one.loadable and not one.failed and not one.collapsed
    return usable and one.verdict == "kept" and one.within_budget


def _rejection(one: Candidate, *, any_kept: bool, limit_latency: bool) -> Rejection | None:
    if one.failed:
        return "failed"
    if not one.loadable:
        return "unloadable"
    if one.is_baseline:
        return None
    if one.collapsed:
        return "collapsed"
    if one.verdict is None:
        return "unscored"
    if one.verdict == "lost" or not one.within_budget:
        return "beyond"
    if any_kept and not _keeps(one):
        return "unproven"
    if limit_latency and one.latency is None:
        return "untimed"
    if limit_latency and one.is_slower:
        return "slower"
    return None

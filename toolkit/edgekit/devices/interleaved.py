"""Time files by turns, so that whatever else the machine does slows all of them alike.

A model of microseconds is timed within a tenth of a second, and for so long another process on the
same core makes it half as slow again. Files that are timed one after the other then differ by more
than their kernels do; those that are timed by turns have ratios that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import edgekit_runner
from edgekit.devices.device import RunSettings
from edgekit.isolate import ChildDiedError, isolated
from edgekit.records import Timing

ROUNDS: Final = 20
_ROUND_MS: Final = 50.0
"""Time of a file in a round; a slower model is timed for seconds anyway, one run at least."""
_MOST_RUNS: Final = 500
_LIMIT_S: Final = 600


def interleaved(
    timed: Sequence[tuple[Path, Timing]], settings: RunSettings | None = None
) -> list[Timing]:
    """Time files of this machine again, in rounds of a few invocations of each.

    Args:
        timed: The files, with what was measured of each alone.
        settings: How each was timed alone; the defaults where None. A number of runs that was
            asked for is kept, and so is what a delegate computes, which may take one file at once.

    Returns:
        The timings with the values of the rounds; unchanged where there is nothing to compare,
        where a model is too slow for so many rounds, or where one of them fails beside the others.
    """
    alone = [timing for _, timing in timed]
    settings = settings or RunSettings()
    if settings.runs is not None or settings.delegate is not None:
        return alone
    # One run to come back into the caches, and one to time.
    if len(timed) < 2 or max(timing.p50_ms for timing in alone) > _ROUND_MS / 2:
        return alone
    runs = [max(1, min(_MOST_RUNS, int(_ROUND_MS / one.p50_ms) - 1)) for one in alone]

    def by_turns() -> list[list[int]] | None:
        try:
            return _rounds([path for path, _ in timed], runs, settings)
        except (edgekit_runner.RunnerError, RuntimeError, ValueError):
            return None

    try:
        found = isolated(by_turns, limit_s=_LIMIT_S)
    except ChildDiedError:
        return alone
    if found is None:
        return alone
    return [
        replace(timing, values_ns=tuple(values), rounds=ROUNDS)
        for timing, values in zip(alone, found, strict=True)
    ]


def _rounds(paths: Sequence[Path], runs: Sequence[int], settings: RunSettings) -> list[list[int]]:
    models = [_opened(path, settings) for path in paths]
    with edgekit_runner.SilenceStderr():
        for model in models:
            edgekit_runner.warm_up(model.interpreter.invoke)
    values: list[list[int]] = [[] for _ in models]
    for position in range(ROUNDS):
        # There and back: what grows during a round is not held against the last file.
        for index in range(len(models))[:: -1 if position % 2 else 1]:
            invoke, n = models[index].interpreter.invoke, runs[index]
            edgekit_runner.time_runs(invoke, max(1, n // 10))
            values[index] += edgekit_runner.time_runs(invoke, n)
    return values


def _opened(path: Path, settings: RunSettings) -> edgekit_runner.Model:
    options = edgekit_runner.Options()
    vars(options).update(
        model=str(path),
        threads=settings.threads or 1,
        runtime=settings.runtime,
        kernels=settings.kernels or options.kernels,
        trusted=True,
    )
    model = edgekit_runner.open_model(options)
    model.feed(edgekit_runner.random_inputs(model))
    return model

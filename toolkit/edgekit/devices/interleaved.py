"""Time files by turns, so that whatever else a machine does slows all of them alike.

A model of microseconds is timed within a tenth of a second, and for so long another process on the
same core makes it half as slow again; a board grows hot meanwhile. Files that are timed one after
the other then differ by more than their kernels do; those that are timed by turns
(`edgekit_runner.time_by_turns`) have ratios that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgekit.devices.device import Device, RunSettings
from edgekit.records import Timing
from edgekit_runner import ROUNDS

_SLOWEST_MS: Final = 100.0
"""Slower models are timed for seconds alone; by turns they would take minutes."""


def interleaved(
    timed: Sequence[tuple[Path, Timing]], device: Device, settings: RunSettings | None = None
) -> list[Timing]:
    """Time files of a device again, in rounds of a few invocations of each.

    Args:
        timed: The files, with what was measured of each alone.
        device: The device.
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
    if len(timed) < 2 or max(timing.p50_ms for timing in alone) > _SLOWEST_MS:
        return alone
    found = device.bench_by_turns([path for path, _ in timed], settings)
    if found is None:
        return alone
    return [
        replace(timing, values_ns=tuple(values), rounds=ROUNDS)
        for timing, values in zip(alone, found, strict=True)
    ]

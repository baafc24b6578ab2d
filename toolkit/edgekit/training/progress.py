"""Progress of a training: figures, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekit.records import Listener, Progress


def progress_reporter(
    listener: Listener, stage: str, epochs: int
) -> Callable[[int, float, str], None]:
    """`tell(epochs done, share of the next, figures)`: at most twice a second within an epoch."""
    told, last = 0.0, ""
    origin: tuple[float, float] | None = None

    def tell(done: int, share: float, figures: str) -> None:
        nonlocal told, last, origin
        now = time.monotonic()
        # the clock starts after the first batch, which is mostly spent tracing the graph
        since, first = origin = origin or (now, done + share)
        if share == 0.0:
            last = figures
        elif now - told < 0.5:
            return
        told = now
        detail = last or figures
        if done + share > first:
            left = (now - since) / (done + share - first) * (epochs - done - share)
            detail += f", {_duration(left)} left"
        listener(Progress(stage=stage, done=done, total=epochs, detail=detail))

    return tell


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

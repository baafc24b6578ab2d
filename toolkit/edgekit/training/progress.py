"""Report the progress of training: figures, and the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekit.records import Listener, Progress


def progress_reporter(
    listener: Listener, stage: str, epochs: int
) -> Callable[[int, float, str], None]:
    """Return `report(epochs done, share of the next, figures)`: at most two reports per second."""
    reported_at, last = 0.0, ""
    origin: tuple[float, float] | None = None

    def report(done: int, share: float, figures: str) -> None:
        nonlocal reported_at, last, origin
        now = time.monotonic()
        # timing starts after the first batch, most of which is graph tracing
        since, first = origin = origin or (now, done + share)
        if share == 0.0:
            last = figures
        elif now - reported_at < 0.5:
            return
        reported_at = now
        detail = last or figures
        if done + share > first:
            left = (now - since) / (done + share - first) * (epochs - done - share)
            detail += f", {_duration(left)} left"
        listener(Progress(stage=stage, done=done, total=epochs, detail=detail))

    return report


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

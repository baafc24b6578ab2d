"""Report the progress of training: figures, and the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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


def progress_callback(report: Callable[[int, float, str], None], steps: int) -> Any:
    """Make a callback that reports progress."""
    import keras

    class ProgressCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            report(self.epoch, (batch + 1) / steps, f"loss {(logs or {}).get('loss', 0.0):.3g}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            figures = {k: v for k, v in (logs or {}).items() if k.startswith("val_")} or logs or {}
            report(
                epoch + 1, 0.0, ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            )

    return ProgressCallback()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

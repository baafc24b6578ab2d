"""Run TensorFlow in the caller's own process, for a Keras model in memory."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edgekit.choices import COMPACT, RecurrentForm
from edgekit.records import Array, InputScaling, Listener, Source, silent
from edgekit.worker.session import Session

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.sources.predict import Reference


class InProcess(Session):
    """A `TensorFlowProcess` without `Worker`'s protection from crashes.

    Passes and training write to stderr, like the caller's progress bar; the converter's log is
    suppressed.

    Args:
        listener: Progress callback.
    """

    def __init__(self, *, listener: Listener = silent) -> None:
        super().__init__(listener=listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def load(
        self,
        source: Path | Any,
        *,
        example: Mapping[str, tuple[int, ...]] | None = None,
        to_train: bool = False,
    ) -> Source:
        """Take a Keras model, or read a file; see `TensorFlowProcess.load`."""
        with _quiet():
            return super().load(source, example=example, to_train=to_train)

    def start_tracing(self) -> None:
        """Do nothing: there is no other process; see `TensorFlowProcess.start_tracing`."""

    def start_lowering(
        self, destination: Path, *, recurrent: RecurrentForm = COMPACT
    ) -> Callable[[], LoweredModel]:
        """Lower when the result is asked for; see `TensorFlowProcess.start_lowering`."""
        return partial(self.lower, destination, recurrent=recurrent)

    def lower(self, destination: Path, *, recurrent: RecurrentForm = COMPACT) -> LoweredModel:
        """Write the float graph; see `TensorFlowProcess.lower`."""
        with _quiet():
            return super().lower(destination, recurrent=recurrent)

    def start_reference(self, inputs: Mapping[str, Array]) -> Callable[[], Reference]:
        """Run the model when the result is asked for; see `TensorFlowProcess.start_reference`."""
        return partial(self.reference, inputs)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model; see `TensorFlowProcess.predict`."""
        with _quiet():
            return super().predict(inputs)

    def input_scaling(self) -> InputScaling | None:
        """Read the model's first operators; see `TensorFlowProcess.input_scaling`."""
        with _quiet():
            return super().input_scaling()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the converter's log, which C++ code writes to stderr."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

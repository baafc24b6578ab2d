"""The same requests, answered in the caller's own process, for a live Keras model."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edgekit.records import Batch, Listener, Plan, Source, silent
from edgekit.worker.session import Session

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel


class InProcess:
    """Answers what `Worker` answers, without its protection from crashes.

    Args:
        model: A Keras model.
        listener: Progress callback.
    """

    def __init__(self, model: Any, *, listener: Listener = silent) -> None:
        self._model = model
        self._session = Session((), listener)

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
        self, source: Any = None, *, example: Mapping[str, tuple[int, ...]] | None = None
    ) -> Source:
        """Describe the model; see `Worker.load`."""
        with _quiet():
            return self._session.load(self._model if source is None else source, example=example)

    def lower(self, destination: Path, batch: Batch | None = None) -> LoweredModel:
        """Write the float graph; see `Worker.lower`."""
        with _quiet():
            return self._session.lower(destination, batch)

    def represent(self, batch: Batch) -> None:
        """Take calibration samples; see `Worker.represent`."""
        self._session.represent(batch)

    def quantize(self, calibrated: bytes, plan: Plan, denied: Sequence[str] = ()) -> bytes:
        """Quantize a graph with ranges; see `Worker.quantize`."""
        with _quiet():
            return self._session.quantize(calibrated, plan, denied)

    def call(self, function_path: str, **arguments: Any) -> Any:
        """Call `module:function`; see `Worker.call`."""
        return self._session.call(function_path, arguments)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's chatter, which comes from C++, off the caller's stderr."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    kept = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

"""Files that are written, and completed while the next ones are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from edgekit.isolate import Background
from edgekit.pipeline import manifest
from edgekit.quantization import first_run
from edgekit.records import Artifact, Plan
from edgekit.tflite.load import start_check

_LARGE_BYTES: Final = 1 << 20
"""Smaller files are compressed in less time than it takes to fork."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is written, but not known to run yet.

    Attributes:
        asked: The plan that was asked for.
        path: The file.
        record: Returns its record; raises a `ConversionError` where the file does not run.
        remarks: What is to be said of it.
    """

    asked: Plan
    path: Path
    record: Callable[[], Artifact]
    remarks: Sequence[str]


def start_record(
    background: Background,
    path: Path,
    plan: Plan,
    described: Mapping[str, Any],
    told: Callable[[], Mapping[str, Any] | None],
    *,
    gzip: bool,
    ran: bool = True,
) -> Callable[[], Artifact]:
    """The record of a finished file; the next one is made while this is run and compressed.

    Args:
        background: Runs and compresses it.
        path: The file.
        plan: As of `manifest.artifact`.
        described: Its manifest, without what follows.
        told: Returns what the calibration samples were like.
        gzip: As of `manifest.artifact`.
        ran: As of `QuantizedModel`; the returned function raises a `ConversionError` where it
            does not run.
    """
    record = partial(manifest.artifact, path, plan, described, gzip=gzip)
    begun: Callable[[], Artifact]
    if not ran:
        begun = partial(first_run, plan, start_check(path, background, then=record))
    else:
        begun = background.start(record) if path.stat().st_size >= _LARGE_BYTES else record

    def finished() -> Artifact:
        made = begun()
        return replace(made, manifest={**made.manifest, "calibration": told()})

    return finished

"""An old file and the one that takes its place are measured alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgekit.pipeline.host import measured
from edgekit.pipeline.measure import MeasureSettings
from edgekit.records import Comparison, DataRequest, Listener, Row, silent

# The target of which every operator is taken: contents are wanted, no prediction.
_CONTENTS: Final = ("cpu",)


def compare_files(
    old: Path,
    new: Path,
    data: DataRequest | None,
    settings: MeasureSettings,
    *,
    listener: Listener = silent,
) -> Comparison:
    """Score, time and inspect both files.

    Args:
        old: The old file, which the new one's drop is measured against.
        new: The new file.
        data: What they are scored on; None leaves scores out.
        settings: How they are scored and timed.
        listener: Progress callback.

    Raises:
        ModelError: A file cannot be read or run.
        DataError: The data does not fit.
        DeviceError: No runtime is here.
        UsageError: The task has no such metric.
    """
    report = measured([old, new], data, replace(settings, targets=_CONTENTS), listener=listener)
    before, after = report.rows
    counts = [_operators(row) for row in report.rows]
    return Comparison(
        old=before,
        new=after,
        operators={
            name: (counts[0][name], counts[1][name])
            for name in sorted({*counts[0], *counts[1]})
            if counts[0][name] != counts[1][name]
        },
        warnings=report.warnings,
    )


def _operators(row: Row) -> Counter[str]:
    return Counter(op.name for op in row.inspection.ops) if row.inspection else Counter()

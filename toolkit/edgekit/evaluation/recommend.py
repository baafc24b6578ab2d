"""Which file to ship. The rule is in `choice`, the sentences that explain it are in `reasons`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.choices import Prefer
from edgekit.evaluation.candidates import Files
from edgekit.evaluation.choice import choose
from edgekit.evaluation.reasons import reasons
from edgekit.files import FILE, what_is
from edgekit.modes import TFLITE_RUNTIME
from edgekit.records import Row
from edgekit.tflite import read
from edgekit.tflite.runtime_limits import lacking_in_tflite_runtime
from edgekit.tflite.stored import content_of


def recommend(
    rows: Sequence[Row], *, prefer: Prefer = "balanced", excluded: Mapping[str, str] | None = None
) -> tuple[tuple[Row, ...], str]:
    """Return the rows with one of them recommended, and why; see `choice.choose` for the rule.

    Args:
        rows: The variants, with judged drops. The first float32 file is what the others are
            compared with.
        prefer: What the file is to have least of.
        excluded: Variant -> why it cannot be loaded where it is meant to run.
    """
    files = Files.of(rows, excluded or {})
    choice = choose([files.candidate(row) for row in rows], prefer)
    chosen = files.row(choice.chosen)
    marked = tuple(replace(row, recommended=row is chosen) for row in rows)
    return marked, reasons(files, choice, prefer)


def lost_files(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the variants that are judged lost, collapsed, or could not be run.

    Args:
        rows: The files, as for `recommend`.
    """
    files = Files.of(rows, {})
    candidates = map(files.candidate, rows)
    return tuple(
        one.name
        for one in candidates
        if not one.is_baseline and (one.verdict == "lost" or one.collapsed or one.failed)
    )


def unloadable(rows: Sequence[Row], runtime: str | None) -> dict[str, str]:
    """Return the variants that a runtime does not load, and why.

    Args:
        rows: The files.
        runtime: As the runner calls it; None where it is not known.
    """
    if runtime != TFLITE_RUNTIME:
        return {}
    lacking = {row.artifact.variant: _lacking(row) for row in rows}
    return {
        variant: f"tflite-runtime does not load {lacks}, ai-edge-litert does"
        for variant, lacks in lacking.items()
        if lacks
    }


def _lacking(row: Row) -> str:
    """Return what of a file tflite-runtime lacks once the runner has unpacked it, or ""."""
    path = row.artifact.path
    if what_is(path) != FILE:
        return ""
    content = content_of(path)
    read(content)  # refuses a damaged one
    return ", ".join(lacking_in_tflite_runtime(content, str(path)))

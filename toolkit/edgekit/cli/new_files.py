"""What a command says of the files that it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.records import Report


def refuse_lost(report: Report, asked: Sequence[str]) -> None:
    """Raise where a report of new files recommends none, or all that was asked for is lost.

    Args:
        report: The report.
        asked: The variants that matter; float32, which the others are compared with, is left out.

    Raises:
        BudgetError: That is so.
    """
    from edgekit.errors import BudgetError
    from edgekit.evaluation import lost_files
    from edgekit.modes import FLOAT32
    from edgekit.printable import MOST_PATH, printable

    baseline = next((r for r in report.files if r.artifact.mode == FLOAT32.name), None)
    made = {row.artifact.variant for row in report.files if row is not baseline} & set(asked)
    lost = [name for name in lost_files(report.files) if name in made]
    kept = f"The results are kept in {printable(report.files[0].artifact.path.parent, MOST_PATH)}"
    if made and len(lost) == len(made):
        raise BudgetError(f"Lost: {', '.join(map(printable, lost))}. {kept}.")
    if not any(row.recommended for row in report.files):
        raise BudgetError(f"No file is recommended. {kept}.")


def show(result: Report, *, json: bool, bundle: Path | None = None) -> None:
    """Print a report of new files: the table, the reason, and what was written."""
    from edgekit.cli.output import emit, next_lines, say, wrote, wrote_file

    emit(result, json=json)
    if not json:
        first = result.files[0].artifact
        say(f"Wrote {first.path.parent / 'report.html'}")
        if bundle is not None:
            say(wrote_file(bundle))
        for row in result.files:
            if row.recommended:
                say(wrote(row.artifact, first))
        say(*next_lines(result))

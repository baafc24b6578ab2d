"""Charts, drawn in a process of their own.

The chart library holds a JavaScript engine, which aborts its process where memory is short (the
engine reserves address space that a limit may forbid) and cannot be used after a fork. A fresh
process keeps both from the one that holds a finished run.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.isolate import with_parent
from edgekit.records import Report, Sensitivity
from edgekit.schema import metric_to_json

if TYPE_CHECKING:
    from edgekit.reports.example_pictures import ExamplePictures

# An ordinary report takes 4 s; a busy single-board computer has time enough.
LIMIT_S = 180


class DrawingError(Exception):
    """The process that draws ended without a result.

    Attributes:
        reason: "SIGTRAP", "no result within 180 s", "ImportError: ...".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCharts:
    """What a page needs of its charts.

    Attributes:
        specs: Chart name, as `charts.charts` gives it -> Vega-Lite specification.
        pictures: Chart name -> the same as an SVG document.
        library: The script that draws specifications in a browser; "" without charts.
        examples: The pictures of `Report.examples`, in the same order.
    """

    specs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    examples: tuple[ExamplePictures, ...] = ()


# The same for every page of a process, and seconds to make.
_library: dict[str, str] = {}


def page_charts(report: Report) -> PageCharts:
    """Draw all charts of a page.

    Raises:
        DrawingError: They cannot be drawn on this machine.
    """
    if not _drawable(report):
        return PageCharts()
    specs, pictures, library, examples = _ask("page", report, not _library)
    if library:
        _library["code"] = library
    return PageCharts(
        specs=specs,
        pictures=pictures,
        library=_library["code"] if specs else "",
        examples=examples,
    )


def pictures(report: Report, form: str) -> dict[str, str | bytes]:
    """Draw the charts as `png` or `svg`, by name; none where there is nothing to draw.

    Raises:
        DrawingError: They cannot be drawn on this machine.
    """
    if not _drawable(report):
        return {}
    drawn: dict[str, str | bytes] = _ask("pictures", report, form)
    return drawn


def sensitivity_picture(found: Sensitivity) -> str:
    """Draw what each operator costs, as an SVG document; "" where none costs anything.

    Raises:
        DrawingError: It cannot be drawn on this machine.
    """
    drawn: str = _answer("sensitivity", (found,), {})
    return drawn


def _drawable(report: Report) -> bool:
    return any(row.score or row.timing or row.inspection for row in report.rows)


def _ask(task: str, report: Report, option: object) -> Any:
    # The user's own metrics are known to this process only.
    names = {row.score.metric for row in report.rows if row.score}
    metrics = {name: facts for name in names if (facts := metric_to_json(name))}
    return _answer(task, (report, option), metrics)


def _answer(task: str, arguments: tuple[object, ...], metrics: Mapping[str, Any]) -> Any:
    # -P: a file in the current folder must not pass for a library.
    command = [sys.executable, "-P", "-m", "edgekit.reports.drawing_process", str(LIMIT_S + 5)]
    try:
        done = subprocess.run(
            command,
            input=pickle.dumps((task, arguments, metrics)),
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
            # Ctrl-C is the parent's to interpret; its end ends the child.
            start_new_session=True,
            preexec_fn=with_parent(),
        )
    except subprocess.TimeoutExpired:
        raise DrawingError(f"no result within {LIMIT_S} s") from None
    except (OSError, MemoryError) as error:
        raise DrawingError(f"{type(error).__name__}: {error}") from error
    if done.returncode < 0:
        raise DrawingError(signal.Signals(-done.returncode).name)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DrawingError(words or f"exit code {done.returncode}")
    kind, value = pickle.loads(done.stdout)
    if kind == "error":
        raise DrawingError(value)
    return value

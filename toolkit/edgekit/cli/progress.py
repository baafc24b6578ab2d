"""Progress on stderr: a bar on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.cli.output import say
from edgekit.printable import one_line, printable
from edgekit.records import Listener, Progress, silent


@contextmanager
def listening(*, quiet: bool = False) -> Iterator[Listener]:
    """Yield a listener that shows what it hears."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bars() as listener:
            yield listener
    else:
        yield _Lines()


class _Lines:
    """One line when a stage begins, for logs and pipes."""

    def __init__(self) -> None:
        self.stage = ""
        self.begun = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.stage != self.stage:
            self.stage = progress.stage
            seconds = time.monotonic() - self.begun
            say(one_line(progress.stage), label=f"[{seconds:5.1f} s] ", error=True)


@contextmanager
def _bars() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def listen(progress: Progress) -> None:
            if progress.stage not in tasks:
                for done in tasks.values():
                    bars.update(done, visible=False)
                tasks.clear()
                tasks[progress.stage] = bars.add_task(
                    one_line(progress.stage), total=progress.total, detail=""
                )
            bars.update(
                tasks[progress.stage],
                completed=progress.done,
                total=progress.total,
                detail=printable(progress.detail),
            )

        yield listen

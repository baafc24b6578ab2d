"""Pages without charts.

To draw those of a page takes a process of its own and seconds of processor time, and most tests
that write a page are about something else. The tests of reports, and every command that is started
as a program, draw them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from edgekit.reports import drawing
from edgekit.reports.example_pictures import draw_examples

Answer = Callable[[str, tuple[object, ...], Mapping[str, Any]], Any]


@contextmanager
def plain_pages() -> Iterator[Answer]:
    """Let pages have no charts; yield what draws them otherwise."""
    real = drawing._answer

    def answer(task: str, arguments: tuple[Any, ...], metrics: Mapping[str, Any]) -> Any:
        if task != "page":
            return real(task, arguments, metrics)
        return {}, {}, "", draw_examples(arguments[0].examples)

    with mock.patch.object(drawing, "_answer", answer):
        yield real

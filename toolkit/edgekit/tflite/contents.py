"""What is computed of the contents of buffers, once: many files are written of one float graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

from edgekit.records import Array

R = TypeVar("R")


def of_content(content: Array, what: Hashable, compute: Callable[[], R]) -> R:
    """Return `compute()`, which is called once and kept as long as the buffer.

    Args:
        content: The buffer; nobody changes it in place.
        what: Names what is computed, with all that it depends on besides the content.
        compute: Computes it; the result must not hold the buffer.
    """
    key = id(content), what
    if key not in _known:
        _known[key] = compute()
        weakref.finalize(content, _known.pop, key, None).atexit = False
    found: R = _known[key]
    return found


_known: Final[dict[tuple[int, Hashable], Any]] = {}

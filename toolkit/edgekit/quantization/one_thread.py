"""Keep numpy's matrix products on one thread, so that files do not depend on the number of cores.

With more threads, OpenBLAS splits sums otherwise: their last bits differ, and codes that are chosen
by them. On busy machines its threads also wait for each other longer than they gain.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

# Numpy's own wheels have the first; builds of distributions the others.
_NAMES: Final = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


def on_one_thread() -> None:
    """Let OpenBLAS use one thread from now on, in this process; other libraries are left alone."""
    for library in _libraries():
        if (function := _function(library, "set")) is not None:
            function(1)


def blas_threads() -> int | None:
    """Return how many threads OpenBLAS uses; None where numpy has none of its own."""
    for library in _libraries():
        if (function := _function(library, "get")) is not None:
            return int(function())
    return None


def _libraries() -> Iterator[ctypes.CDLL]:
    """Yield the BLAS libraries that come with numpy, which has loaded them."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            yield ctypes.CDLL(str(path))


def _function(library: ctypes.CDLL, what: str) -> ctypes._NamedFuncPointer | None:
    return next((f for name in _NAMES if (f := getattr(library, name.format(what), None))), None)

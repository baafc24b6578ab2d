"""Wait for the child to import TensorFlow, which takes time and much address space."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from edgekit.errors import ConversionError

START_SECONDS: Final = 600
"""Seconds that the start may take; on a busy machine it takes a minute."""
# Python and native code may retry a failed allocation forever if memory runs out.
_STUCK_SECONDS: Final = 10
_NEARLY_FULL_BYTES: Final = 1 << 25
# Messages of the dynamic loader and the system, which occur in errors of any class.
_WORDS: Final = ("failed to map segment", "cannot allocate memory", "bad_alloc", "out of memory")


def wait_until_ready(connection: Connection, pid: int) -> None:
    """Wait for the child's first message, which it sends when TensorFlow has been imported.

    Args:
        connection: The parent's end of the pipe.
        pid: Process id of the child.

    Raises:
        ConversionError: Memory does not suffice, or the import does not finish.
    """
    nearly_full = 0
    for _ in range(START_SECONDS):
        if connection.poll(1):
            return
        nearly_full = nearly_full + 1 if _is_nearly_full(pid) else 0
        if nearly_full >= _STUCK_SECONDS:
            raise out_of_memory("Its import stopped making progress.")
    raise ConversionError(
        f"TensorFlow could not be imported within {START_SECONDS} seconds.",
        hint="Run it again when the machine is less busy.",
    )


def out_of_memory(found: str | None) -> ConversionError:
    """Return the error for too little memory to import TensorFlow."""
    return ConversionError(
        "There is not enough memory to import TensorFlow.",
        found=found,
        hint=address_space_hint() or "Free some memory and run it again.",
    )


def address_space_hint() -> str | None:
    """Return a hint how to raise the limit on the address space; None if there is no limit."""
    limit = address_space_limit()
    if limit is None:
        return None
    enough = max(4_000_000, 2 * limit // 1024)
    return f"The address space is limited to {limit / 1e9:.1f} GB; raise it: ulimit -v {enough}"


def death_at_start(reason: str, found: str | None) -> ConversionError:
    """Return the error for a child that died before it had imported TensorFlow.

    Args:
        reason: The signal, or the exit code.
        found: The child's last message.
    """
    what = f"The TensorFlow process died at its start ({reason})."
    if address_space_limit() is not None or reason == "SIGKILL":
        return out_of_memory(found or what)
    return ConversionError(
        what, found=found, hint="Reinstall edgekit: pip install --force-reinstall edgekit-tflite"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, says that memory ran out."""
    return any(
        isinstance(cause, MemoryError)
        # Python's message if it cannot allocate the MemoryError itself.
        or (isinstance(cause, SystemError) and address_space_limit() is not None)
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or any(words in str(cause).lower() for words in _WORDS)
        for cause in _causes(error)
    )


def address_space_limit() -> int | None:
    """Return how many bytes this process and its children may map; None if unlimited."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_nearly_full(pid: int) -> bool:
    limit = address_space_limit()
    if limit is None:
        return False
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    except (OSError, IndexError):  # the process has ended, or the system has no /proc
        return False
    return limit - pages * resource.getpagesize() < _NEARLY_FULL_BYTES

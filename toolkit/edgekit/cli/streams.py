"""Standard streams that may be closed, full, or a pipe whose reader has gone.

On stdout that is told to the command, once: as `ReaderGoneError`, or as an `OutputError`. On
stderr, which only accompanies the work, it is told to nobody.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from edgekit.errors import OutputError


class ReaderGoneError(Exception):
    """Nobody reads our stdout any more (`edgekit ... | head -1`), which is no error of ours."""


def secure() -> None:
    """Open standard streams that are closed, and see to what may go wrong with writing them."""
    # Else the next file that is opened would be stdout, and be printed into. Reading and writing
    # fail there as if they were closed; what nobody sees of stderr may well disappear.
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)))
    sys.stdout = _Stdout(*_parts(sys.stdout, 1), errors="backslashreplace")
    sys.stderr = _Stderr(*_parts(sys.stderr, 2), errors="backslashreplace", line_buffering=True)


def flush() -> None:
    """Write what stands in the buffer of stdout.

    Raises:
        ReaderGoneError: Nobody reads it.
        OutputError: It cannot be written.
    """
    sys.stdout.flush()


class _Stdout(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _failure(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _failure(error) from error


class _Stderr(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            _discard(2)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _discard(2)


def _failure(error: OSError) -> Exception:
    # Once is enough: what the buffer still holds must not fail again at the interpreter's end.
    _discard(1)
    if error.errno == errno.EPIPE:
        return ReaderGoneError()
    return OutputError(
        f"Cannot write to stdout: {error.strerror or error}.",
        hint="Files that this command was to write are complete.",
    )


def _discard(number: int) -> None:
    """Let all that is still written to a descriptor disappear."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _parts(stream: object, number: int) -> tuple[Any, str]:
    """The bytes below a standard stream, and its encoding."""
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding
        stream.flush()
        return stream.detach(), encoding
    return io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8"

"""Run TFLite Micro's own interpreter, where the package `tflite-micro` is installed.

It is native code that checks little, so that each run is a forked child.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.isolate import ChildDiedError, isolated
from edgekit.printable import one_line
from edgekit.records import Array
from edgekit.targets.arena import ALIGNMENT, aligned

PACKAGE: Final = "tflite-micro"
_MODULE: Final = "tflite_micro"
_LIMIT_S: Final = 60
_SLACK_BYTES: Final = 1 << 20
_MOST_ARENA: Final = 1 << 30
_CLOSE_BYTES: Final = 64
_ALLOCATION: Final = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroRun:
    """What the interpreter did with a file.

    Attributes:
        loads: Whether it loaded it and, where inputs were given, ran it.
        message: Its first message where it did not.
        arena_bytes: Bytes of the arena that it used, on this 64-bit machine.
        head_bytes: Those of activations and scratch buffers.
        outputs: Outputs of each run, in the file's order.
    """

    loads: bool
    message: str | None = None
    arena_bytes: int | None = None
    head_bytes: int | None = None
    outputs: tuple[tuple[Array, ...], ...] = ()


def available() -> bool:
    """Whether the interpreter is installed."""
    return importlib.util.find_spec(_MODULE) is not None


def run(
    content: bytes,
    *,
    outputs: int,
    inputs: Sequence[Sequence[Array]] = (),
    arena_bytes: int | None = None,
) -> MicroRun:
    """Load a file and run it on inputs, one after the other, without resetting it.

    Args:
        content: A plain TFLite file; one that `verify` accepted.
        outputs: Number of its outputs.
        inputs: Arrays of each run, in the file's order.
        arena_bytes: Bytes that it may use; None leaves it as many as it can need.
    """
    # A multiple of 16: otherwise the tail takes up to 15 bytes more.
    size = arena_bytes or min(_MOST_ARENA, aligned(20 * len(content)) + 64 * _SLACK_BYTES)
    try:
        return isolated(lambda: _run(content, outputs, inputs, size), limit_s=_LIMIT_S)
    except ChildDiedError as error:
        return MicroRun(loads=False, message=f"it died of {error.reason}")


def least_arena(content: bytes, start: int, end: int) -> int | None:
    """Return the least arena in which a file loads, to within 64 bytes; a multiple of 16.

    Args:
        content: A plain TFLite file.
        start: Bytes below which none is looked for.
        end: Bytes above which none is looked for.

    Returns:
        None where it does not load in `end` bytes either.
    """

    def loads(size: int) -> bool:
        return run(content, outputs=0, arena_bytes=size).loads

    low, high = aligned(start), aligned(end)
    if loads(low):
        return low
    if not loads(high):
        return None
    while high - low > _CLOSE_BYTES:
        middle = (low + high) // (2 * ALIGNMENT) * ALIGNMENT
        low, high = (low, middle) if loads(middle) else (middle, high)
    return high


def _run(content: bytes, outputs: int, inputs: Sequence[Sequence[Array]], size: int) -> MicroRun:
    """Run the interpreter in this process, whose standard error it takes."""
    from tflite_micro import runtime

    messages = os.memfd_create("messages")
    os.dup2(messages, 2)
    found: list[tuple[Array, ...]] = []
    try:
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=size)
        interpreter.print_allocations()
        for arrays in inputs:
            for index, array in enumerate(arrays):
                interpreter.set_input(array, index)
            interpreter.invoke()
            # The interpreter may return a view of memory that the next run overwrites.
            found.append(tuple(interpreter.get_output(i).copy() for i in range(outputs)))
    except Exception as error:
        said = _said(messages) or str(error)
        return MicroRun(loads=False, message=one_line(said))
    allocations = dict(_ALLOCATION.findall(_text(messages)))
    return MicroRun(
        loads=True,
        arena_bytes=_number(allocations.get("total")),
        head_bytes=_number(allocations.get("head")),
        outputs=tuple(found),
    )


def _text(messages: int) -> str:
    return os.pread(messages, 1 << 20, 0).decode("utf-8", errors="replace")


def _said(messages: int) -> str | None:
    """Return the first line that tells why it failed."""
    lines = [line.strip() for line in _text(messages).splitlines()]
    return next((line for line in lines if line and "MicroAllocator]" not in line), None)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)

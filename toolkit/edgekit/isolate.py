"""Run a function in a forked child, so that a crash in native code is an ordinary error here.

A fork costs milliseconds and shares the parent's arrays without copying them; that is why
evaluation, calibration and the first load of a foreign file all go through here. The parent must
not have imported TensorFlow (it never has).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeVar

from edgekit_runner import Undisturbed

A = TypeVar("A")
R = TypeVar("R")


class ChildDiedError(Exception):
    """The child ended without an answer.

    Attributes:
        reason: "SIGSEGV", or "exit code 3".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def isolated(function: Callable[[], R]) -> R:
    """Return `function()`, computed in a forked child.

    Exceptions of the function are raised here. The result travels pickled; large arrays are
    better written into shared memory by the function (see `shared`).

    Raises:
        ChildDiedError: The child was killed by a signal or left without an answer.
    """
    return spread(lambda _: function(), [None])[0]


def spread(
    function: Callable[[A], R],
    arguments: Sequence[A],
    *,
    tick: Callable[[int], None] | None = None,
) -> list[R]:
    """Return `[function(a) for a in arguments]`, every call in a forked child of its own, at once.

    Args:
        function: Any callable, closures included: nothing but its result is pickled. It may call
            `report(n)` to say that `n` more steps are done.
        arguments: One child each; at most as many as there are cores is sensible.
        tick: Called in the parent with each number a child reports.

    Raises:
        ChildDiedError: A child was killed by a signal or left without an answer.
    """
    context = multiprocessing.get_context("fork")
    bound = with_parent()
    children = []
    results: dict[int, R] = {}
    pipes: dict[Connection, int] = {}
    try:
        for position, argument in enumerate(arguments):
            # A signal between the fork and the child's first line would be told twice.
            with Undisturbed():
                ours, theirs = context.Pipe(duplex=False)
                child = context.Process(
                    target=_child, args=(theirs, bound, function, argument), daemon=True
                )
                child.start()
                theirs.close()
                children.append(child)
                pipes[ours] = position
        while pipes:
            for ready in wait(list(pipes)):
                assert isinstance(ready, Connection)
                position = pipes[ready]
                try:
                    kind, value = ready.recv()
                except EOFError:
                    child = children[position]
                    child.join()
                    raise ChildDiedError(_reason(child.exitcode)) from None
                if kind == "tick":
                    if tick is not None:
                        tick(value)
                    continue
                if kind == "error":
                    raise value
                results[position] = value
                del pipes[ready]
                ready.close()
    finally:
        for pipe in pipes:
            pipe.close()
        for child in children:
            if child.is_alive() and pipes:
                child.kill()
            child.join()
            child.close()
    return [results[position] for position in range(len(arguments))]


_pipe: Connection | None = None


def report(steps: int) -> None:
    """Inside a child: tell the parent that `steps` more steps are done."""
    if _pipe is not None:
        _pipe.send(("tick", steps))


def with_parent() -> Callable[[], None]:
    """Return what a child of this thread calls to be killed with its parent, however that ends.

    Made in the parent, so that a child of a process with threads need not import anything.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent_death_signal = 1  # PR_SET_PDEATHSIG

    def bind() -> None:
        if prctl is not None:
            prctl(parent_death_signal, int(signal.SIGKILL))
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return bind


def _child(
    pipe: Connection, bound: Callable[[], None], function: Callable[[A], R], argument: A
) -> None:
    global _pipe  # noqa: PLW0603  a child is a fresh process: this is its one channel
    _pipe = pipe
    # These reach the whole group; the parent alone decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    bound()
    # Native code prints what it likes, also while it crashes: what matters comes over the pipe.
    faulthandler.disable()
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    answer: tuple[str, object]
    try:
        answer = ("value", function(argument))
    except BaseException as error:  # every error belongs to the parent
        answer = ("error", error)
    try:
        pipe.send(answer)
    except Exception as error:  # an unpicklable result or error is a bug worth seeing
        with contextlib.suppress(Exception):
            pipe.send(("error", RuntimeError(f"{type(error).__name__}: {error} ({answer[1]!r})")))
    pipe.close()
    # Skip interpreter teardown: a heap a broken model corrupted must not abort a finished child.
    os._exit(0)


def _reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"

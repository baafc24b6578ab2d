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
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Self, TypeVar

from edgekit_runner import DeferSigint

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


class TimeLimitError(ChildDiedError):
    """The child took more processor time than it was given."""


def isolated(function: Callable[[], R], *, limit_s: int | None = None) -> R:
    """Return `function()`, computed in a forked child.

    Exceptions of the function are raised here. The result travels pickled; large arrays are
    better written into shared memory by the function (see `shared`).

    Args:
        function: Any callable.
        limit_s: Processor time after which the child is ended; a busy machine does not shorten
            it. No limit where None.

    Raises:
        TimeLimitError: The child took longer than `limit_s`.
        ChildDiedError: The child was killed by a signal or left without an answer.
    """

    def limited(_: None) -> R:
        if limit_s is not None:
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            soft = limit_s if hard == resource.RLIM_INFINITY else min(limit_s, hard)
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
        return function()

    try:
        return spread(limited, [None])[0]
    except ChildDiedError as error:
        if limit_s is not None and error.reason == "SIGXCPU":
            raise TimeLimitError(f"ended after {limit_s} s of processor time") from error
        raise


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
    children = []
    results: dict[int, R] = {}
    pipes: dict[Connection, int] = {}
    try:
        for position, argument in enumerate(arguments):
            # A signal between the fork and the child's first line would be told twice.
            with DeferSigint():
                ours, child = _start(function, argument)
                children.append(child)
                pipes[ours] = position
        while pipes:
            for ready in wait(list(pipes)):
                assert isinstance(ready, Connection)
                position = pipes[ready]
                kind, value = _received(ready, children[position])
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


class Background:
    """Calls in forked children of lower priority, while the caller goes on with something else.

    A context manager: children whose answer nobody took are killed at its end.
    """

    def __init__(self) -> None:
        self._running: list[tuple[Connection, ForkProcess]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe, child in self._running:
            pipe.close()
            child.kill()
            child.join()
            child.close()

    def start(self, function: Callable[[], R]) -> Callable[[], R]:
        """Begin `function()`; what is returned waits for its result, and is called once.

        It raises the function's exceptions, and `ChildDiedError` as `isolated` does.
        """

        def politely(_: None) -> R:
            os.nice(5)
            return function()

        with DeferSigint():
            running = _start(politely, None)
            self._running.append(running)

        def result() -> R:
            kind, value = _received(*running)
            if kind == "error":
                raise value
            answer: R = value
            return answer

        return result


_pipe: Connection | None = None


def report(steps: int) -> None:
    """Inside a child: tell the parent that `steps` more steps are done."""
    if _pipe is not None:
        _pipe.send(("tick", steps))


def _start(function: Callable[[A], R], argument: A) -> tuple[Connection, ForkProcess]:
    """Fork a child that computes `function(argument)`; returns where its messages arrive."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    bound = with_parent()
    child = context.Process(target=_child, args=(theirs, bound, function, argument), daemon=True)
    child.start()
    theirs.close()
    return ours, child


def _received(pipe: Connection, child: ForkProcess) -> tuple[str, Any]:
    """The next message of a child: a tick, its value or its error."""
    try:
        message: tuple[str, Any] = pipe.recv()
    except EOFError:
        child.join()
        raise ChildDiedError(_reason(child.exitcode)) from None
    return message


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

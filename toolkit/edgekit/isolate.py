"""Run a function in a forked child, so that a crash in native code raises an exception here.

A fork costs milliseconds and shares the parent's arrays without copying them; so evaluation,
calibration and the first load of an untrusted file use it. The parent must not have imported
TensorFlow.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import math
import mmap
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from edgekit_runner import DeferSigint

if TYPE_CHECKING:
    from numpy.typing import NDArray

A = TypeVar("A")
R = TypeVar("R")


class ChildDiedError(Exception):
    """The child exited without a result.

    Attributes:
        reason: "SIGSEGV", or "exit code 3".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimeLimitError(ChildDiedError):
    """The child exceeded its limit of processor time."""


def isolated(function: Callable[[], R], *, limit_s: int | None = None) -> R:
    """Return `function()`, computed in a forked child.

    Exceptions of the function are raised here. The result is pickled; the function should write
    large arrays to shared memory (see `shared`).

    Args:
        function: Any callable.
        limit_s: Limit of the child's processor time in seconds, independent of other load; None
            sets no limit.

    Raises:
        TimeLimitError: The child took longer than `limit_s`.
        ChildDiedError: The child was killed by a signal or exited without a result.
    """

    def limited(_: None) -> R:
        _limit(limit_s)
        return function()

    with _naming_the_limit(limit_s):
        return spread(limited, [None])[0]


def spread(
    function: Callable[[A], R],
    arguments: Sequence[A],
    *,
    tick: Callable[[int], None] | None = None,
) -> list[R]:
    """Return `[function(a) for a in arguments]`, each call in a forked child, in parallel.

    Args:
        function: Any callable, closures included: only its result is pickled. It may call
            `report(n)` to report `n` more finished steps.
        arguments: One child process each; use at most as many as there are cores.
        tick: Called in the parent with each number that a child reports.

    Raises:
        ChildDiedError: A child was killed by a signal or exited without a result.
    """
    children = []
    results: dict[int, R] = {}
    pipes: dict[Connection, int] = {}
    try:
        for position, argument in enumerate(arguments):
            # A signal between the fork and the child's first line would be handled twice.
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


def shared(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return an array that children forked later write for their parent to read."""
    import numpy as np

    size = math.prod(shape)
    memory = mmap.mmap(-1, max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


class Background:
    """Calls in forked children of the lowest priority, concurrent with the caller's work.

    A context manager; at its end, children whose result was not taken are killed.
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

    def start(self, function: Callable[[], R], *, limit_s: int | None = None) -> Callable[[], R]:
        """Start `function()`; the returned function waits for its result, and is called once.

        It raises the function's exceptions, and `ChildDiedError` as `isolated` does.

        Args:
            function: As of `isolated`.
            limit_s: Likewise.
        """

        def politely(_: None) -> R:
            os.nice(19)  # what the caller does needs all cores first
            _limit(limit_s)
            return function()

        with DeferSigint():
            running = _start(politely, None)
            self._running.append(running)

        def result() -> R:
            with _naming_the_limit(limit_s):
                kind, value = _received(*running)
            if kind == "error":
                raise value
            answer: R = value
            return answer

        return result


def _limit(seconds: int | None) -> None:
    """Limit this process's processor time."""
    if seconds is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


@contextlib.contextmanager
def _naming_the_limit(seconds: int | None) -> Iterator[None]:
    """Within the context, a death by that limit is a `TimeLimitError`."""
    try:
        yield
    except ChildDiedError as error:
        if seconds is not None and error.reason == "SIGXCPU":
            raise TimeLimitError(f"ended after {seconds} s of processor time") from error
        raise


_pipe: Connection | None = None


def report(steps: int) -> None:
    """Report from a child that `steps` more steps are finished."""
    if _pipe is not None:
        _pipe.send(("tick", steps))


def _start(function: Callable[[A], R], argument: A) -> tuple[Connection, ForkProcess]:
    """Fork a child that computes `function(argument)`; return the connection for its messages."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    bound = with_parent()
    child = context.Process(target=_child, args=(theirs, bound, function, argument), daemon=True)
    child.start()
    theirs.close()
    return ours, child


def _received(pipe: Connection, child: ForkProcess) -> tuple[str, Any]:
    """Return the next message of a child: a tick, its value or its error."""
    try:
        message: tuple[str, Any] = pipe.recv()
    except EOFError:
        child.join()
        raise ChildDiedError(_reason(child.exitcode)) from None
    return message


def with_parent() -> Callable[[], None]:
    """Return a function that a child calls so that it is killed when its parent ends.

    Created in the parent, because the child of a process with threads must not import modules.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent_death_signal = 1  # PR_SET_PDEATHSIG

    def bind() -> None:
        if prctl is not None:
            prctl(parent_death_signal, int(signal.SIGKILL))
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return bind


def _child(
    pipe: Connection, bound: Callable[[], None], function: Callable[[A], R], argument: A
) -> None:
    global _pipe  # noqa: PLW0603  a child is a fresh process: this is its one channel
    _pipe = pipe
    # These signals reach the whole process group; only the parent handles them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    bound()
    # Native code may print anything, also in a crash; results come over the pipe.
    faulthandler.disable()
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    answer: tuple[str, object]
    try:
        answer = ("value", function(argument))
    except BaseException as error:  # the parent raises the error
        answer = ("error", error)
    try:
        pipe.send(answer)
    except Exception as error:  # an unpicklable result or error is a bug worth seeing
        with contextlib.suppress(Exception):
            pipe.send(("error", RuntimeError(f"{type(error).__name__}: {error} ({answer[1]!r})")))
    pipe.close()
    # Skip interpreter teardown: a heap corrupted by a broken model must not abort a finished child.
    os._exit(0)


def _reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"

"""SIGINT, SIGTERM and SIGHUP as one exception, so that every `finally` runs before the end.

Only the command line installs this: a program that imports edgekit keeps its own handlers.
"""

from __future__ import annotations

import signal
import sys
import weakref

TYPE_CHECKING = False  # as `typing` has it, whose import takes longer than this module
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long code that swallowed the exception may go on before it is raised again.
_AGAIN_SECONDS = 0.2


class Interrupted(KeyboardInterrupt):
    """A signal asks this process to end.

    Attributes:
        number: Which one.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    number: int | None = None
    raised: weakref.ref[Interrupted] | None = None
    finished = False


def install() -> None:
    """Answer the signals of `SIGNALS` with `Interrupted`, unless they are ignored (nohup)."""
    _State.finished = False
    for number in SIGNALS:
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, _again)
    sys.unraisablehook = _unraisable


def exit_code() -> int | None:
    """128 and the signal that was received; None where there was none."""
    return None if _State.number is None else 128 + _State.number


def words() -> str:
    """What a command that was interrupted says."""
    number = _State.number or signal.SIGINT
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"Interrupted{by}; nothing half-written was left."


def leave() -> NoReturn:
    """Say so, and end the process."""
    finish()
    print(words(), file=sys.stderr)
    sys.exit(exit_code() or INTERRUPTED)


def finish() -> None:
    """Ignore signals from here on: what is left is the interpreter's teardown."""
    _State.finished = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _: FrameType | None) -> None:
    # As long as the exception lives, cleanup is under way, which a second signal must not break.
    if _State.raised is not None and _State.raised() is not None:
        return
    if _State.number is None:
        _State.number = number
    error = Interrupted(_State.number)
    _State.raised = weakref.ref(error, _swallowed)
    try:
        raise error
    finally:
        del error  # this frame is part of its traceback, which would keep it alive


def _swallowed(_: object) -> None:
    """Raise again what a destructor, or a library's bare `except`, made disappear."""
    if not _State.finished:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _again(_: int, frame: FrameType | None) -> None:
    if not _State.finished and _State.number is not None:
        _interrupt(_State.number, frame)


def _unraisable(event: sys.UnraisableHookArgs) -> None:
    if not isinstance(event.exc_value, Interrupted):
        sys.__unraisablehook__(event)

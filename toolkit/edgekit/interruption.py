"""Turn SIGINT, SIGTERM and SIGHUP into one exception, so that every `finally` block runs.

Only the command line installs this: a program that imports edgekit keeps its own handlers.
"""

from __future__ import annotations

import signal
import sys
import weakref

TYPE_CHECKING = False  # as typing.TYPE_CHECKING; importing typing takes longer than this module
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds until the exception is raised again if code has swallowed it.
_AGAIN_SECONDS = 0.2


class Interrupted(KeyboardInterrupt):
    """The process received a signal to end.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    number: int | None = None
    raised: weakref.ref[Interrupted] | None = None
    finished = False


def install() -> None:
    """Raise `Interrupted` on the signals of `SIGNALS`, unless they are ignored (nohup)."""
    _State.finished = False
    for number in SIGNALS:
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, _again)
    sys.unraisablehook = _unraisable


def exit_code() -> int | None:
    """Return 128 plus the number of the signal received; None if there was none."""
    return None if _State.number is None else 128 + _State.number


def words() -> str:
    """Return the message of an interrupted command."""
    number = _State.number or signal.SIGINT
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"Interrupted{by}; nothing half-written was left."


def leave() -> NoReturn:
    """Print the message, and end the process."""
    finish()
    print(words(), file=sys.stderr)
    sys.exit(exit_code() or INTERRUPTED)


def finish() -> None:
    """Ignore signals during the interpreter's teardown."""
    _State.finished = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _: FrameType | None) -> None:
    # While the exception is alive, cleanup is running, which a second signal must not interrupt.
    if _State.raised is not None and _State.raised() is not None:
        return
    if _State.number is None:
        _State.number = number
    error = Interrupted(_State.number)
    _State.raised = weakref.ref(error, _swallowed)
    try:
        raise error
    finally:
        del error  # its traceback includes this frame, which would keep it alive


def _swallowed(_: object) -> None:
    """Raise an interruption again that a destructor, or a bare `except`, swallowed."""
    if not _State.finished:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _again(_: int, frame: FrameType | None) -> None:
    if not _State.finished and _State.number is not None:
        _interrupt(_State.number, frame)


def _unraisable(event: sys.UnraisableHookArgs) -> None:
    if not isinstance(event.exc_value, Interrupted):
        sys.__unraisablehook__(event)

"""What the tests ask of the worker process."""

from __future__ import annotations

import importlib.abc
import os
import signal
import sys
import time
from typing import NoReturn

from edgekit.errors import DataError
from edgekit.records import Progress
from edgekit.worker import Session


class UnpicklableError(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("not with me")


def count(session: Session, to: int) -> list[int]:
    for i in range(to):
        session.listener(Progress(stage="counting", done=i + 1, total=to))
    return list(range(to))


def echo(session: Session, *values: object) -> tuple[object, ...]:
    return values


def refuse(session: Session) -> NoReturn:
    raise DataError("The data is odd.", found="one", hint="Give two.")


def fail(session: Session, unpicklable: bool = False) -> NoReturn:
    raise UnpicklableError("mine") if unpicklable else ZeroDivisionError("a bug")


def die(session: Session, by: signal.Signals, words: str = "") -> None:
    print("WARNING: chatter", file=sys.stderr)
    print(words, file=sys.stderr, flush=True)
    os.kill(os.getpid(), by)


def die_on_import(session: Session, module: str) -> None:
    """Die when a module is imported the next time, as native libraries may."""

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == module:
                os.abort()

    sys.modules.pop(module, None)
    sys.meta_path.insert(0, Finder())


def leave(session: Session) -> NoReturn:
    os._exit(7)


def wait(session: Session) -> None:
    time.sleep(600)


def pid(session: Session) -> int:
    return os.getpid()


def environment(session: Session, name: str) -> str | None:
    return os.environ.get(name)

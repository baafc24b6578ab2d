"""Messages between the two processes: pickled, but for files' contents, which follow as they are.

A pickle of 100 MB is written and read through several copies of it; contents that follow their
message by themselves are copied once on either side.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

# Shorter contents are not worth a message of their own.
_LARGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """A call to make in the child.

    Attributes:
        function: A function of a module, or a method; pickled as its name. It is called with the
            child's `Session`, then `args` and `kwargs`.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The child's first message: it has imported TensorFlow, or tried to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function of a request returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """What it raised instead."""

    error: BaseException


def send(connection: Connection, message: object) -> None:
    """Send a message; large `bytes` anywhere in it are not copied into the pickle."""
    head = io.BytesIO()
    pickler = _Pickler(head)
    pickler.dump(message)
    connection.send_bytes(pickle.dumps(len(pickler.contents)))
    connection.send_bytes(head.getbuffer())
    for content in pickler.contents:
        connection.send_bytes(content)


def receive(connection: Connection) -> Any:
    """Return the next message.

    Raises:
        EOFError: The other process is gone.
        Exception: The message cannot be unpickled; the next one can be received all the same.
    """
    count = pickle.loads(connection.recv_bytes())
    head = io.BytesIO(connection.recv_bytes())
    return _Unpickler(head, [connection.recv_bytes() for _ in range(count)]).load()


class _Pickler(pickle.Pickler):
    """Leaves large `bytes` out, with their position in `contents` instead."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.contents: list[bytes] = []

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) is not bytes or len(obj) < _LARGE:
            return None
        self.contents.append(obj)
        return len(self.contents) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, contents: Sequence[bytes]) -> None:
        super().__init__(file)
        self._contents = contents

    def persistent_load(self, pid: int) -> bytes:
        return self._contents[pid]

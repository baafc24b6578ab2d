"""Messages between the two processes: pickled, except for large contents, which follow as bytes.

Writing and reading a pickle of 100 MB makes several copies of it; contents sent separately are
copied once on either side.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

# Shorter contents are part of the pickle.
_LARGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """A function call to be made in the child.

    Attributes:
        function: A function of a module, or a method; pickled by name. It is called with the
            child's `Session`, then `args` and `kwargs`.
        args: Positional arguments.
        kwargs: Keyword arguments.
        answered: Whether the other side waits for an answer.
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Ready:
    """The child's first message, after importing TensorFlow or failing to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The return value of a request's function."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception that a request's function raised."""

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
        EOFError: The other process has ended.
        Exception: The message cannot be unpickled; the next one can still be received.
    """
    count = pickle.loads(connection.recv_bytes())
    head = io.BytesIO(connection.recv_bytes())
    return _Unpickler(head, [connection.recv_bytes() for _ in range(count)]).load()


class _Pickler(pickle.Pickler):
    """Pickler that replaces large `bytes` by their position in `contents`."""

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

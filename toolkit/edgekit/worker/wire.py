"""Messages between the two processes: pickled, but for files' contents, which follow as they are.

A pickle of 100 MB is written and read through several copies of it; a content that follows its
message by itself (PEP 574) is copied once on either side.
"""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection
from typing import Any

# Shorter contents are not worth a message of their own.
_LARGE = 1 << 16


def send(connection: Connection, message: tuple[str, Any]) -> None:
    """Send a kind and a value, or a method and its arguments.

    Large `bytes` that are the value, or an argument, are not copied into the pickle.
    """
    kind, value = message
    if isinstance(value, dict):
        value = {name: _aside(part) for name, part in value.items()}
    contents: list[pickle.PickleBuffer] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        # Arrays would arrive read-only.
        if not isinstance(memoryview(buffer).obj, bytes):
            return True
        contents.append(buffer)
        return False

    head = pickle.dumps((kind, _aside(value)), protocol=5, buffer_callback=keep_inside)
    connection.send_bytes(pickle.dumps((len(contents), head)))
    for content in contents:
        connection.send_bytes(content.raw())


def receive(connection: Connection) -> Any:
    """Return the next message; what was `bytes` is `bytes` again.

    Raises:
        EOFError: The other process is gone.
    """
    count, head = pickle.loads(connection.recv_bytes())
    return pickle.loads(head, buffers=[connection.recv_bytes() for _ in range(count)])


def _aside(value: Any) -> Any:
    large = isinstance(value, bytes) and len(value) >= _LARGE
    return pickle.PickleBuffer(value) if large else value

"""Messages arrive as they were sent; large contents beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from edgekit.worker import wire

LARGE = bytes(range(256)) * 1024


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    near, far = Pipe()
    with near, far:
        yield near, far


def exchange(ends: tuple[Connection, Connection], message: object) -> object:
    sender = threading.Thread(target=wire.send, args=(ends[0], message))
    sender.start()
    received = wire.receive(ends[1])
    sender.join()
    return received


@pytest.mark.parametrize(
    "message",
    [
        None,
        LARGE,
        wire.Request(len, (LARGE, Path("a")), {"denied": ("b",)}),
        wire.Answer({"small": b"x", "large": [LARGE, LARGE]}),
    ],
)
def test_a_message_arrives_as_it_was(ends: tuple[Connection, Connection], message: object) -> None:
    received = exchange(ends, message)
    assert received == message
    assert type(received) is type(message)


def test_large_contents_are_not_in_the_pickle(ends: tuple[Connection, Connection]) -> None:
    sender = threading.Thread(target=wire.send, args=(ends[0], wire.Answer([LARGE])))
    sender.start()
    _, head, content = (ends[1].recv_bytes() for _ in range(3))
    sender.join()
    assert (len(head) < 1000, content == LARGE) == (True, True)


def test_arrays_can_still_be_written_to(ends: tuple[Connection, Connection]) -> None:
    sent = np.arange(100_000)
    received = exchange(ends, sent)
    received[0] = 7
    assert np.array_equal(received[1:], sent[1:])
    assert sent[0] == 0


def test_the_end_of_the_other_process_is_an_end_of_file(
    ends: tuple[Connection, Connection],
) -> None:
    ends[0].close()
    with pytest.raises(EOFError):
        wire.receive(ends[1])

"""The harness detects every kind of failure of a child."""

from __future__ import annotations

import ctypes
import os
import signal

import harness
import numpy as np
import pytest
from harness import Reader, hunt, reduced, try_one
from mutate import damage_bytes

from edgekit.errors import DataError
from edgekit_runner import RunnerError

SEED = bytes(range(64, 96))


def reader(read, **more):
    return Reader(
        name="made",
        files=lambda: [SEED],
        damage=damage_bytes,
        read=read,
        codes=frozenset([4]),
        **more,
    )


def refuse(content, folder):
    raise DataError("It is damaged.", hint="Write it anew.")


def refuse_as_the_runner(content, folder):
    raise RunnerError(4, "It is damaged.")


class LongError(DataError):
    """An error that is not held to three lines, as every other is."""

    def __str__(self):
        return "It is damaged.\na\nb\nc\nd"


def refuse_at_length(content, folder):
    raise LongError("It is damaged.")


def refuse_with_another_code(content, folder):
    raise RunnerError(2, "It is damaged.")


def fall(content, folder):
    ctypes.string_at(0)


def work_on(content, folder):
    while True:
        pass


def take_all(content, folder):
    np.zeros(2 * harness.MEMORY_BYTES, np.uint8)


def wait(content, folder):
    signal.pause()


def leave(content, folder):
    raise SystemExit(3)


@pytest.mark.parametrize("read", [refuse, refuse_as_the_runner])
def test_a_refusal_is_no_finding(read, tmp_path):
    outcome = hunt(reader(read), tmp_path, fewest=50)

    assert (outcome.read, outcome.refused, outcome.findings) == (0, 50, [])


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (refuse_at_length, "code 4, 5 lines"),
        (refuse_with_another_code, "code 2, 1 lines"),
        (fall, "SIGSEGV"),
        (work_on, "SIGXCPU: more than"),
        (take_all, "MemoryError"),
        (leave, "SystemExit: 3"),
    ],
)
def test_everything_else_is_one(read, what, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "CPU_SECONDS", 0)

    outcome = hunt(reader(read), tmp_path, fewest=2)

    assert [finding.number for finding in outcome.findings] == [0, 1]
    assert all(finding.what.startswith(what) for finding in outcome.findings)
    assert all(read.__name__ in finding.told for finding in outcome.findings)


def test_a_child_that_waits_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "SILENT_SECONDS", 0.2)

    outcome = hunt(reader(wait), tmp_path, fewest=1)

    assert [finding.what.partition(":")[0] for finding in outcome.findings] == ["SIGQUIT"]


def test_the_search_goes_on_after_a_crash(tmp_path):
    def read(content, folder):
        if len(content) > len(SEED):
            os.abort()

    outcome = hunt(reader(read), tmp_path, fewest=100)

    longer = [n for n in range(100) if len(reader(read).content(n)) > len(SEED)]
    assert [finding.number for finding in outcome.findings] == longer
    assert outcome.read == 100 - len(longer)
    assert len(longer) > 5


def test_a_finding_comes_again_and_smaller(tmp_path):
    def read(content, folder):
        (folder / "left").write_bytes(content)
        assert content.count(b"A") < 3

    made = reader(read)
    first = next(f for f in hunt(made, tmp_path, fewest=400).findings)

    again = try_one(made, made.content(first.number), tmp_path, first.number)
    smaller = reduced(made, first, tmp_path)

    assert [finding.kind for finding in again.findings] == [first.kind]
    assert smaller == b"AAA"


def test_numbers_are_shared_out_without_overlap(tmp_path):
    seen = tmp_path / "seen"

    def read(content, folder):
        with seen.open("ab") as stream:
            stream.write(content.hex().encode() + b"\n")

    made = reader(read)
    for first in (0, 1):
        hunt(made, tmp_path / "work", first=first, step=2, fewest=20)

    expected = [made.content(n).hex() for n in (*range(0, 40, 2), *range(1, 40, 2))]
    assert seen.read_text().splitlines() == expected

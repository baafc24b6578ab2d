"""A crash in a child is an ordinary error here."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.isolate import Background, ChildDiedError, TimeLimitError, isolated, report, spread


def test_results_come_back_in_order_and_from_other_processes():
    answers = spread(lambda number: (number * 2, os.getpid()), [1, 2, 3])
    assert [a for a, _ in answers] == [2, 4, 6]
    assert os.getpid() not in {pid for _, pid in answers}


def test_a_signal_is_named():
    with pytest.raises(ChildDiedError, match="SIGSEGV"):
        isolated(lambda: os.kill(os.getpid(), signal.SIGSEGV))


def test_an_exit_without_an_answer_is_named():
    with pytest.raises(ChildDiedError, match="exit code 3"):
        isolated(lambda: os._exit(3))


def test_an_exception_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        isolated(lambda: 1 // 0)


def test_one_death_ends_the_others():
    def work(number: int) -> None:
        if number:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait(60)

    with pytest.raises(ChildDiedError, match="SIGKILL"):
        spread(work, [0, 1])


def test_what_cannot_be_sent_back_is_an_error_with_its_reason():
    with pytest.raises(RuntimeError, match="pickle"):
        isolated(lambda: lambda: None)


def test_steps_are_reported():
    heard: list[int] = []
    spread(lambda number: [report(number), report(1)], [5, 7], tick=heard.append)
    assert sorted(heard) == [1, 1, 5, 7]


def test_a_large_result_does_not_block():
    assert len(isolated(lambda: b"x" * (1 << 22))) == 1 << 22


def test_ctrl_c_at_the_birth_of_a_child_is_not_told_there():
    """The signal comes within Python's own hooks after a fork, where it would be printed."""
    program = (
        "import os, signal\n"
        "from edgekit.isolate import isolated\n"
        "hook = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "os.register_at_fork(after_in_child=hook)\n"
        "print(isolated(lambda: 'answer'))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "answer\n", "")


def test_a_child_without_an_end_is_ended_and_the_limit_named():
    def spin() -> None:
        while True:
            pass

    with pytest.raises(ChildDiedError, match="ended after 1 s of processor time"):
        isolated(spin, limit_s=1)


def test_a_limit_does_not_touch_what_keeps_it():
    assert isolated(lambda: 3, limit_s=60) == 3


def test_calls_in_the_background_answer_when_asked():
    with Background() as background:
        first = background.start(lambda: (1, os.getpid()))
        second = background.start(lambda: 1 // 0)
        third = background.start(lambda: os.kill(os.getpid(), signal.SIGSEGV))

        answer, process = first()
        assert (answer, process != os.getpid()) == (1, True)
        with pytest.raises(ZeroDivisionError):
            second()
        with pytest.raises(ChildDiedError, match="SIGSEGV"):
            third()


def test_a_call_in_the_background_is_limited_too():
    def spin():
        while True:
            pass

    with Background() as background:
        spinning = background.start(spin, limit_s=1)
        with pytest.raises(TimeLimitError, match="ended after 1 s of processor time"):
            spinning()


def test_nobody_waits_for_an_answer_that_nobody_took():
    with Background() as background:
        background.start(lambda: threading.Event().wait(600))
        (running,) = multiprocessing.active_children()
        assert running.is_alive()
    assert multiprocessing.active_children() == []


def test_a_signal_to_the_whole_group_is_the_parent_s_alone():
    program = (
        "import os, signal, sys, threading\n"
        "from edgekit import interruption\n"
        "from edgekit.isolate import report, spread\n"
        "interruption.install()\n"
        "def work(_): report(1); threading.Event().wait(60)\n"
        "try:\n"
        "    spread(work, [0, 1], tick=lambda _: os.killpg(0, signal.SIGTERM))\n"
        "except KeyboardInterrupt:\n"
        "    print(interruption.exit_code())\n"
        "    interruption.finish()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "143\n", "")


def test_children_do_not_outlive_a_parent_that_is_killed():
    program = (
        "import os, signal, threading\n"
        "from edgekit.isolate import report, spread\n"
        "def work(_): report(os.getpid()); threading.Event().wait(600)\n"
        "def tick(pid): print(pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        "spread(work, [0], tick=tick)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    child = Path(f"/proc/{int(ended.stdout)}/stat")
    end = time.monotonic() + 10
    # Nobody may have collected a dead one yet.
    while (alive := child.exists() and ") Z " not in child.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive

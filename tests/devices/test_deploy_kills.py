"""deploy, ended by a signal at seeded moments: nothing is left here, and nothing there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time

from killing import Command, moments, whole

from edgekit.devices.session import ABANDONED_SECONDS


def test_deploy(board, model, tmp_path):
    words = ["deploy", model, "--device", "board", "--runs", "300", "-o", "out"]
    command = Command(words, tmp_path, {"EDGEKIT_SSH_CONFIG": os.environ["EDGEKIT_SSH_CONFIG"]})
    command.finish()
    assert whole(tmp_path / "out") == {"report.html", "report.json"}
    shutil.rmtree(tmp_path / "out")
    met = 0
    # After SIGKILL the board waits for minutes before it tidies up: those sessions may still be
    # there when the next signals come.
    abandoned: set[str] = set()
    for number, share in moments(4, 9):
        met += command.kill(number, share)
        if (tmp_path / "out").exists():
            assert whole(tmp_path / "out") == {"report.html", "report.json"}, (number, share)
            shutil.rmtree(tmp_path / "out")
        if number == signal.SIGKILL:
            time.sleep(1)  # what was on its way there arrives
            abandoned |= sessions(board)
        else:
            # The board tidies up itself; once its programs have ended, it has.
            assert left_within(20, board, abandoned) == [], (number, share)
    assert met
    command.finish()
    assert command.leftovers() == set()
    if "EDGEKIT_KILLS" in os.environ:
        # Of sessions that overlapped, the one that made ~/.cache may not be the last to leave.
        assert left_within(ABANDONED_SECONDS + 20, board, set()) in ([], [".cache"])


def sessions(board) -> set[str]:
    return set(re.findall(r"session-[0-9a-f]+", " ".join((*board.programs(), *board.left()))))


def left_within(seconds: float, board, abandoned: set[str]) -> list[str]:
    """Programs and files of sessions that are not abandoned, once they had that time to end."""
    end = time.monotonic() + seconds
    while (left := remaining(board, abandoned)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def remaining(board, abandoned: set[str]) -> list[str]:
    found = [
        one
        for one in (*board.programs(), *board.left())
        if not any(session in one for session in abandoned)
    ]
    if not abandoned:
        return found
    # The folders around an abandoned session stay with it, and the shell around its watch.
    shared = {".cache", ".cache/edgekit", f"sh -c {board.folder / 'entry'} "}
    return [one for one in found if one not in shared]

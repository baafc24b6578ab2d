"""deploy, ended by a signal at seeded moments: nothing is left here, and nothing there."""

from __future__ import annotations

import os
import shutil
import signal
import time

from killing import Command, moments, whole


def test_deploy(board, model, tmp_path):
    words = ["deploy", model, "--device", "board", "--runs", "300", "-o", "out"]
    command = Command(words, tmp_path, {"EDGEKIT_SSH_CONFIG": os.environ["EDGEKIT_SSH_CONFIG"]})
    command.finish()
    assert whole(tmp_path / "out") == {"report.html", "report.json"}
    shutil.rmtree(tmp_path / "out")
    met = 0
    for number, share in moments(4, 9):
        met += command.kill(number, share)
        if (tmp_path / "out").exists():
            assert whole(tmp_path / "out") == {"report.html", "report.json"}, (number, share)
            shutil.rmtree(tmp_path / "out")
        if number != signal.SIGKILL:  # after that the board waits for minutes before it tidies up
            # The board tidies up itself; once its programs have ended, it has.
            assert ended(board), (number, share)
            assert board.left() == [], (number, share)
    assert met
    command.finish()
    assert command.leftovers() == set()


def ended(board) -> bool:
    end = time.monotonic() + 20
    while board.programs() and time.monotonic() < end:
        time.sleep(0.05)
    return not board.programs()

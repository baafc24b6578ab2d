"""Connections after edgekit is killed: no ssh process and no folder remain."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from test_deploy_faults import benching

from edgekit.devices import lifeline
from edgekit.devices.socket_folder import LOCK, PREFIX, SocketFolder

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")


def running(*signs):
    """Processes with one of these words in their command line: pid -> command line."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and any(sign in words for sign in signs):
            found[int(entry.name)] = words
    return found


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture
def begin(tmp_path):
    """Start a command whose folder for temporary files is `tmp`."""
    (tmp_path / "tmp").mkdir()
    started = []

    def command(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "edgekit.cli", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        )
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("jump", ["", 'jump = "board"\n'])
def test_no_ssh_outlives_an_edgekit_that_is_killed(  # noqa: PLR0917
    board, begin, edgekit, model, tmp_path, monkeypatch, jump
):
    # Given a deployment that runs, through a jump host or not
    Path("devices.toml").write_text(f'[pi]\nhost = "board"\n{jump}')
    ours = (str(tmp_path / "tmp"), str(board.config))
    process = begin("bench", model, "--device=pi", "--runs=900000")
    assert wait_until(lambda: benching(board))
    assert any("-W" in words for words in running(*ours).values()) == bool(jump)
    # When it is killed, so that none of its code runs any more
    process.kill()
    process.wait()
    # Then no ssh is left, and the device's run is ended.
    assert wait_until(lambda: not running(*ours), 10), running(*ours)
    assert wait_until(lambda: not benching(board), 20)
    assert list((tmp_path / "tmp").glob(f"{PREFIX}*")) != []
    # And the next run removes the folder, but not that of a run that goes on.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    alive = SocketFolder()
    assert edgekit("bench", model, "--device=board", "--runs=2", "-q").code == 0
    assert list((tmp_path / "tmp").glob(f"{PREFIX}*")) == [alive.path]
    alive.remove()


@pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh here")
def test_no_ssh_outlives_an_edgekit_that_is_killed_while_it_connects(begin, model, tmp_path):
    # Given a host that takes connections and never says a word
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        (tmp_path / "my.toml").write_text(f'[pi]\nhost = "127.0.0.1"\nport = {port}\n')
        process = begin("bench", model, "--device=pi", "--devices", tmp_path / "my.toml")
        ours = str(tmp_path / "tmp")
        assert wait_until(lambda: any("lifeline" not in w for w in running(ours).values()))
        # When edgekit is killed, then its ssh ends.
        process.kill()
        process.wait()
        assert wait_until(lambda: not running(ours), 10), running(ours)


@pytest.mark.skipif(sys.platform != "linux", reason="the signal for it is Linux's")
def test_no_ssh_outlives_edgekit_and_its_lifeline(board, begin, model, tmp_path):
    # Given `pkill -9 -f edgekit`, which meets both
    ours = str(tmp_path / "tmp")
    process = begin("bench", model, "--device=board", "--runs=900000")
    assert wait_until(lambda: benching(board))
    (other,) = (pid for pid, words in running(ours).items() if "lifeline.py" in words)
    for pid in (other, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not running(ours), 10), running(ours)
    assert wait_until(lambda: not benching(board), 20)


@pytest.mark.parametrize("code", [0, 3])
def test_a_lifeline_ends_as_its_program_does(code):
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", lifeline.__file__, "sh", "-c", f"echo out; exit {code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.read() == b"out\n"
        assert process.wait(30) == code


def test_a_lifeline_ends_what_will_not_end():
    # Given a program and a child of it, both deaf to SIGTERM
    program = "trap '' TERM; sleep 1000 & echo $!; wait"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", lifeline.__file__, "sh", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child = int(process.stdout.readline())
    # When the starter's end of the pipe is closed, then both end.
    process.stdin.close()
    assert process.wait(30) == 128 + signal.SIGKILL
    process.stdout.close()

    def ended():
        status = Path(f"/proc/{child}/status")
        return not status.exists() or "State:\tZ" in status.read_text()

    assert wait_until(ended, 10)


def test_only_folders_that_nobody_holds_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Given a folder in use, one being made, one left long ago, a link, and somebody's file
    alive = SocketFolder()
    young, old = tmp_path / f"{PREFIX}young", tmp_path / f"{PREFIX}old"
    elsewhere = tmp_path / "elsewhere"
    for folder in (young, old, elsewhere):
        folder.mkdir()
    (elsewhere / LOCK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    os.utime(old, (0, 0))
    # And one whose lock nobody holds any more
    killed = tmp_path / f"{PREFIX}killed"
    killed.mkdir()
    (killed / LOCK).touch()
    (killed / "s").touch()
    # When the next connection makes its own
    SocketFolder().remove()
    # Then those two are gone that nobody uses.
    left = {path.name for path in tmp_path.iterdir()}
    names = {alive.path.name, young.name, f"{PREFIX}link", f"{PREFIX}file", "elsewhere"}
    assert left == names
    assert (elsewhere / LOCK).exists()
    alive.remove()
    assert not alive.path.exists()

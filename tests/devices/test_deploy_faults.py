"""Faults while deploying: exit codes, messages, and files left on the device.

`fault` names the table's row that a test proves; docs/devices.md shows the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sshd

from edgekit.devices import Remote, find_devices, session, ssh
from edgekit.errors import DeviceError

TABLE: dict[str, str] = {}


def fault(what, code, here, there):
    """Say what a test proves: fault, exit code, what becomes of it here, what is left there."""

    def proven(test):
        TABLE[what] = f"| {what} | {code} | {here} | {there} |"
        return test

    return proven


FAULTS = {
    "disk really full": ("", "no room", "No space left on device"),
    "disk full": ("ulimit -f 20", "no room", "File too large"),
    "read-only home": ('chmod 555 "$HOME"', "edgekit cannot write to", "Permission denied"),
}


def meanwhile(condition, action):
    """Do something in another thread as soon as something is so."""

    def wait():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if condition():
                action()
                return
            time.sleep(0.005)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def settled(board):
    """Wait until no program runs on the device."""
    end = time.monotonic() + 20
    while (found := board.programs()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def benching(board):
    return any(" bench " in p and "base64" not in p for p in board.programs())


@fault(
    "connection lost while a file is sent",
    0,
    "the transfer is resumed",
    "nothing",
)
def test_a_connection_killed_while_a_file_is_sent(board, tmp_path):
    # Given a file that takes a while, and a connection that breaks when a part of it is there
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(48_000_000))
    parts = lambda: [p for p in board.home.rglob("*.part") if p.stat().st_size > 1_000_000]  # noqa: E731
    heard = []
    cutting = meanwhile(parts, board.cut)
    # When it is sent
    with Remote(*find_devices(["board"]), listener=heard.append) as device:
        place = device.send(big)
        cutting.join()
        # Then it is whole, and what had arrived was not sent again.
        assert Path(place).read_bytes() == big.read_bytes()
        starts = [p.done for p in heard if p.detail == "big.bin"]
        assert starts[0] == 0
        assert any(1_000_000 < done < 48_000_000 for done in starts)
    assert board.left() == []
    assert settled(board) == []


@fault(
    "connection lost while a model runs",
    0,
    "the run is repeated",
    "nothing; the first run is stopped",
)
def test_a_connection_killed_while_the_model_runs(board, edgekit, model):
    cutting = meanwhile(lambda: benching(board), board.cut)
    ended = edgekit("deploy", model, "--device", "board", "--runs", "2000", "--json")
    cutting.join()
    assert ended.code == 0, ended.err
    assert ended.rows[0]["latency"]["n"] == 2000
    assert "connection was lost" in ended.err
    assert board.left() == []
    assert settled(board) == []


@fault(
    "device restarts its sshd, or is away for ten seconds",
    0,
    "waits up to a minute, then continues",
    "nothing",
)
def test_sshd_gone_for_ten_seconds(board, edgekit, model):
    def reboot():
        board.stop()
        time.sleep(10)
        board.start()

    rebooting = meanwhile(lambda: benching(board), reboot)
    ended = edgekit("deploy", model, "--device", "board", "--runs", "2000", "--json")
    rebooting.join()
    assert ended.code == 0, ended.err
    assert ended.rows[0]["latency"]["n"] == 2000
    assert board.left() == []


@fault(
    "device does not come back",
    7,
    "an error message",
    "nothing; it cleans up by itself after two minutes",
)
def test_a_device_that_is_gone_for_good_tidies_up_by_itself(board, edgekit, model, monkeypatch):
    monkeypatch.setattr(ssh, "PAUSES", (0.2, 0.4))
    monkeypatch.setattr(session, "ABANDONED_SECONDS", 1)
    cutting = meanwhile(lambda: benching(board), board.stop)
    ended = edgekit("deploy", model, "--device", "board", "--runs", "2000")
    cutting.join()
    assert ended.code == 7
    assert "could not be reached again" in ended.err
    assert settled(board) == []
    assert board.left() == []


@pytest.mark.parametrize("end", [KeyboardInterrupt, None])
def test_a_session_that_ends_while_it_is_opened_is_removed(board, monkeypatch, end):
    # Given a host that is interrupted, or gone, before it hears that the session is open
    attempt = session.RemoteSession.attempt
    monkeypatch.setattr(session, "ABANDONED_SECONDS", 1)

    def interrupted(self, step, *words, **options):
        if step == "clean" and end is None:
            raise DeviceError("It is gone.")
        found = attempt(self, step, *words, **options)
        if step == "open":
            raise end or DeviceError("It is gone.")
        return found

    monkeypatch.setattr(session.RemoteSession, "attempt", interrupted)
    (entry,) = find_devices(["board"])
    with pytest.raises(end or DeviceError), Remote(entry):
        pass
    # Then the device is as it was before.
    assert settled(board) == []
    assert board.left() == []


@fault("no space left on the device", 7, "an error message", "nothing")
@fault("home folder read-only", 7, "an error message", "nothing")
@pytest.mark.parametrize("name", FAULTS)
def test_a_device_that_cannot_be_written(board, edgekit, model, name, request):
    limits, what, found = FAULTS[name]
    if name == "disk really full":
        limits = request.getfixturevalue("small_disk")
    board.limits = limits
    board.stop()
    board.start()
    ended = edgekit("deploy", model, "--device", "board", "--quiet")
    assert ended.code == 7
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert what in lines[0]
    assert found in lines[1]
    assert board.left() == []


@pytest.fixture
def small_disk(board):
    """A disk of 100 kB for the device's home; what to do before every command to see it."""
    drop = {} if os.getuid() else {"user": sshd.NOBODY, "group": sshd.NOBODY, "extra_groups": ()}
    mount = 'mount -t tmpfs -o size=100k,mode=755 none "$1" && echo ready && exec cat'
    holder = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", mount, "sh", board.home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **drop,
    )
    with holder:
        if holder.stdout.readline() != b"ready\n":
            pytest.skip("no user namespaces here, in which to mount a small disk")
        enter = f"nsenter -t {holder.pid} -U -m --preserve-credentials"
        yield f'exec {enter} sh -c "cd; $SSH_ORIGINAL_COMMAND"'
        holder.stdin.close()


def wheel(folder, tags, **files):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"ai_edge_litert-2.3.0-{tags}.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"ai_edge_litert/{name.replace('__so', '.so')}", content)


@fault(
    "`--wheels` of another architecture, by their names",
    7,
    "the message names the one needed",
    "nothing",
)
def test_a_wheel_of_another_architecture_by_its_name(board, edgekit, model, tmp_path):
    wheel(tmp_path / "wheels", "cp311-cp311-manylinux_2_27_s390x")
    ended = edgekit(
        "deploy", model, "--device", "board", "--setup", "--wheels", tmp_path / "wheels", "-q"
    )
    assert ended.code == 7
    assert "No wheel in" in ended.err
    assert "s390x" in ended.err
    assert board.left() == []


@fault(
    "`--wheels` of another architecture, by their content",
    7,
    "the message names the library",
    "nothing",
)
def test_a_wheel_of_another_architecture_by_its_content(board, edgekit, model, tmp_path):
    # Given a wheel whose name says x86_64 and whose library is for 64-bit ARM (e_machine 183)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little")
    header += (183).to_bytes(2, "little") + bytes(100)
    wheel(
        tmp_path / "wheels",
        f"py3-none-manylinux_2_17_{os.uname().machine}",
        **{
            "__init__.py": "",
            "interpreter.py": "import ctypes, os\n"
            "ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'core.so'))\n",
            "core__so": header,
        },
    )
    ended = edgekit(
        "deploy", model, "--device", "board", "--setup", "--wheels", tmp_path / "wheels", "-q"
    )
    assert ended.code == 7
    assert "cannot be imported" in ended.err
    assert "core.so" in ended.err
    assert board.left() == []


@fault(
    "names with spaces, quotes, dashes, newlines, semicolons",
    0,
    "results",
    "nothing",
)
def test_hostile_names(board, edgekit, model, tmp_path):
    names = [
        "with space.tflite",
        'it\'s "quoted".tflite',
        "-o ProxyCommand.tflite",
        "new\nline.tflite",
        "semi;touch ran;.tflite",
        "$(touch ran)`touch ran`.tflite",
    ]
    for name in names:
        (tmp_path / name).write_bytes(model.read_bytes())
    ended = edgekit("deploy", "--device", "board", "--runs", "2", "--json", "--", *names)
    assert ended.code == 0, ended.err
    assert [row["path"] for row in ended.rows] == names
    assert not Path("ran").exists()
    assert board.left() == []


@pytest.mark.parametrize("host", ["-oProxyCommand=touch ran", "a b", "a\nb", ""])
def test_a_host_that_is_an_option_is_refused(board, edgekit, model, host):
    ended = edgekit("deploy", model, f"--device={host}")
    assert ended.code == 2
    assert not Path("ran").exists()


@fault(
    "a model that crashes the runtime",
    0,
    "results of the others; its row says why (3 where it is the only one)",
    "nothing",
)
def test_a_model_that_ends_the_interpreter(start, edgekit, golden, model):
    # Given an interpreter that dies in its second measurement
    board = start(
        before='case "$*" in *base64*) ;; *" bench "*) '
        'if [ -e "$HOME/.cache/edgekit/once" ]; then rm "$HOME/.cache/edgekit/once"; '
        'kill -SEGV $$; fi; : > "$HOME/.cache/edgekit/once";; esac'.replace("-SEGV", "-11")
    )
    second = golden / "runner" / "pair.tflite"
    ended = edgekit("deploy", model, second, "--device", "board", "--runs", "2", "--json", "-q")
    assert ended.code == 0, ended.err
    assert [row["path"] for row in ended.rows] == [str(model), str(second)]
    assert [row["latency"] is None for row in ended.rows] == [False, True]
    assert "SIGSEGV" in ended.rows[1]["failure"]
    (said,) = (text for text in json.loads(ended.out)["warnings"] if "SIGSEGV" in text)
    assert said.startswith("pair cannot be run on board: ")
    assert board.left() == []


def test_files_that_fail_do_not_stop_the_others(board, edgekit, model, tmp_path):
    # Given a damaged file before one that runs
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(model.read_bytes()[:900])
    np.savez(tmp_path / "one.npz", inputs=np.zeros((1, 61, 40, 1), np.float32))
    words = ("--device", "board", "-q")
    # When they are timed, and when they are to answer
    timed = edgekit("deploy", damaged, model, *words, "--runs", "2", "--json")
    answered = edgekit("deploy", damaged, model, *words, "--run", "one.npz")
    # Then the second does, and something is said of the first.
    assert timed.code == 0, timed.err
    assert [row["failure"] is None for row in timed.rows] == [False, True]
    assert answered.code == 0, answered.err
    assert [json.loads(line)["model"] for line in answered.out.splitlines()] == [str(model)]
    assert answered.err.startswith(f"Warning: {damaged} cannot be run on board: ")
    # Where none does, it is an error.
    for what in (("--runs", "2"), ("--run", "one.npz")):
        alone = edgekit("deploy", damaged, *words, *what)
        assert (alone.code, alone.out) == (3, "")
        assert "damaged.tflite" in alone.err


@fault(
    "one device of several fails",
    7,
    "results of the others",
    "nothing",
)
def test_one_device_of_several_fails(board, edgekit, model):
    Path("devices.toml").write_text(
        f'[good]\nhost = "board"\nthreads = 2\n[off]\nhost = "board"\nport = 1\n'
        f'[other]\nhost = "board"\nssh_config = {json.dumps(str(board.config))}\n'
    )
    ended = edgekit("deploy", model, "--device", "all", "--runs", "5", "--json", "-q")
    assert ended.code == 7
    assert [row["latency"]["device"].split(":")[0] for row in ended.rows] == ["good", "other"]
    assert [row["latency"]["threads"] for row in ended.rows] == [2, 1]
    described = json.loads(ended.out)["devices"]
    assert list(described) == [row["latency"]["device"] for row in ended.rows]
    first, what, *_, last = ended.err.splitlines()
    assert first == "1 of 3 devices failed: off."
    assert what == "off: board cannot be reached."
    assert last == "The rows of the others are complete."
    # Two sessions in one home: the one that made ~/.cache may not be the last to leave.
    assert board.left() in ([], [".cache"])


@fault(
    "host key unknown",
    7,
    "the message says how to check it",
    "nothing was sent",
)
def test_an_unknown_host_key_is_never_accepted(board, edgekit, model):
    (board.folder / "known").write_text("")
    ended = edgekit("deploy", model, "--device", "board", "-q")
    assert ended.code == 7
    assert "does not trust the host key" in ended.err
    assert (board.folder / "known").read_text() == ""


@fault(
    "host key changed",
    7,
    "the message says how to check it",
    "nothing was sent",
)
def test_a_host_key_that_has_changed(board, edgekit, model):
    known = board.folder / "known"
    other = (board.folder / "client.pub").read_text()
    known.write_text(f"[127.0.0.1]:{board.port} {other}")
    ended = edgekit("deploy", model, "--device", "board", "-q")
    assert ended.code == 7
    assert "has changed" in ended.err
    assert "ssh-keygen -R" in ended.err


@fault(
    "no Python 3.8 there",
    7,
    "the message lists what was tried",
    "nothing",
)
def test_there_is_no_python(board, edgekit, model):
    Path("devices.toml").write_text('[old]\nhost = "board"\npython = "/opt/none/python3"\n')
    ended = edgekit("deploy", model, "--device", "old", "-q")
    assert ended.code == 7
    assert "has no Python 3.8" in ended.err
    assert "/opt/none/python3" in ended.err
    assert board.left() == []


@fault(
    "no key, or one that is refused",
    7,
    "the message says how to install one; no password is asked",
    "nothing was sent",
)
def test_a_key_that_is_not_accepted(board, edgekit, model):
    (board.folder / "authorized").write_text("")
    ended = edgekit("deploy", model, "--device", "board", "-q")
    assert ended.code == 7
    assert "Permission denied by board" in ended.err
    assert "ssh-copy-id" in ended.err


@fault(
    "a run beyond `timeout`",
    7,
    "an error message",
    "nothing; the run is stopped",
)
def test_a_run_that_takes_too_long(board, model):
    Path("devices.toml").write_text('[slow]\nhost = "board"\ntimeout = 2\n')
    with (
        Remote(*find_devices(["slow"])) as device,
        pytest.raises(DeviceError, match="more than 2 s"),
    ):
        device.bench(device.send(model), ["--runs", "900000"], about=model)
    assert board.left() == []
    assert settled(board) == []


def test_the_table_in_the_docs_is_this_one(repository):
    text = (repository / "docs" / "devices.md").read_text()
    head = "| what happens | exit code | on the host | left on the device |"
    shown = [line for line in text.partition(head)[2].splitlines()[2:] if line or not text]
    assert sorted(shown[: len(TABLE)]) == sorted(TABLE.values())

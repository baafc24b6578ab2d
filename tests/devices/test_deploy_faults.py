"""What may go wrong on the way to a device, and what is left of it.

| fault | exit code | on the host | on the device |
|---|---|---|---|
| connection killed while a file is sent | 0 | sent on from where it broke | nothing |
| connection killed while the model runs | 0 | the run is repeated | the first run is ended |
| sshd gone for ten seconds | 0 | waits, and goes on | nothing |
| gone for good | 7 | says so | its own watch tidies up |
| disk full | 7 | says so | nothing |
| home folder read-only | 7 | says so | nothing |
| wheel of another architecture, by its name | 7 | says so | nothing |
| wheel of another architecture, by its content | 7 | says so | nothing |
| names with spaces, quotes, dashes, newlines, semicolons | 0 | rows | nothing, nothing run |
| a model that ends the interpreter | 3 | rows of the models before it | nothing |
| one device of several fails | 7 | rows of the others | nothing |
| host key unknown | 7 | says so | never entered |
| key not accepted | 7 | says so | never entered |
"""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from pathlib import Path

import pytest

from edgekit.devices import Remote, find_devices, remote, ssh
from edgekit.errors import DeviceError

FAULTS = {
    "disk full": ("ulimit -f 20", "no room", "File too large"),
    "read-only home": ('chmod 555 "$HOME"', "does not let edgekit write", "Permission denied"),
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
    return any(" bench " in program and " -c " not in program for program in board.programs())


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


def test_a_connection_killed_while_the_model_runs(board, edgekit, model):
    cutting = meanwhile(lambda: benching(board), board.cut)
    ended = edgekit("deploy", model, "--device", "board", "--runs", "2000", "--json")
    cutting.join()
    assert ended.code == 0, ended.err
    assert ended.rows[0]["latency"]["n"] == 2000
    assert "connection was lost" in ended.err
    assert board.left() == []
    assert settled(board) == []


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


def test_a_device_that_is_gone_for_good_tidies_up_by_itself(board, edgekit, model, monkeypatch):
    monkeypatch.setattr(ssh, "PAUSES", (0.2, 0.4))
    monkeypatch.setattr(remote, "ABANDONED_SECONDS", 1)
    cutting = meanwhile(lambda: benching(board), board.stop)
    ended = edgekit("deploy", model, "--device", "board", "--runs", "2000")
    cutting.join()
    assert ended.code == 7
    assert "did not come back" in ended.err
    assert settled(board) == []
    assert board.left() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_device_that_cannot_be_written(board, edgekit, model, fault):
    limits, what, found = FAULTS[fault]
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


def wheel(folder, tags, **files):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"ai_edge_litert-2.3.0-{tags}.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"ai_edge_litert/{name.replace('__so', '.so')}", content)


def test_a_wheel_of_another_architecture_by_its_name(board, edgekit, model, tmp_path):
    wheel(tmp_path / "wheels", "cp311-cp311-manylinux_2_27_s390x")
    ended = edgekit(
        "deploy", model, "--device", "board", "--setup", "--wheels", tmp_path / "wheels", "-q"
    )
    assert ended.code == 7
    assert "No wheel in" in ended.err
    assert "s390x" in ended.err
    assert board.left() == []


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


def test_a_model_that_ends_the_interpreter(start, edgekit, golden, model):
    # Given an interpreter that dies in its second measurement
    board = start(
        before='case "$1 $*" in -c*) ;; *" bench "*) '
        'if [ -e "$HOME/.cache/edgekit/once" ]; then rm "$HOME/.cache/edgekit/once"; '
        'kill -SEGV $$; fi; : > "$HOME/.cache/edgekit/once";; esac'.replace("-SEGV", "-11")
    )
    second = golden / "runner" / "pair.tflite"
    ended = edgekit("deploy", model, second, "--device", "board", "--runs", "2", "--json", "-q")
    assert ended.code == 3
    assert [row["path"] for row in ended.rows] == [str(model)]
    assert "pair.tflite crashes the runtime" in ended.err
    assert "SIGSEGV" in ended.err
    assert board.left() == []


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
    assert ended.err.startswith("1 of 3 devices failed: off.")
    # Two sessions in one home: the one that made ~/.cache may not be the last to leave.
    assert board.left() in ([], [".cache"])


def test_an_unknown_host_key_is_never_accepted(board, edgekit, model):
    (board.folder / "known").write_text("")
    ended = edgekit("deploy", model, "--device", "board", "-q")
    assert ended.code == 7
    assert "does not trust the host key" in ended.err
    assert (board.folder / "known").read_text() == ""


def test_a_key_that_is_not_accepted(board, edgekit, model):
    (board.folder / "authorized").write_text("")
    ended = edgekit("deploy", model, "--device", "board", "-q")
    assert ended.code == 7
    assert "does not let you in" in ended.err
    assert "ssh-copy-id" in ended.err


def test_a_run_that_takes_too_long(board, model):
    Path("devices.toml").write_text('[slow]\nhost = "board"\ntimeout = 2\n')
    with (
        Remote(*find_devices(["slow"])) as device,
        pytest.raises(DeviceError, match="more than 2 s"),
    ):
        device.bench(device.send(model), ["--runs", "900000"], about=model)
    assert board.left() == []
    assert settled(board) == []

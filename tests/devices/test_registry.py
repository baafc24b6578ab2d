"""Names and addresses of devices: nothing that ssh or a shell interprets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.devices import DeviceEntry, find_devices
from edgekit.devices.grammar import RULES
from edgekit.devices.registry import read_devices
from edgekit.errors import UsageError

TEXTS = ("host", "jump", "python", "identity", "ssh_config")
HOSTILE = [
    "$(touch ran)",
    "a$(touch${IFS}ran)",
    "`touch ran`",
    "a;touch ran",
    "a|touch ran",
    "a&touch ran",
    "a>ran",
    "a\ntouch ran",
    "a touch",
    "a -oProxyCommand=touch${IFS}ran",
    "-oProxyCommand=touch ran",
    "-a",
    "%h",
    "a%h",
    "a%%",
    "${HOME}",
    "~root/a",
    "a~",
    "a'b",
    'a"b',
    "a\\b",
    "a(b",
    "a{b,c}",
    "a*",
    "a?",
    "a[b]",
    "a#b",
    "a!b",
    "a\x1b[31m",
    "a\x7f",
    "a\u202eb",
    "a\x00",
    "",
    " ",
    "a" * 256,
    "python3;touch ran",
    "/bin/touch ran #python3",
]
HOSTILE_OF = {
    "host": [
        "@pi", "pi@", "a@b@pi", "-u@pi", "$(touch ran)@pi", "pi:22", "ssh://pi", "[::1]",
        "fe80::1%h;touch ran", "fe80::1%", "pi%eth0", "pi,attic", "pi/attic", "пи",
    ],
    "jump": [
        ",", "a,", "a,,b", "a,-oX", "a,$(touch ran)", "a:0", "a:65536", "a:x", "a:", "a:22:22",
        "[::1", "::1", "[::1]22", "[$(touch ran)]", "[fe80::1%h]", "[fe80::1%eth0]", "u@", "a:٢٢",
    ],
    "python": ["touch", "/sbin/poweroff", "~/env/bin/python", "python3 -c", "/python3/sh"],
    "identity": ["~", "~/", "%d/key", "~root/.ssh/id", "-i", "/etc/$USER", "a b"],
    "ssh_config": ["/a b", "/etc/ssh/x;touch ran", "/x -oProxyCommand=sh", "%d/config"],
    "port": [0, -1, 65536, 22.0, "22", "$(touch ran)", True, float("nan"), float("inf"), [22]],
    "threads": [0, -1, 1025, 2.5, "2", True, float("nan"), float("inf"), 10**30, [2]],
    "timeout": [0, -1, 1e6, True, "600", float("nan"), float("inf"), float("-inf"), 10**400],
}  # fmt: skip
GOOD = {
    "host": [
        "pi", "pi@raspberrypi.local", "my_alias", "192.0.2.7", "pi@192.0.2.7", "::1",
        "pi@2001:db8::1", "fe80::1%eth0", "first.last+x@pi-4.example.org",
    ],
    "jump": [
        "gate", "none", "me@gate.example.org:2222", "gate,me@second:22,third", "[2001:db8::1]",
        "me@[2001:db8::1]:22,gate",
    ],
    "python": ["python", "python3", "python3.13t", "/opt/my-env/bin/python3", "env/bin/pypy3"],
    "identity": ["~/.ssh/id_ed25519", "/keys/me@host", "keys/pi", ".ssh/pi", "../pi", "~/ключ"],
    "ssh_config": ["~/lab/ssh_config", "none", "/etc/ssh/a,b=c+d"],
    "port": [1, 22, 65535],
    "threads": [1, 1024],
    "timeout": [0.5, 1, 600, 1.5, 999_999],
}  # fmt: skip
EVERY_HOSTILE = [(key, value) for key in TEXTS for value in HOSTILE] + [
    (key, value) for key, values in HOSTILE_OF.items() for value in values
]
EVERY_GOOD = [(key, value) for key, values in GOOD.items() for value in values]


def toml(value):
    """A value as TOML writes it."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def write(path, **keys):
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = {"host": "board", **keys}
    path.write_text("[pi]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in keys.items()))
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, and an empty configuration folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("EDGEKIT_SSH_CONFIG", raising=False)
    return tmp_path


@pytest.mark.parametrize(("key", "value"), EVERY_HOSTILE)
def test_a_hostile_value_is_refused_and_nothing_runs(edgekit, model, here, key, value):
    # Given a file of the user's own, so that only the value can be what is wrong
    write(here / "config" / "edgekit" / "devices.toml", **{key: value})
    # When its device is asked for
    ended = edgekit("deploy", model, "--device", "pi")
    # Then the error names the key, in plain characters, and nothing was run.
    assert ended.code == 2
    assert f"[pi]: invalid value for {key}: " in ended.err
    assert len(ended.err.splitlines()) <= 3
    assert ended.err.replace("\n", "").isprintable()
    assert len(ended.err) < 600
    assert not list(here.rglob("ran"))
    # And Python is told the same, without a file.
    with pytest.raises(UsageError, match=f"invalid value for {key}"):
        DeviceEntry(**{"name": "pi", "host": "board", key: value})


@pytest.mark.parametrize("word", HOSTILE + HOSTILE_OF["host"])
def test_a_hostile_host_on_the_command_line_is_refused(edgekit, model, here, word):
    ended = edgekit("deploy", model, f"--device={word}")
    assert ended.code == 2
    assert "is not a host name" in ended.err
    assert ended.err.replace("\n", "").isprintable()
    assert not list(here.rglob("ran"))


@pytest.mark.parametrize("path", ["/etc/ssh/x;touch ran", "/x -oProxyCommand=sh", "$(touch ran)"])
def test_a_hostile_configuration_in_the_environment_is_refused(
    edgekit, model, here, monkeypatch, path
):
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", path)
    ended = edgekit("deploy", model, "--device=board")
    assert ended.code == 2
    assert ended.err.startswith("EDGEKIT_SSH_CONFIG: invalid value for ssh_config")
    assert not list(here.rglob("ran"))


@pytest.mark.parametrize(("key", "value"), EVERY_GOOD)
def test_what_a_key_may_hold_is_taken_as_it_is(here, key, value):
    path = write(here / "lab.toml", **{key: value})
    (device,) = find_devices(["pi"], path)
    assert getattr(device, key) == value


@pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh here")
@pytest.mark.parametrize(
    ("key", "value"), [pair for pair in EVERY_GOOD if pair[0] in ("host", "jump")]
)
def test_ssh_understands_what_is_taken(key, value):
    words = ["-J", value, "--", "board"] if key == "jump" else ["--", value]
    done = subprocess.run(
        ["ssh", "-G", "-F", "none", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    if key == "host":
        assert shown["hostname"] == value.rpartition("@")[2]
    elif value != "none":
        assert "2001:db8::1" in shown["proxyjump"] or shown["proxyjump"] == value


def test_every_key_is_covered():
    assert set(GOOD) == set(HOSTILE_OF) == set(RULES)


@pytest.fixture
def own_files(here):
    """What `identity` and `ssh_config` would do: a configuration that runs a program."""
    config = here / "ssh_config"
    config.write_text(f"Host board\n  ProxyCommand touch {here}/ran\n")
    return {"ssh_config": str(config), "identity": str(here / "key")}


@pytest.mark.parametrize("key", ["ssh_config", "identity"])
@pytest.mark.parametrize("asked", ["pi", "all"])
@pytest.mark.parametrize("command", ["deploy", "bench", "eval"])
def test_a_file_that_lies_here_names_no_local_files(  # noqa: PLR0917
    edgekit, model, here, own_files, key, asked, command
):
    # Given a devices.toml in the current folder, as a cloned repository may bring it
    write(here / "devices.toml", **{key: own_files[key]})
    data = ("--data", "digits") if command == "eval" else ()
    # When a device of it is asked for
    ended = edgekit(command, model, "--device", asked, *data)
    # Then the file it names is not used, and the hint says how it would be.
    assert ended.code == 2
    assert f"devices.toml, [pi]: {key} is not taken" in ended.err
    assert "--devices devices.toml" in ended.err
    assert not (here / "ran").exists()


@pytest.mark.skipif(not shutil.which("ssh"), reason="no ssh here")
@pytest.mark.parametrize("place", ["devices.toml", "lab/my.toml", "config/edgekit/devices.toml"])
def test_a_file_that_is_named_or_the_users_own_is_trusted(edgekit, model, here, own_files, place):
    # Given the same file, which the user names, or which lies in their configuration folder
    write(here / place, **own_files)
    named = () if place.startswith("config") else ("--devices", place)
    # When its device is asked for
    ended = edgekit("deploy", model, "--device", "pi", *named, "-q")
    # Then ssh reads its configuration (whose ProxyCommand leads nowhere).
    assert ended.code == 7
    assert (here / "ran").exists()


def test_the_users_own_file_is_trusted_from_its_folder_too(here, own_files, monkeypatch):
    path = write(here / "config" / "edgekit" / "devices.toml", **own_files)
    monkeypatch.chdir(path.parent)
    (device,) = find_devices(["pi"])
    assert device.identity == own_files["identity"]


def test_a_host_that_is_typed_does_not_need_the_file_here(here, own_files):
    write(here / "devices.toml", **own_files)
    (device,) = find_devices(["me@board"])
    assert (device.identity, device.ssh_config) == (None, None)


def test_python_names_the_file_as_the_command_line_does(here, own_files, model):
    from edgekit import api

    write(here / "devices.toml", **own_files)
    write(here / "bad.toml", port=0)
    with pytest.raises(UsageError, match="is not taken"):
        api.deploy([model], "pi")
    with pytest.raises(UsageError, match="invalid value for port"):
        api.deploy([model], "pi", devices="bad.toml")


@pytest.mark.parametrize("command", ["bench", "eval"])
def test_a_file_without_a_device_means_nothing(edgekit, model, command):
    data = ("--data", "digits") if command == "eval" else ()
    ended = edgekit(command, model, "--devices", "devices.toml", *data)
    assert ended.code == 2
    assert "--devices has no effect without --device" in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[pi]\nhost = "a"\nprot = 3', "Did you mean port?"),
        ('[pi]\nhost = "a"\noptions = 3', "Known: host, python, port"),
        ('[pi]\nhost = "a"\n"x\\u001b[31m" = 3', "there is no key 'x\\x1b[31m'"),
        ('[pi]\nhost = "a"\nport = nan', "invalid value for port: nan."),
        ('[pi]\nhost = "a"\ntimeout = 1e999', "invalid value for timeout: inf."),
        ('[pi]\nhost = "a"\nport = 1e400', "invalid value for port: inf."),
        (f'[pi]\nhost = "a"\nport = {"9" * 5000}', "Line 3 has more than 1000 characters."),
        (f'[pi]\nhost = "a"\nport = 0x{"f" * 900}', "invalid value for port: a huge number."),
        (f'[pi]\nhost = "a"\ntimeout = {"9" * 900}', "invalid value for timeout: a huge number."),
        ('[pi]\nhost = "a"\ntimeout = 2000-01-01', "invalid value for timeout: a date."),
        ("[pi]\nhost = " + "[\n" * 20_000, "Its values are nested too deeply."),
        ("[pi]\nhost = " + "{a=" * 300, "cannot be read"),
        (f"[pi]\nhost = {'[' * 50}{']' * 50}", "invalid value for host: a list."),
        (f"[pi]\nhost{'.a' * 490} = 1", "invalid value for host: a table."),
        (f"[pi{'.a' * 490}]", "there is no key 'a'"),
        ("[pi]\nport = 22", "host is missing"),
        ('[all]\nhost = "a"', "means every device"),
        ('["x\\u001b[31m"]\nhost = "a"', "invalid device name: 'x\\x1b[31m'"),
        ('["x\\u202ey"]\nhost = "a"', "invalid device name: 'x\\u202ey'"),
        ('["x\\ny"]\nhost = "a"', "invalid device name: 'x\\ny'"),
        ('[""]\nhost = "a"', "invalid device name: ''"),
        (f'["{"x" * 256}"]\nhost = "a"', "invalid device name: 'xxx"),
        (f'"{"x" * 256}" = 3', "invalid device name: 'xxx"),
        ("pi = 3", "is not a device"),
        ("[pi", "cannot be read"),
        ("#\n" * 50_001, "It has more than 100 kB."),
        (f"[pi{'.a' * 20_000}]", "Line 1 has more than 1000 characters."),
        (b"[pi]\nhost = '\xff'", "cannot be read"),
    ],
    ids=range(28),
)
def test_a_registry_that_means_nothing_is_refused(edgekit, model, text, said):
    Path("devices.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = edgekit("deploy", model, "--device", "pi")
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) <= 3
    assert ended.err.replace("\n", "").isprintable()
    assert len(ended.err) < 600


def test_a_registry_that_is_no_file_is_refused(here):
    os.mkfifo(here / "pipe")
    for name, said in (("pipe", "not a regular file"), (".", "not a regular"), ("none", "No such")):
        with pytest.raises(UsageError, match=said):
            read_devices(here / name)


def test_a_pipe_in_place_of_the_registry_is_refused(edgekit, model, here):
    os.mkfifo(here / "devices.toml")
    ended = edgekit("bench", model, "--device", "pi")
    assert ended.code == 2
    assert "devices.toml cannot be read." in ended.err
    assert "not a regular file" in ended.err


def test_a_name_of_255_characters_is_a_name(here):
    name = "x y" * 85
    Path("devices.toml").write_text(f'["{name}"]\nhost = "board"\n')
    assert [device.name for device in find_devices(["all"])] == [name]


def test_a_registry_without_a_device_has_no_all(here):
    Path("devices.toml").write_text("")
    with pytest.raises(UsageError, match=r"No device in devices\.toml"):
        find_devices(["all"])

"""The user's devices: `devices.toml`, or a host as one would type it after `ssh`.

[pi4]
host = "pi@192.0.2.7"

[attic]
host = "attic"              # a name of the user's ssh configuration
python = "/home/pi/env/bin/python"
threads = 4

A file that lies in the current folder may be anybody's, a cloned repository's for example: it names
hosts, but none of this machine's files (`identity`, `ssh_config`), unless the user names it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.devices import grammar
from edgekit.errors import UsageError

FILE = "devices.toml"
ALL = "all"
# More than anybody's devices. tomllib's time grows with the square of a dotted key's parts.
MOST_BYTES = 100_000
MOST_CHARACTERS_A_LINE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEntry:
    """A machine that SSH reaches: an entry of `devices.toml`, or a host.

    Attributes:
        name: What tables call it.
        host: Host or user@host, as ssh takes it.
        python: The interpreter there; None looks for python3.
        port: Port of its sshd; None leaves it to ssh.
        identity: File of a private key; None leaves it to ssh.
        threads: Interpreter threads unless the command line says otherwise.
        jump: A host to go through, as `ssh -J` takes it.
        timeout: Seconds that one run of a model may take.
        ssh_config: A configuration file for ssh in place of the user's.
        meant: The name in `devices.toml` that was meant, perhaps, where `name` is none of them.

    Raises:
        UsageError: A value has characters that could mean more to ssh or to a shell.
    """

    name: str
    host: str
    python: str | None = None
    port: int | None = None
    identity: str | None = None
    threads: int | None = None
    jump: str | None = None
    timeout: float = 600
    ssh_config: str | None = None
    meant: str | None = None

    def __post_init__(self) -> None:
        if not grammar.is_printable(self.name):
            raise _bad_name(self.name, "A device")
        for key in grammar.RULES:
            value = getattr(self, key)
            if value is not None:
                grammar.check(key, value, self.name)


def find_devices(asked: Sequence[str], file: Path | None = None) -> tuple[DeviceEntry, ...]:
    """Return the devices that names, hosts or "all" stand for, each once.

    Args:
        asked: The names, hosts, or "all".
        file: The `devices.toml`, trusted with this machine's files; None takes the one in the
            current folder, which is not, or else the user's own.

    Raises:
        UsageError: `devices.toml` cannot be understood, there are none for "all", or a name is no
            host name.
    """
    path = file or _registry()
    known = read_devices(path) if path else {}
    trusted = path is None or path == file or _is_own(path)
    found: dict[str, DeviceEntry] = {}
    for word in asked:
        if word == ALL and not known:
            raise UsageError(
                "--device all: no device is configured.",
                found=f"No device in {path}."
                if path
                else f"No {FILE} here and none in {_config_folder()}.",
                hint='Write one ([pi4] and host = "pi@192.0.2.7"), or give --device user@host.',
            )
        some = known.values() if word == ALL else [known.get(word) or _from_word(word, known)]
        for device in some:
            if not trusted:
                _refuse_files(device)
            found[device.name] = device
    return tuple(found.values())


def read_devices(path: Path) -> dict[str, DeviceEntry]:
    """Read a `devices.toml`: name -> device, in the file's order.

    Raises:
        UsageError: It cannot be read, or has an unknown key or an invalid value.
    """
    tables = _tables(path)
    return {name: _device(name, table, path) for name, table in tables.items()}


def _tables(path: Path) -> dict[str, Any]:
    hint = 'A device is a table: [pi4], and below it host = "pi@192.0.2.7".'
    try:
        return tomllib.loads(_text(path))
    except RecursionError:
        found = "Its values are nested too deeply."
    except ValueError as error:
        found = str(error)
    except OSError as error:
        found = error.strerror or str(error)
        hint = f"Give --devices a {FILE} that can be read."
    raise UsageError(f"{path} cannot be read.", found=found, hint=hint)


def _text(path: Path) -> str:
    # A pipe or the file of a device might never end.
    if path.exists() and not path.is_file():
        raise OSError("It is not a regular file.")
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"It has more than {MOST_BYTES // 1_000} kB.")
    text = content.decode()
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MOST_CHARACTERS_A_LINE:
            raise ValueError(f"Line {number} has more than {MOST_CHARACTERS_A_LINE} characters.")
    return text


def _device(name: str, table: Any, path: Path) -> DeviceEntry:
    if not grammar.is_printable(name):
        raise _bad_name(name, str(path))
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise UsageError(
            f"{path}: {name!r} is not a device.", hint=f"Write [{name}] with its keys below."
        )
    if name == ALL:
        raise UsageError(f"{where}: this name means every device.", hint="Choose another.")
    for key, value in table.items():
        if key not in grammar.RULES:
            close = difflib.get_close_matches(key[:80], grammar.RULES, n=1, cutoff=0.7)
            known = ", ".join(grammar.RULES)
            raise UsageError(
                f"{where}: there is no key {grammar.shown(key)}.",
                hint=f"Did you mean {close[0]}?" if close else f"Known: {known}.",
            )
        grammar.check(key, value, where)
    if "host" not in table:
        raise UsageError(f"{where}: host is missing.", hint='Add host = "user@address".')
    return DeviceEntry(name=name, **{"ssh_config": _ssh_config(), **table})


def _bad_name(name: str, where: str) -> UsageError:
    return UsageError(
        f"{where}: invalid device name: {grammar.shown(name)}.",
        hint=f"Expected: 1 to {grammar.MOST_CHARACTERS} printable characters.",
    )


def _from_word(word: str, known: Mapping[str, DeviceEntry]) -> DeviceEntry:
    if not grammar.is_host(word):
        raise UsageError(
            f"--device: {grammar.shown(word)} is not a host name.",
            hint=f"Give user@host, or a name of {FILE}, where a port can be given: port = 2222.",
        )
    close = difflib.get_close_matches(word, known, n=1)
    meant = close[0] if close else None
    return DeviceEntry(name=word, host=word, ssh_config=_ssh_config(), meant=meant)


def _refuse_files(device: DeviceEntry) -> None:
    """Keep a file that merely lies in the current folder from naming files of this machine."""
    named = {"identity": device.identity}
    if device.ssh_config != _ssh_config():
        named["ssh_config"] = device.ssh_config
    for key, value in named.items():
        if value is not None:
            raise UsageError(
                f"{FILE}, [{device.name}]: {key} is not taken from a file in the current folder.",
                found=f"It names a file of this machine: {value}.",
                hint=f"If the file is yours, name it: --devices {FILE}",
            )


def _ssh_config() -> str | None:
    path = os.environ.get("EDGEKIT_SSH_CONFIG") or None
    if path is not None:
        grammar.check("ssh_config", path, "EDGEKIT_SSH_CONFIG")
    return path


def _config_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgekit"


def _registry() -> Path | None:
    places = (Path(FILE), _config_folder() / FILE)
    # What is there and is no file, a named pipe for one, is refused when it is read.
    return next((place for place in places if os.path.lexists(place)), None)


def _is_own(path: Path) -> bool:
    own = _config_folder() / FILE
    return own.is_file() and path.is_file() and path.samefile(own)


assert set(grammar.RULES) == {entry.name for entry in fields(DeviceEntry)} - {"name", "meant"}

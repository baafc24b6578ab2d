"""The user's devices: `devices.toml`, or a host as one would type it after `ssh`.

[pi4]
host = "pi@192.0.2.7"

[attic]
host = "attic"              # a name of the user's ssh configuration
python = "/home/pi/env/bin/python"
threads = 4
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError

FILE = "devices.toml"
ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A machine that SSH reaches.

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


_KINDS: Mapping[str, tuple[type, ...]] = {
    "host": (str,),
    "python": (str,),
    "port": (int,),
    "identity": (str,),
    "threads": (int,),
    "jump": (str,),
    "timeout": (int, float),
    "ssh_config": (str,),
}


def find_devices(asked: Sequence[str]) -> tuple[Device, ...]:
    """Return the devices that names, hosts or "all" stand for, each once.

    Raises:
        UsageError: `devices.toml` cannot be understood, "all" of none, or what is no host.
    """
    path = _registry()
    known = read_devices(path) if path else {}
    found: dict[str, Device] = {}
    for word in asked:
        if word == ALL and not known:
            raise UsageError(
                "There are no devices to take all of.",
                found=f"No {FILE} here and none in {_config_folder()}.",
                hint='Write one ([pi4] and host = "pi@192.0.2.7"), or give --device user@host.',
            )
        some = known.values() if word == ALL else [known.get(word) or _from_word(word, known)]
        found.update((device.name, device) for device in some)
    return tuple(found.values())


def read_devices(path: Path) -> dict[str, Device]:
    """Read a `devices.toml`: name -> device, in the file's order.

    Raises:
        UsageError: It cannot be read, or says what means nothing.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read.",
            found=str(error),
            hint='A device is a table: [pi4], and below it host = "pi@192.0.2.7".',
        ) from error
    return {name: _device(name, table, path) for name, table in tables.items()}


def _device(name: str, table: Any, path: Path) -> Device:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise UsageError(
            f"{path}: {name!r} is no device.", hint=f"Write [{name}] with its keys below."
        )
    if name == ALL:
        raise UsageError(f"{where}: this name means every device.", hint="Choose another.")
    for key, value in table.items():
        if key not in _KINDS:
            close = difflib.get_close_matches(key, _KINDS, n=1)
            raise UsageError(
                f"{where}: there is no key {key!r}.",
                hint=f"Did you mean {close[0]}?" if close else f"Known: {', '.join(_KINDS)}.",
            )
        if isinstance(value, bool) or not isinstance(value, _KINDS[key]) or not value:
            kind = "text" if _KINDS[key] == (str,) else "a number above 0"
            raise UsageError(f"{where}: {key} is {kind}.", found=f"Found {value!r}.")
        if isinstance(value, (int, float)) and not 0 < value < 1e6:
            raise UsageError(f"{where}: {key} is a number above 0.", found=f"Found {value!r}.")
    if "host" not in table:
        raise UsageError(f"{where}: host is missing.", hint='Add host = "user@address".')
    _check_host(table["host"], where)
    if "jump" in table:
        _check_host(table["jump"], where)
    return Device(name=name, **{"ssh_config": _ssh_config(), **table})


def _from_word(word: str, known: Mapping[str, Device]) -> Device:
    _check_host(word, "--device")
    close = difflib.get_close_matches(word, known, n=1)
    meant = close[0] if close else None
    return Device(name=word, host=word, ssh_config=_ssh_config(), meant=meant)


def _check_host(host: str, where: str) -> None:
    # ssh would take a leading dash for an option, and options can name programs to run.
    if host.startswith("-") or not host.isprintable() or any(map(str.isspace, host)) or not host:
        raise UsageError(
            f"{where}: {host!r} is no host.", hint="Give user@host, or a name of devices.toml."
        )


def _ssh_config() -> str | None:
    return os.environ.get("EDGEKIT_SSH_CONFIG") or None


def _config_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgekit"


def _registry() -> Path | None:
    places = (Path(FILE), _config_folder() / FILE)
    return next((place for place in places if place.is_file()), None)


assert set(_KINDS) == {entry.name for entry in fields(Device)} - {"name", "meant"}

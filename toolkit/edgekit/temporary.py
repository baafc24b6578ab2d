"""Temporary files and folders named after their process, so that others can remove leftovers.

Their names contain the process id and its start time, since ids are reused; and digests of the
host, its boot and the process id's namespace, since a folder may be shared: a process of another
host or namespace must not count as dead.

    .edgekit-<pid>-<start>-<host, boot, namespace>-<chance>
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")

PREFIX = ".edgekit-"
# Only names of this form are removed.
_NAME = re.compile(rf"{re.escape(PREFIX)}(\d+)-(\d+)-([0-9a-f]{{18}})-[0-9a-f]{{8}}(\.[^.]*)?")
# Age after which files of other hosts or containers, whose processes are not visible, are removed.
_ABANDONED_SECONDS = 7 * 86_400


class _Here(NamedTuple):
    """Digests of host, boot and namespace; `host` is empty if nothing identifies it."""

    host: str
    boot: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.host or _digest('')}{self.boot}{self.namespace}"


def new_file(folder: Path, suffix: str = "") -> Path:
    """Make an empty file with the permissions of any new file."""
    # A suffix names the format; a longer one is part of a name with dots.
    ending = suffix if len(suffix) <= 16 else ""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    return _made(folder, ending, lambda path: os.close(os.open(path, flags, 0o666)))


def new_folder(folder: Path, *, mode: int = 0o777) -> Path:
    """Make an empty folder; the process's umask applies to `mode`."""
    return _made(folder, "", lambda path: path.mkdir(mode))


def sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder, as far as permissions allow."""
    for path in _entries(folder, PREFIX):
        if not _is_abandoned(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _quietly(path.unlink)


def _entries(folder: Path, prefix: str) -> list[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  a crowded folder need not become paths
    except OSError:  # missing, or not readable
        return []
    return [folder / name for name in names if name.startswith(prefix)]


def _made(folder: Path, ending: str, make: Callable[[Path], T]) -> Path:
    here = _here()
    owner = f"{PREFIX}{os.getpid()}-{_start_of(os.getpid())}-{here}"
    while True:
        path = folder / f"{owner}-{secrets.token_hex(4)}{ending}"
        try:
            make(path)
        except FileExistsError:
            continue
        return path


def _is_abandoned(path: Path) -> bool:
    named = _NAME.fullmatch(path.name)
    if named is None:
        return False
    pid, start, owner = named.groups()[:3]
    here = _here()
    if owner == str(here):
        return not _is_alive(int(pid), int(start))
    if here.host and owner[:6] == here.host and owner[6:12] != here.boot:
        return True  # this host has been rebooted since
    try:
        return time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False


def _is_alive(pid: int, start: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # a process of another user
        pass
    # A process that reuses the id started later.
    now = _start_of(pid)
    return not (now and start) or now == start


def _start_of(pid: int) -> int:
    """Return the start of a process in clock ticks since boot (proc(5), field 22), or 0."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the program's name in parentheses, which may contain spaces and
        # parentheses.
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


@functools.cache
def _here() -> _Here:
    machine = _text("/etc/machine-id")
    boot = _text("/proc/sys/kernel/random/boot_id")
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return _Here(
        host=_digest(machine + os.uname().nodename) if machine else "",
        boot=_digest(boot),
        namespace=_digest(namespace),
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except OSError:
        return

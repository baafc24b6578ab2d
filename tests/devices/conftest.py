"""A board on loopback: a real sshd, whose python3 is one of this machine with our packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import sshd

from edgekit.devices import ssh


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict]:
        return json.loads(self.out)["rows"]


def base_python() -> Path | None:
    """An interpreter of our version that an ordinary user may start."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (Path(sys.executable).resolve(), Path(f"/usr/bin/{version}")):
        probe = {"user": sshd.NOBODY, "group": sshd.NOBODY} if not os.getuid() else {}
        try:
            done = subprocess.run([python, "-c", ""], check=False, cwd="/", **probe)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def write_python(folder: Path, *, packages: bool = True, before: str = "") -> Path:
    """Write the device's `python3`; return the folder for its PATH."""
    python = base_python()
    if python is None:
        pytest.skip("no Python here that the user of the loopback sshd may start")
    site = Path(np.__file__).parents[1]  # not always this environment's own folder
    folder.mkdir(parents=True)
    path = f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{site}"\n' if packages else ""
    script = folder / "python3"
    script.write_text(f'#!/bin/sh\n{before}\n{path}exec {python} "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., sshd.Sshd]]:
    """Start a board; the keywords are those of `write_python`."""
    # Not below pytest's own folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="edgekit-board-"))
    folder.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(ssh, "PAUSES", (0.3, 0.7, 2, 4, 8))
    servers: list[sshd.Sshd] = []

    def begin(**python: object) -> sshd.Sshd:
        number = len(servers)
        binaries = write_python(folder / f"bin{number}", **python)
        try:
            server = sshd.start_sshd(folder / f"sshd{number}", folder / f"home{number}", [binaries])
        except sshd.UnavailableError as why:
            pytest.skip(str(why))
        servers.append(server)
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        return server

    yield begin
    for server in servers:
        server.stop()
        server.home.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def board(start: Callable[..., sshd.Sshd]) -> sshd.Sshd:
    return start()


@pytest.fixture
def edgekit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process."""
    from edgekit.cli import run

    def command(*words: object) -> Ended:
        code = run([str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    return command


@pytest.fixture
def model(golden: Path) -> Path:
    return golden / "runner" / "fsdd_int8.tflite"

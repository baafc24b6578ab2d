"""The runner as on a device: one copied file, an isolated interpreter, no edgekit."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgekit_runner


@pytest.fixture(scope="session")
def models(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden files, each with a manifest that names its digest, as edgekit writes it."""
    folder = tmp_path_factory.mktemp("models") / "runner"
    shutil.copytree(golden / "runner", folder)
    for path in folder.glob("*.tflite"):
        place = path.with_suffix(".json")
        manifest = json.loads(place.read_text()) if place.exists() else {}
        manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        place.write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def copied_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file alone in a folder, as somebody copied it to a board."""
    folder = tmp_path_factory.mktemp("board")
    return Path(shutil.copy(edgekit_runner.__file__, folder))


@pytest.fixture(scope="session")
def alone(copied_runner: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the copied file with an isolated interpreter and an empty environment."""

    def run(
        *arguments: object, python: str = sys.executable, flags: tuple[str, ...] = ("-I",)
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *flags, copied_runner, *map(str, arguments)],
            env={},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def runner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return exit code, stdout, stderr."""
    # What a child process prints would be lost here.
    monkeypatch.setattr(edgekit_runner, "has_unknown_origin", lambda _: False)

    def run(*arguments: Any) -> tuple[int, str, str]:
        code = edgekit_runner.main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let children receive Ctrl-C: shells start background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

"""Sessions: scripts that import TensorFlow, each run once, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def run_session(repository, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Run `<name>_session.py` with a folder of its own and more arguments; returns its JSON."""

    def run(name: str, *arguments: Path) -> dict[str, Any]:
        script, folder = HERE / f"{name}_session.py", tmp_path_factory.mktemp(name)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", script, folder, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={
                "EDGEKIT_DATA": str(repository.parent / "shared" / "data"),
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    return run

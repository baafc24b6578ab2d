"""Fixtures every test may ask for."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines: a busy machine is not a wrong result.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parents[1]


def data_root() -> Path | None:
    """Where the shared data sets are: `$EDGEKIT_DATA`, or the folder beside the checkout."""
    for place in (os.environ.get("EDGEKIT_DATA"), REPOSITORY.parent / "shared" / "data"):
        if place and Path(place).is_dir():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    root = data_root()
    if root is None:
        pytest.skip("the shared data sets are not here: set EDGEKIT_DATA")
    os.environ.setdefault("EDGEKIT_DATA", str(root))
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The packaged trained CNN."""
    return REPOSITORY / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"


@pytest.fixture(scope="session")
def golden() -> Path:
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def tflite_runtime(pytestconfig: pytest.Config) -> Path:
    """Two environments with tflite-runtime: `numpy1` where it works, `numpy2` where it cannot.

    They stay in pytest's cache folder, so that only the first run pays for them.
    """
    if sys.version_info[:2] > (3, 11):
        pytest.skip("tflite-runtime has no wheel for this Python")
    folder = Path(pytestconfig.cache.mkdir("tflite-runtime-2.14.0"))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run in several processes
        for name, numpy in (("numpy1", "numpy==1.26.4"), ("numpy2", "numpy==2.2.6")):
            ready = folder / name / "ready"
            if ready.exists():
                continue
            python = folder / name / "bin" / "python"
            for command in (
                [sys.executable, "-m", "venv", "--clear", folder / name],
                [python, "-m", "pip", "install", "--quiet", "tflite-runtime==2.14.0", numpy],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"tflite-runtime cannot be had: {done.stderr.strip()[-100:]}")
            ready.touch()
    return folder

"""Fixtures every test may ask for."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from plain_charts import Answer, plain_pages
from warm_tensorflow import WarmTensorFlow

from edgekit.reports import drawing
from edgekit.worker import client

# No deadlines: a busy machine is not a wrong result.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parents[1]

# Where it is set, each of hundreds of processes compiles edgekit anew, for half a second and more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Readline, which pytest loads, sets it for the processes that pytest starts: they would fold lines.
import readline  # noqa: F401, E402  so that it is done with that

os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")  # it is not in `os.environ`, which was copied before

# The workers of a test run fill the cores. More threads of TensorFlow wait for each other, longer
# than the small models of tests take: half the time of a training on a busy machine.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")

# Files of these rooms take minutes: they are begun first, so that no worker is left with one alone.
LONG = ("training", "device", "pipeline", "devices", "cli")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of those rooms first."""

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(REPOSITORY / "tests").parts[0]
        return LONG.index(room) if room in LONG else len(LONG)

    items.sort(key=place)


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


@pytest.fixture(scope="session", autouse=True)
def warm_tensorflow() -> Iterator[WarmTensorFlow]:
    """TensorFlow processes that need not import it; every `Worker` gets one."""
    warm = WarmTensorFlow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "start", warm.worker)
        yield warm
    warm.close()


@pytest.fixture(scope="session", autouse=True)
def drawn_pages() -> Iterator[Answer]:
    """What draws the charts of pages, which most tests do without."""
    with plain_pages() as real:
        yield real


@pytest.fixture(scope="module")
def real_charts(drawn_pages: Answer) -> Iterator[None]:
    """The pages of a module have their charts."""
    with mock.patch.object(drawing, "_answer", drawn_pages):
        yield


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

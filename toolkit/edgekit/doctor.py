"""Check the installation: what is found, and hints for what is missing."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from edgekit.modes import TFLITE_RUNTIME
from edgekit.targets.runtimes import KERNELS, LITERT

RUNTIMES: Final[Mapping[str, str]] = {LITERT: "ai-edge-litert", TFLITE_RUNTIME: "tflite-runtime"}
"""Name of a runtime, as the runner calls it -> of its package."""


class Finding(NamedTuple):
    """A component that was looked for.

    Attributes:
        name: Its name.
        found: Its version or path; empty if it is missing.
        needed: Whether the main job needs it.
        hint: What to do if it is missing.
    """

    name: str
    found: str
    needed: bool
    hint: str


def examine() -> list[Finding]:
    """Look for runtimes, engines, delegates, compilers and data."""
    return [
        Finding("python", platform.python_version(), True, ""),
        _package("edgekit", "edgekit-tflite", needed=True, hint="pip install edgekit-tflite"),
        _package("tensorflow", needed=True, hint="pip install 'tensorflow>=2.21,<2.22'"),
        _package("keras", needed=True, hint="pip install 'keras>=3.15,<3.16'"),
        _package("numpy", needed=True, hint="pip install 'numpy>=2'"),
        _runtime(RUNTIMES[LITERT], "ai_edge_litert.interpreter", needed=True),
        _runtime(RUNTIMES[TFLITE_RUNTIME], "tflite_runtime.interpreter", needed=False),
        _package("tf_keras", hint="for Keras 2 files: pip install tf_keras"),
        _package("tensorboard", hint="for --log: pip install tensorboard"),
        _package(
            "tflite-micro",
            hint="to measure arenas: pip install 'edgekit-tflite[micro]'; they are estimated else",
        ),
        _package("ethos-u-vela", hint="for Ethos-U targets: pip install 'edgekit-tflite[vela]'"),
        _program("litert-benchmark", "comes with ai-edge-litert; for `make bench`"),
        _program(
            "edgetpu_compiler",
            "for Coral: Debian package of coral.ai; until then edgekit predicts what it would do",
        ),
        _library("edgetpu", "for a Coral stick on this machine: the libedgetpu1-std package"),
        _library("teflon", "for an open NPU driver: Debian's mesa-teflon-delegate (--delegate)"),
        _data(),
    ]


def kernels() -> dict[str, dict[str, str]]:
    """Return runtime and bits of ARM -> mode -> the kernels that run it."""
    return {
        f"{RUNTIMES[runtime]}, {bits}-bit": {mode: str(one) for mode, one in modes.items()}
        for (runtime, bits), modes in KERNELS.items()
    }


def _package(
    name: str, distribution: str | None = None, *, needed: bool = False, hint: str
) -> Finding:
    try:
        return Finding(name, version(distribution or name), needed, hint)
    except PackageNotFoundError:
        return Finding(name, "", needed, hint)


def _runtime(distribution: str, module: str, *, needed: bool) -> Finding:
    """Check a runtime by importing it in a child process: an installed one may fail to load."""
    hint = f"pip install {distribution}"
    if importlib.util.find_spec(module.split(".", maxsplit=1)[0]) is None:
        return Finding(distribution, "", needed, hint)
    tried = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False
    )
    if tried.returncode == 0 and "_ARRAY_API" not in tried.stderr:
        return Finding(distribution, version(distribution), needed, hint)
    if "_ARRAY_API" in tried.stderr:
        return Finding(
            distribution,
            "",
            needed,
            "it is here but needs numpy < 2: use a separate environment, or ai-edge-litert",
        )
    last = (tried.stderr.strip().splitlines() or ["it exited without an error message"])[-1]
    return Finding(distribution, "", needed, f"it is here but does not load: {last}")


def _program(name: str, hint: str) -> Finding:
    beside = os.path.join(os.path.dirname(sys.executable), name)  # noqa: PTH118, PTH120  one line, one meaning
    return Finding(name, shutil.which(name) or shutil.which(beside) or "", False, hint)


def _library(name: str, hint: str) -> Finding:
    return Finding(f"lib{name}", ctypes.util.find_library(name) or "", False, hint)


def _data() -> Finding:
    place = os.environ.get("EDGEKIT_DATA", "")
    return Finding(
        "EDGEKIT_DATA",
        place,
        False,
        "a folder with the built-in data sets; they are downloaded where there is none",
    )

"""The runtime a device needs, as wheels that are downloaded here and copied there.

So the device needs neither pip nor a network of its own; where they cannot be downloaded here, the
device's own pip is used (`Remote.setup`).
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DeviceError

# The last release; it runs where ai-edge-litert has no wheel, with numpy 1 only.
TFLITE_RUNTIME = "2.14.0"
OLDEST_GLIBC = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What decides which wheels fit.

    Attributes:
        machine: x86_64, aarch64, armv7l, as the device's Python was built for.
        python: Its version, (3, 11).
        glibc: Minor version of the C library (2.36 -> 36).
    """

    machine: str
    python: tuple[int, int]
    glibc: int

    def __str__(self) -> str:
        return f"{self.machine}, Python {self.python[0]}.{self.python[1]}, glibc 2.{self.glibc}"

    @property
    def tags(self) -> tuple[str, ...]:
        """Platform tags, the newest first (PEP 600)."""
        modern = [
            f"manylinux_2_{n}_{self.machine}" for n in range(self.glibc, OLDEST_GLIBC - 1, -1)
        ]
        return (*modern, f"manylinux2014_{self.machine}", f"linux_{self.machine}")


def requirements(platform: Platform) -> tuple[str, ...]:
    """Return the runtime for a platform, and the numpy it works with.

    ai-edge-litert comes in the version used here, so that both sides run the same kernels; it has
    no wheel for 32-bit ARM and none for Python before 3.10.
    """
    if platform.machine in ("x86_64", "aarch64") and platform.python >= (3, 10):
        return f"ai-edge-litert=={importlib.metadata.version('ai-edge-litert')}", "numpy"
    return f"tflite-runtime=={TFLITE_RUNTIME}", "numpy<2"


def fetch_wheels(
    platform: Platform, wanted: Sequence[str], folder: Path, *, given: Path | None = None
) -> list[Path]:
    """Return the wheels for a platform.

    On 32-bit ARM all but the runtime are the device's own (Debian's python3-numpy) unless `given`
    holds them: the package index has none.

    Args:
        platform: The device's.
        wanted: Requirements, the runtime first.
        folder: Where downloads go.
        given: A folder of wheels to take them from; None downloads them with this Python's pip.

    Raises:
        DeviceError: There is none that fits.
    """
    if given is not None:
        found = [_fitting(name, given, platform) for name in map(_project, wanted)]
        if found[0] is None:
            names = ", ".join(sorted(path.name for path in given.glob("*.whl"))) or "no wheel"
            raise DeviceError(
                f"No wheel in {given} fits the device ({platform}).",
                found=f"It needs {wanted[0]}; there is: {names}.",
                hint="Put the wheel for this platform there, or leave out --wheels.",
            )
        return [path for path in found if path is not None]
    if platform.machine == "armv7l":
        wanted = wanted[:1]
    return _download(wanted, platform, folder)


def _download(wanted: Sequence[str], platform: Platform, folder: Path) -> list[Path]:
    major, minor = platform.python
    tags = [word for tag in platform.tags for word in ("--platform", tag)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--implementation", "cp"),
            *("--python-version", f"{major}.{minor}", *tags, "--dest", str(folder), *wanted),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise DeviceError(
            f"The wheels for the device ({platform}) cannot be downloaded.",
            found=errors[-1] if errors else "pip failed.",
            hint="Check the network here, or give a folder that holds them: --wheels DIR.",
        )
    return sorted(folder.glob("*.whl"))


def _project(requirement: str) -> str:
    return re.split("[=<]", requirement)[0]


def _fitting(project: str, folder: Path, platform: Platform) -> Path | None:
    """Find the project's wheel among those in a folder, by the tags in its name (PEP 427)."""
    python = f"cp{platform.python[0]}{platform.python[1]}"
    for path in sorted(filter(Path.is_file, folder.glob("*.whl")), reverse=True):
        parts = path.stem.split("-")
        if len(parts) < 5 or parts[0].replace("_", "-").lower() != project:
            continue
        fits = set(parts[-1].split(".")) & {*platform.tags, "any"}
        if fits and {python, "py3"} & set(parts[-3].split(".")):
            return path
    return None

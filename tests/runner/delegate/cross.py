"""Build the stand-in delegate for 64-bit ARM."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "stand_in.c"
FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
TRIPLET = "aarch64-linux-gnu"


class NoCompilerError(Exception):
    """There is none and none can be had; the message is one line."""


def build_arm64(library: Path, cache: Path, *defines: str) -> Path:
    """Compile the stand-in for arm64 into `library`.

    Args:
        library: The file to be written.
        cache: Where a compiler is unpacked when this machine has none: 36 MB from its own apt
            sources, without privileges, and only once.
        defines: Further arguments, such as `-DDEVICES=0`.

    Raises:
        NoCompilerError: There is no compiler for arm64 and it cannot be downloaded.
    """
    command = [*arm64_compiler(cache), *FLAGS, *defines, "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return library


def arm64_compiler(cache: Path) -> list[str]:
    """Return the beginning of a command that compiles C for arm64."""
    installed = shutil.which(f"{TRIPLET}-gcc")
    if installed:
        return [installed]
    root = cache / "cross"
    if not (root / "ready").exists():
        _download(root)
    version = (root / "ready").read_text()
    target = root / "usr" / TRIPLET
    return [
        "env",
        f"LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu",  # libbfd of the assembler
        f"{root}/usr/bin/{TRIPLET}-gcc-{version}",
        f"-B{root}/usr/bin/{TRIPLET}-",
        f"-B{target}/lib/",
        f"--sysroot={root}",
        f"-isystem{target}/include",
        f"-L{target}/lib",
    ]


def _download(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        told = _output(root, "apt-cache", "depends", f"gcc-{TRIPLET}")
        found = re.search(rf"gcc-(\d+)-{TRIPLET}", told)
        if found is None:
            raise NoCompilerError(f"apt knows no gcc-{TRIPLET}")
        version = found[1]
        packages = [
            *(f"{name}-{version}-{TRIPLET}" for name in ("gcc", "cpp")),
            f"binutils-{TRIPLET}",
            f"libgcc-{version}-dev-arm64-cross",
            *(f"{name}-arm64-cross" for name in ("libc6", "libc6-dev", "libgcc-s1")),
            "linux-libc-dev-arm64-cross",
        ]
        _output(root, "apt-get", "download", *packages)
        for package in sorted(root.glob("*.deb")):
            _output(root, "dpkg-deb", "-x", package.name, ".")
            package.unlink()
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoCompilerError(f"no compiler for arm64 can be had: {error}") from error
    (root / "ready").write_text(version)


def _output(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

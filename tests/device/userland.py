"""Debian for ARM in a folder, run by qemu: the boards that the tests have at hand.

`build("arm64", cache)`, `"trixie"` and `"armhf"` need no privileges: packages come from this
machine's own apt mirror, wheels from its own pip configuration, both are only unpacked, and
qemu's user mode runs what they hold. What Python sees there is a Raspberry Pi: `/proc/cpuinfo`,
the board's name, and `uname` say so; only its clock is not one, so nothing may be timed on it.

    python tests/device/userland.py [CACHE]        # build all; about half a minute
    CACHE/arm64/usr/bin/python3 runner.py info     # and use one
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from architectures import ARCHITECTURES, Architecture

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class UnavailableError(Exception):
    """The packages cannot be had here; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Userland:
    """A user land that is there.

    Attributes:
        name: arm64, trixie or armhf.
        root: Its folder.
        python: Starts its Python; a program like any other to who calls it.
        path: The folders that make it a device for a shell: its `python3` and its `uname`.
    """

    name: str
    root: Path

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.name]

    @property
    def python(self) -> Path:
        return self.root / "usr" / "bin" / "python3"

    @property
    def path(self) -> str:
        return f"{self.root / 'usr' / 'bin'}:/usr/bin:/bin"

    def without_runtime(self, folder: Path) -> Path:
        """Make a `python3` that has no runtime, and numpy where Debian has to bring it.

        Returns:
            The folder with it and `uname`, for a PATH.
        """
        programs, packages = folder / "usr" / "bin", folder / "usr" / "lib" / "python3"
        for made in (programs, packages / "dist-packages"):
            made.mkdir(parents=True)
        for name in ("python3", "uname"):
            shutil.copy(self.python.with_name(name), programs)
        # Python takes the folder it is called in for its own.
        library, python = self.root / "usr" / "lib", self.architecture.python
        (folder / "usr" / "lib" / f"python{python}").symlink_to(library / f"python{python}")
        if self.name == "armhf":
            numpy = library / "python3" / "dist-packages" / "numpy"
            (packages / "dist-packages" / "numpy").symlink_to(numpy)
        return programs


def cache_folder() -> Path:
    """`$EDGEKIT_USERLANDS`, or .cache/userlands in the checkout."""
    return Path(
        os.environ.get("EDGEKIT_USERLANDS") or REPOSITORY / ".cache" / "userlands"
    ).absolute()


def build(name: str, cache: Path) -> Userland:
    """Return the user land called `name`, built anew only where its recipe has changed.

    Raises:
        UnavailableError: Something cannot be downloaded here.
    """
    root = cache / name
    made_of = _digest(name)
    with _locked(cache):
        if not _is_current(root, made_of):
            qemu = _qemu(cache)
            apart = _fresh(cache / f"{name}.part")
            with ThreadPoolExecutor(2) as pool:
                wheels = pool.submit(_add_wheels, ARCHITECTURES[name], apart / "wheels")
                _add_packages(cache, ARCHITECTURES[name], apart)
                wheels.result()
            _dress_up(apart, root, ARCHITECTURES[name], qemu)
            (apart / "made-of").write_text(made_of)
            shutil.rmtree(root, ignore_errors=True)
            apart.rename(root)
    return Userland(name=name, root=root)


# --- Downloads ----------------------------------------------------------------------------------


def _add_packages(cache: Path, architecture: Architecture, root: Path) -> None:
    packages = [f"{package}:{architecture.debian}" for package in architecture.packages]
    _unpack(cache, packages, root, architecture.suite)


def _unpack(cache: Path, packages: Sequence[str], root: Path, suite: str = "") -> None:
    """Download Debian packages and unpack them into `root`, with nothing installed anywhere."""
    settings = _apt(cache, suite)
    apart = _fresh(cache / f"{root.name}.packages")
    try:
        _call(["apt-get", "download", "-q", *packages], folder=apart, settings=settings)
    except UnavailableError:
        settings.unlink()  # the lists may be the reason: fetch them again the next time
        raise
    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(_call, ["dpkg-deb", "-x", str(file), str(root)])
            for file in sorted(apart.glob("*.deb"))
        ]:
            done.result()
    shutil.rmtree(apart)


def _apt(cache: Path, suite: str) -> Path:
    """Return an apt configuration of our own over the machine's sources, with fresh lists.

    Args:
        cache: Where it is kept.
        suite: The release of Debian, from the machine's own mirror; "" for the machine's.
    """
    here = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    home = cache / f"apt-{suite or here}"
    settings = home / "apt.conf"
    if settings.is_file() and time.time() - settings.stat().st_mtime < 3600:
        return settings
    _fresh(home)
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True)
    (home / "status").touch()
    apart = home / "apt.conf.part"
    if suite not in {"", here}:
        sources = home / "sources.list"
        sources.write_text(f"deb [signed-by={KEYS}] {_mirror(here)} {suite} main\n")
    else:
        sources = None
    apart.write_text(
        f'APT::Architectures {{ "{_native()}"; "arm64"; "armhf"; }};\n'
        f'Dir::State "{home}";\nDir::State::status "{home}/status";\nDir::Cache "{home}";\n'
        'Acquire::Languages "none";\nAcquire::Retries "2";\nAcquire::http::Timeout "20";\n'
        'APT::Sandbox::User "";\n'
        + (f'Dir::Etc::SourceList "{sources}";\nDir::Etc::SourceParts "-";\n' if sources else "")
    )
    # A source that fails (one without ARM, one in the middle of a mirror run) leaves the others
    # usable; whether a package can be had, its download tells.
    subprocess.run(
        ["apt-get", "update", "-q"],
        env={**os.environ, "APT_CONFIG": str(apart)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    apart.rename(settings)
    return settings


def _mirror(codename: str) -> str:
    """Return where this machine's own apt has the packages of its own release from.

    Raises:
        UnavailableError: It is not Debian, or its sources do not tell.
    """
    folder = Path("/etc/apt")
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        text = path.read_text(errors="replace") if path.is_file() else ""
        line = re.search(rf"^deb (?:\[.*\] )?(\S+) {codename} .*\bmain\b", text, re.MULTILINE)
        if line:
            return line[1]
        for part in text.split("\n\n"):
            place = re.search(r"^URIs: (\S+)", part, re.MULTILINE)
            if place and re.search(rf"^Suites:.* {codename}(?: |$)", part, re.MULTILINE):
                return place[1]
    raise UnavailableError(f"apt's sources name no mirror of {codename or 'a release'}")


def _native() -> str:
    return _call(["dpkg", "--print-architecture"]).strip()


def _qemu(cache: Path) -> Path:
    """Return the folder with `qemu-aarch64-static` and `qemu-arm-static`."""
    folder = cache / "qemu"
    if not folder.is_dir():
        apart = _fresh(cache / "qemu.part")
        _unpack(cache, [f"qemu-user-static:{_native()}"], apart)
        keep = _fresh(cache / "qemu.keep")
        for program in ("qemu-aarch64-static", "qemu-arm-static"):
            shutil.move(apart / "usr" / "bin" / program, keep)
        shutil.rmtree(apart)
        keep.rename(folder)
    return folder


def download_wheels(architecture: Architecture, folder: Path, projects: Sequence[str] = ()) -> None:
    """Download the architecture's wheels, or those of some projects, into a folder.

    Raises:
        UnavailableError: One cannot be had.
    """
    platforms = [word for platform in architecture.platforms for word in ("--platform", platform)]
    wheels = [
        wheel
        for wheel in architecture.wheels
        if not projects or wheel.partition("==")[0] in projects
    ]
    _call(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *(
                "--no-deps",
                "--only-binary=:all:",
                "--python-version",
                architecture.python,
                *platforms,
            ),
            *("--dest", str(folder), *wheels),
        ]
    )


def _add_wheels(architecture: Architecture, site: Path) -> None:
    site.mkdir(parents=True)
    apart = _fresh(site.with_name("downloads"))
    download_wheels(architecture, apart)
    for wheel in apart.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    shutil.rmtree(apart)


def _call(command: Sequence[str], folder: Path | None = None, settings: Path | None = None) -> str:
    """Return what a command prints.

    Raises:
        UnavailableError: It is not here, or fails.
    """
    environment = {**os.environ, **({"APT_CONFIG": str(settings)} if settings else {})}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "ERROR:"))]
        said = (lines or done.stderr.splitlines() or ["no reason given"])[0]
        raise UnavailableError(f"{' '.join(command[:4])} ...: {said}")
    return done.stdout


# --- Making it a board --------------------------------------------------------------------------


def _dress_up(apart: Path, root: Path, architecture: Architecture, qemu: Path) -> None:
    """Turn unpacked packages in `apart`, which will move to `root`, into a board."""
    packages = apart / "usr" / "lib" / "python3" / "dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    for entry in (apart / "wheels").iterdir():
        shutil.move(entry, packages)
    (apart / "wheels").rmdir()
    libraries = apart / "usr" / "lib" / architecture.triplet
    for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):  # what update-alternatives does
        if (libraries / name).exists():
            (libraries / Path(name).name).symlink_to(name)
    # ai-edge-litert parses this file and dies of an x86 one.
    _write(apart / "proc" / "cpuinfo", _cpuinfo(architecture))
    _write(apart / "proc" / "device-tree" / "model", architecture.board + "\0")
    programs = apart / "usr" / "bin"
    emulator = "qemu-aarch64-static" if architecture.machine == "aarch64" else "qemu-arm-static"
    # -0: Python finds its library, and what to start children with, by its own name.
    _script(
        programs / "python3",
        f'exec "{qemu / emulator}" -cpu {architecture.cpu} -L "{root}" -0 "$0" '
        f'"{root}/usr/bin/python{architecture.python}" "$@"',
    )
    _script(
        programs / "uname",
        f'case "$*" in -m|-p|-i) echo {architecture.machine};; '
        f'*) /usr/bin/uname "$@" | sed "s/$(/usr/bin/uname -m)/{architecture.machine}/g";; esac',
    )


def _cpuinfo(architecture: Architecture) -> str:
    part, features = {
        "aarch64": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
        "armv7l": ("0xc07", "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32"),
    }[architecture.machine]
    core = textwrap.dedent(f"""\
        processor\t: {{}}
        BogoMIPS\t: 108.00
        Features\t: {features}
        CPU implementer\t: 0x41
        CPU architecture: {8 if architecture.machine == "aarch64" else 7}
        CPU variant\t: 0x0
        CPU part\t: {part}
        CPU revision\t: 3

        """)
    return "".join(core.format(core_number) for core_number in range(4)) + (
        f"Model\t\t: {architecture.board}\n"
    )


def _script(path: Path, line: str) -> None:
    path.unlink(missing_ok=True)
    _write(path, f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- The cache ----------------------------------------------------------------------------------


def _digest(name: str) -> str:
    recipe = json.dumps(asdict(ARCHITECTURES[name]), sort_keys=True)
    return hashlib.sha256(recipe.encode() + Path(__file__).read_bytes()).hexdigest()


def _is_current(root: Path, made_of: str) -> bool:
    try:
        return (root / "made-of").read_text() == made_of
    except OSError:
        return False


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One builder at a time: workers of a test run share the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute() if sys.argv[1:] else cache_folder()
    for architecture_name in ARCHITECTURES:
        try:
            print(build(architecture_name, place).python)
        except UnavailableError as reason:
            sys.exit(f"No {architecture_name} user land: {reason}")

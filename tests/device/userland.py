"""Debian for ARM in a folder, run by qemu: the boards that the tests have at hand.

`build("arm64", cache)` and `build("armhf", cache)` need no privileges: packages come from this
machine's own apt sources, wheels from its own pip configuration, both are only unpacked, and
qemu's user mode runs what they hold. What Python sees there is a Raspberry Pi: `/proc/cpuinfo`,
the board's name, and `uname` say so; only its clock is not one, so nothing may be timed on it.

    python tests/device/userland.py [CACHE]        # build both; about half a minute
    CACHE/arm64/usr/bin/python3 runner.py info     # and use one
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
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

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = "3.11"  # of Debian 12, and the last one for which tflite-runtime has wheels


class UnavailableError(Exception):
    """The packages cannot be had here; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What one user land is made of."""

    machine: str  # what `uname -m` says
    cpu: str  # one of qemu's
    board: str
    triplet: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    platforms: tuple[str, ...]


_LIBRARIES = (
    *("base-files", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libexpat1"),
    *("libbz2-1.0", "libffi8", "liblzma5", "libssl3", "libuuid1"),
)
ARCHITECTURES = {
    "arm64": Architecture(
        machine="aarch64",
        cpu="cortex-a72",
        board="Raspberry Pi 4 Model B Rev 1.4",
        triplet="aarch64-linux-gnu",
        packages=_LIBRARIES,
        wheels=(
            "ai-edge-litert==2.3.0",
            "tflite-runtime==2.14.0",
            "numpy==1.26.4",
            "pillow==11.3.0",
        ),
        platforms=tuple(
            f"manylinux{version}_aarch64"
            for version in ("_2_34", "_2_28", "_2_27", "_2_17", "2014")
        ),
    ),
    "armhf": Architecture(
        machine="armv7l",
        cpu="cortex-a7",
        board="Raspberry Pi 2 Model B Rev 1.1",
        triplet="arm-linux-gnueabihf",
        # numpy and Pillow have no wheels for it: Debian's own, with the libraries they load.
        packages=(
            *_LIBRARIES,
            *("python3-numpy", "libblas3", "liblapack3", "libgfortran5"),
            *("python3-pil", "libjpeg62-turbo", "libopenjp2-7", "libtiff6", "libwebp7"),
            *("libimagequant0", "libgomp1", "libdeflate0", "libjbig0", "liblerc4", "libzstd1"),
            *("libxcb1", "libxau6", "libxdmcp6", "libbsd0", "libmd0"),
        ),
        wheels=("tflite-runtime==2.14.0",),
        platforms=("manylinux_2_34_armv7l", "manylinux_2_17_armv7l", "manylinux2014_armv7l"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Userland:
    """A user land that is there.

    Attributes:
        name: arm64 or armhf.
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
        library = self.root / "usr" / "lib"
        (folder / "usr" / "lib" / f"python{PYTHON}").symlink_to(library / f"python{PYTHON}")
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
                _add_packages(cache, name, apart)
                wheels.result()
            _dress_up(apart, root, ARCHITECTURES[name], qemu)
            (apart / "made-of").write_text(made_of)
            shutil.rmtree(root, ignore_errors=True)
            apart.rename(root)
    return Userland(name=name, root=root)


# --- Downloads ----------------------------------------------------------------------------------


def _add_packages(cache: Path, name: str, root: Path) -> None:
    _unpack(cache, [f"{package}:{name}" for package in ARCHITECTURES[name].packages], root)


def _unpack(cache: Path, packages: Sequence[str], root: Path) -> None:
    """Download Debian packages and unpack them into `root`, with nothing installed anywhere."""
    settings = _apt(cache)
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


def _apt(cache: Path) -> Path:
    """Return an apt configuration of our own over the machine's sources, with fresh lists."""
    home = cache / "apt"
    settings = home / "apt.conf"
    if settings.is_file() and time.time() - settings.stat().st_mtime < 3600:
        return settings
    _fresh(home)
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True)
    (home / "status").touch()
    apart = home / "apt.conf.part"
    apart.write_text(
        f'APT::Architectures {{ "{_native()}"; "arm64"; "armhf"; }};\n'
        f'Dir::State "{home}";\nDir::State::status "{home}/status";\nDir::Cache "{home}";\n'
        'Acquire::Languages "none";\nAcquire::Retries "2";\nAcquire::http::Timeout "20";\n'
        'APT::Sandbox::User "";\n'
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
            *("--no-deps", "--only-binary=:all:", "--python-version", PYTHON, *platforms),
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
        f'"{root}/usr/bin/python{PYTHON}" "$@"',
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

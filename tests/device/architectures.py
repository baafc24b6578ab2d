"""What the emulated boards are made of: Debian's packages and wheels."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What one user land is made of."""

    debian: str  # what Debian calls it
    suite: str
    system: str  # how /etc/os-release begins its name
    python: str
    machine: str  # what `uname -m` says
    cpu: str  # one of qemu's
    board: str
    triplet: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    platforms: tuple[str, ...]


def _libraries(python: str, ssl: str) -> tuple[str, ...]:
    """Debian's packages of its Python, and what that loads."""
    return (
        *("base-files", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"),
        *(f"python{python}-minimal", f"libpython{python}-minimal", f"libpython{python}-stdlib"),
        *("libexpat1", "libbz2-1.0", "libffi8", "liblzma5", ssl, "libuuid1"),
    )


_BOOKWORM = MappingProxyType(
    # The last Python for which tflite-runtime has wheels.
    {"suite": "bookworm", "system": "Debian GNU/Linux 12", "python": "3.11"}
)
_AARCH64 = MappingProxyType(
    {
        "debian": "arm64",
        "machine": "aarch64",
        "triplet": "aarch64-linux-gnu",
        "platforms": tuple(
            f"manylinux{version}_aarch64"
            for version in ("_2_34", "_2_28", "_2_27", "_2_17", "2014")
        ),
    }
)
ARCHITECTURES = {
    "arm64": Architecture(
        **_BOOKWORM,
        **_AARCH64,
        cpu="cortex-a72",
        board="Raspberry Pi 4 Model B Rev 1.4",
        packages=_libraries("3.11", "libssl3"),
        wheels=(
            "ai-edge-litert==2.3.0",
            "tflite-runtime==2.14.0",
            "numpy==1.26.4",
            "pillow==11.3.0",
        ),
    ),
    "trixie": Architecture(
        **_AARCH64,
        suite="trixie",
        system="Debian GNU/Linux 13",
        python="3.13",
        cpu="cortex-a76",
        board="Raspberry Pi 5 Model B Rev 1.0",
        packages=_libraries("3.13", "libssl3t64"),
        wheels=("ai-edge-litert==2.3.0", "numpy==2.4.6", "pillow==11.3.0"),
    ),
    "armhf": Architecture(
        **_BOOKWORM,
        debian="armhf",
        machine="armv7l",
        cpu="cortex-a7",
        board="Raspberry Pi 2 Model B Rev 1.1",
        triplet="arm-linux-gnueabihf",
        # numpy and Pillow have no wheels for it: Debian's own, with the libraries they load.
        packages=(
            *_libraries("3.11", "libssl3"),
            *("python3-numpy", "libblas3", "liblapack3", "libgfortran5"),
            *("python3-pil", "libjpeg62-turbo", "libopenjp2-7", "libtiff6", "libwebp7"),
            *("libimagequant0", "libgomp1", "libdeflate0", "libjbig0", "liblerc4", "libzstd1"),
            *("libxcb1", "libxau6", "libxdmcp6", "libbsd0", "libmd0"),
        ),
        wheels=("tflite-runtime==2.14.0",),
        platforms=("manylinux_2_34_armv7l", "manylinux_2_17_armv7l", "manylinux2014_armv7l"),
    ),
}

"""Options of the commands that measure on devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.choices import MAX_THREADS
from edgekit.cli import options

_NAMES = "user@host, a name of devices.toml or of the ssh configuration"
_FLAGS = ("--device", "-D")

DevicesWanted = Annotated[
    list[str],
    typer.Option(*_FLAGS, metavar="DEVICE", help=f"{_NAMES}, or all of devices.toml; repeatable."),
]
MaybeDevices = Annotated[
    list[str] | None,
    typer.Option(*_FLAGS, metavar="DEVICE", help=f"{_NAMES}, or all of devices.toml; repeatable."),
]
OneDevice = Annotated[
    str | None,
    typer.Option(*_FLAGS, metavar="DEVICE", help=f"Where to score and time the files: {_NAMES}."),
]
DevicesFile = Annotated[
    Path | None,
    typer.Option(
        "--devices",
        metavar="FILE",
        help="The devices.toml to take; one that is only found here may not name local files.",
    ),
]
Setup = Annotated[
    bool, typer.Option("--setup", help="Bring a runtime along, in a virtual environment.")
]
Wheels = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Wheels for --setup; default: downloaded.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Leave files and environment in the device's cache.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        parser=options.whole(1, MAX_THREADS),
        metavar="N",
        help="Interpreter threads; default: the device's, or 1.",
    ),
]
Runs = Annotated[
    int | None,
    typer.Option(
        parser=options.whole(1), metavar="N", help="Counted invocations; default: until settled."
    ),
]
Runtime = Annotated[
    str | None, typer.Option(help="litert, tflite or tensorflow; default: the first found.")
]
Delegate = Annotated[
    str | None, typer.Option(help="edgetpu, usb, pci:0, or a delegate library there.")
]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that say how files are run and timed."""

    threads: Threads = None
    runs: Runs = None
    runtime: Runtime = None


@dataclass(frozen=True, kw_only=True)
class OtherSideOptions:
    """Options of the device that computes the second of two models."""

    device: Annotated[
        str | None,
        typer.Option(*_FLAGS, metavar="DEVICE", help=f"Where B, a .tflite, is run: {_NAMES}."),
    ] = None
    devices: DevicesFile = None
    setup: Setup = False
    wheels: Wheels = None
    keep: Keep = False
    threads: Threads = None
    runtime: Runtime = None
    delegate: Delegate = None
    kernels: Annotated[
        str | None, typer.Option(help="There: default, builtin or reference (slow, exact).")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return the options as keyword arguments of `edgekit.api.compare`.

        Raises:
            UsageError: An option that needs a device is given without one.
        """
        needing = {name: value for name, value in vars(self).items() if name != "device"}
        check_device_options(self.device, **needing)
        return {"device": self.device, **needing}


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Options of the device on which a command that makes files measures them."""

    device: OneDevice = None
    devices: DevicesFile = None
    setup: Setup = False
    wheels: Wheels = None
    keep: Keep = False
    threads: Threads = None

    def arguments(self) -> dict[str, Any]:
        """Return the options as keyword arguments of the functions of `edgekit.api`.

        Raises:
            UsageError: An option that needs a device is given without one.
        """
        needing = {name: getattr(self, name) for name in ("devices", "setup", "wheels", "keep")}
        check_device_options(self.device, **needing)
        return {"device": self.device, "threads": self.threads, **needing}


def check_device_options(device: object, **others: object) -> None:
    """Refuse options that need a device where there is none.

    Args:
        device: `--device` as given.
        **others: Options that need it, by name.

    Raises:
        UsageError: One is given without it.
    """
    if device:
        return
    for name, value in others.items():
        if value:
            from edgekit.errors import UsageError

            raise UsageError(
                f"--{name} has no effect without --device.",
                hint="Add --device NAME, or leave it out.",
            )

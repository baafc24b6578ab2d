"""The one device of a command that takes no more: `quantize`, `compress`, `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.devices import DeviceEntry, DeviceSetup


def one_device(name: str | None, devices: str | Path | None) -> DeviceEntry | None:
    """Return the device of that name, or None for this machine.

    Args:
        name: user@host, or a name of `devices.toml`.
        devices: The `devices.toml` to take; see `deploy`.

    Raises:
        UsageError: There is no such device, or the name stands for several.
    """
    from edgekit.devices import find_devices

    if name is None:
        return None
    found = find_devices([name], Path(devices) if devices else None)
    if len(found) != 1:
        raise UsageError(
            f"One device at a time can be used here, and {name} stands for {len(found)}.",
            hint=f"Name one of: {', '.join(entry.name for entry in found)}.",
        )
    return found[0]


def device_setup(*, install: bool, wheels: str | Path | None, keep: bool) -> DeviceSetup:
    """Return what is installed on a device, and whether it stays."""
    from edgekit.devices import DeviceSetup

    return DeviceSetup(install=install, wheels=Path(wheels) if wheels else None, keep=keep)

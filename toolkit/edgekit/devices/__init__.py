"""Where models are scored and timed: this machine and others behind SSH, all by the runner.

`Device` is what every one of them can do; `LocalDevice` is this machine, an `SshDevice` a session
on one that `find_devices` finds by name. Nothing else in edgekit takes a latency.
"""

from edgekit.devices.device import Device, RunSettings
from edgekit.devices.interleaved import interleaved
from edgekit.devices.local import LocalDevice, bench, describe
from edgekit.devices.registry import DeviceEntry, find_devices
from edgekit.devices.remote import Remote
from edgekit.devices.ssh import Cancelled
from edgekit.devices.ssh_device import DeviceSetup, SshDevice, probe
from edgekit.devices.uploads import Uploads

__all__ = [
    "Cancelled",
    "Device",
    "DeviceEntry",
    "DeviceSetup",
    "LocalDevice",
    "Remote",
    "RunSettings",
    "SshDevice",
    "Uploads",
    "bench",
    "describe",
    "find_devices",
    "interleaved",
    "probe",
]

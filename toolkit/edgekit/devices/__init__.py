"""Where models are timed. This machine is a device like any other, and the runner measures it.

Nothing else in edgekit takes a latency. `bench` and `describe` are this machine's; a `Remote` is a
session on a device behind SSH, which `find_devices` finds by name.
"""

from edgekit.devices.answers import options as runner_options
from edgekit.devices.local import bench, describe
from edgekit.devices.registry import Device, find_devices
from edgekit.devices.remote import Remote
from edgekit.devices.ssh import Cancelled

__all__ = ["Cancelled", "Device", "Remote", "bench", "describe", "find_devices", "runner_options"]

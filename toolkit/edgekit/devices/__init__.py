"""Where models are timed. This machine is a device like any other, and the runner measures it.

Nothing else in edgekit takes a latency.
"""

from edgekit.devices.local import bench, describe

__all__ = ["bench", "describe"]

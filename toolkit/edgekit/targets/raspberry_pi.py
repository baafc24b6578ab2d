"""Raspberry Pi boards: what XNNPACK runs there, and which runtimes can be installed.

On 64-bit ARM LiteRT hands operators to XNNPACK as on a phone (see `android`); the others run on
TFLite's own kernels, so that every model runs. Runtimes are those with wheels for the Python of the
board's current system: Raspberry Pi OS Bookworm (Python 3.11) and Trixie (Python 3.13).
"""

from __future__ import annotations

from edgekit.targets import android, cpu
from edgekit.targets.target import Target


def arm64(*runtimes: str) -> Target:
    """Return a board with a 64-bit system.

    Args:
        runtimes: Runtimes that can be installed, as the runner calls them.
    """
    return Target(predicted=True, fit=android.fit, settings=android.SETTINGS, runtimes=runtimes)


def armv7(*runtimes: str) -> Target:
    """Return a board with a 32-bit system, where TFLite's own kernels run every operator.

    Args:
        runtimes: As of `arm64`.
    """
    return Target(predicted=True, fit=cpu.TARGET.fit, runtimes=runtimes)

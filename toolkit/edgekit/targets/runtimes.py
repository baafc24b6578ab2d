"""Tell which modes run in which runtime, and by which kernels, before a file is on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from edgekit.modes import DYNAMIC, FLOAT16, FLOAT32, INT4, INT8, INT16X8, TFLITE_RUNTIME

LITERT: Final = "litert"


class Kernels(NamedTuple):
    """What runs the convolutions and dense layers of a mode.

    Attributes:
        xnnpack: Whether XNNPACK does, else TFLite's own kernels.
        unpacked: Whether the runner unpacks the weights first: to int8.
    """

    xnnpack: bool
    unpacked: bool = False

    def __str__(self) -> str:
        name = "XNNPACK" if self.xnnpack else "own kernels"
        return f"unpacked to int8, {name}" if self.unpacked else name


KERNELS: Final[Mapping[str, Mapping[str, Kernels]]] = {
    LITERT: {
        FLOAT32.name: Kernels(xnnpack=True),
        FLOAT16.name: Kernels(xnnpack=True),
        DYNAMIC.name: Kernels(xnnpack=True),
        INT8.name: Kernels(xnnpack=True),
        INT16X8.name: Kernels(xnnpack=False),
        INT4.name: Kernels(xnnpack=True, unpacked=True),
    },
    TFLITE_RUNTIME: {
        FLOAT32.name: Kernels(xnnpack=True),
        FLOAT16.name: Kernels(xnnpack=True),
        DYNAMIC.name: Kernels(xnnpack=False),
        INT8.name: Kernels(xnnpack=False),
        INT16X8.name: Kernels(xnnpack=False),
        INT4.name: Kernels(xnnpack=False, unpacked=True),
    },
}
"""Runtime, as the runner calls it -> mode -> kernels: counted in ai-edge-litert 2.3 and
tflite-runtime 2.14 on 64-bit and 32-bit ARM (tests/device/test_runtimes_arm.py counts again)."""

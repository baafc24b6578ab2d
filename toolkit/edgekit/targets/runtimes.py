"""Tell which modes run in which runtime, and by which kernels, before a file is on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from edgekit.modes import DYNAMIC, FLOAT16, FLOAT32, INT4, INT8, MODES, TFLITE_RUNTIME, Mode

LITERT: Final = "litert"


class Kernels(NamedTuple):
    """What runs the convolutions of a mode.

    Attributes:
        xnnpack: Whether XNNPACK does, else TFLite's own kernels.
        unpacked: Whether the runner unpacks the weights to int8 first.
    """

    xnnpack: bool
    unpacked: bool = False

    def __str__(self) -> str:
        name = "XNNPACK" if self.xnnpack else "own kernels"
        return f"{name} (as int8)" if self.unpacked else name


def _kernels(*by_xnnpack: Mode) -> dict[str, Kernels]:
    return {
        mode.name: Kernels(xnnpack=mode in by_xnnpack, unpacked=mode is INT4)
        for mode in MODES.values()
    }


KERNELS: Final[Mapping[tuple[str, int], Mapping[str, Kernels]]] = {
    (LITERT, 64): _kernels(FLOAT32, FLOAT16, DYNAMIC, INT8, INT4),
    (TFLITE_RUNTIME, 64): _kernels(FLOAT32, FLOAT16),
    (TFLITE_RUNTIME, 32): _kernels(),
}
"""Runtime, as the runner calls it, and bits of an ARM system -> mode -> kernels, counted in
ai-edge-litert 2.3 and tflite-runtime 2.14 (tests/device/test_runtimes_arm.py counts again)."""

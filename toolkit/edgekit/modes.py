"""The precision modes. To add one, add an entry here and its writer in `quantization`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgekit.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A precision of a file.

    Attributes:
        name: The name on the command line, in recipes and in manifests.
        weights: Type in which weights are stored.
        activations: Type in which activations are computed.
        io_types: Types that the file's inputs and outputs may have, the default first.
        calibrated: Whether activations are quantized, so that their ranges must be known.
        in_rules: Whether single layers of a file of another mode can have it.
        default: Whether it is made where no mode is asked for.
    """

    name: str
    weights: str
    activations: str = "float32"
    io_types: tuple[str, ...] = ("float32",)
    calibrated: bool = False
    in_rules: bool = True
    default: bool = True

    @property
    def chooses(self) -> bool:
        """Whether ranges, or the form of the float graph, matter to it: it stores integers."""
        return self.weights.startswith("int")


TFLITE_RUNTIME: Final = "tflite"
"""tflite-runtime as the runner calls it; its last release is 2.14."""

FLOAT32 = Mode(name="float32", weights="float32")
FLOAT16 = Mode(name="float16", weights="float16")
DYNAMIC = Mode(name="dynamic", weights="int8")
INT8 = Mode(
    name="int8",
    weights="int8",
    activations="int8",
    io_types=("int8", "uint8", "float32"),
    calibrated=True,
    in_rules=False,
)
INT16X8 = Mode(
    name="int16x8",
    weights="int8",
    activations="int16",
    io_types=("float32", "int16"),
    calibrated=True,
    in_rules=False,
    # CPUs run it on reference kernels: it takes 5 to 8 times the time of all other files together.
    default=False,
)
INT4 = Mode(name="int4", weights="int4")

MODES: Mapping[str, Mode] = {
    mode.name: mode for mode in (FLOAT32, FLOAT16, DYNAMIC, INT8, INT16X8, INT4)
}
"""Name -> mode, in the order of tables."""

MIXED: Final = "mixed"
"""Asks for int8 with the least set of operators in a higher precision that keeps the accepted loss;
no mode of a file: the operators are searched for, and named by rules."""

DEFAULT_MODES: tuple[str, ...] = tuple(mode.name for mode in MODES.values() if mode.default)
"""What is made where no mode is asked for."""

IO_TYPES: tuple[str, ...] = tuple(
    dict.fromkeys(io_type for mode in MODES.values() for io_type in mode.io_types)
)
"""Every type that inputs and outputs can have in some mode."""


def mode_named(name: str, *others: str) -> Mode:
    """Return the mode of that name.

    Args:
        name: The name.
        others: Further names that would have been accepted in its place.

    Raises:
        UsageError: There is none.
    """
    if name not in MODES:
        known = (*MODES, *others)
        raise UsageError(
            f"Unknown mode: {name!r}.",
            hint=f"Known: {', '.join(known)}.",
        )
    return MODES[name]


def calibrated_modes() -> str:
    """Return the names of the modes that need ranges, as an enumeration in words."""
    return ", ".join(mode.name for mode in MODES.values() if mode.calibrated)

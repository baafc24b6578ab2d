"""From a float graph and calibration samples to a file at any precision."""

from edgekit.quantize.variant import Engine, Made, make
from edgekit.quantize.profiling import profile

__all__ = ["Engine", "Made", "make", "profile"]

"""From a float graph and calibration samples to a file at any precision."""

from edgekit.quantize.profiling import profile
from edgekit.quantize.variant import Engine, Made, make

__all__ = ["Engine", "Made", "make", "profile"]

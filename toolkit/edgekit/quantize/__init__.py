"""From a float graph and calibration samples to a file at any precision."""

from edgekit.quantize.make import Engine, LeftInFloat, Made, make
from edgekit.quantize.profile import profile

__all__ = ["Engine", "LeftInFloat", "Made", "make", "profile"]

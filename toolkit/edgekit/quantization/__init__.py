"""From a float graph and calibration samples to a file at any precision."""

from edgekit.quantization.profiling import profile
from edgekit.quantization.variant import Engine, QuantizedModel, make

__all__ = ["Engine", "QuantizedModel", "make", "profile"]

"""From a float graph and calibration samples to a file at any precision."""

from edgekit.quantization.profiling import profile
from edgekit.quantization.variant import QuantizedModel, Quantizer, make

__all__ = ["QuantizedModel", "Quantizer", "make", "profile"]

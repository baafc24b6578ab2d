"""From a model in memory to a float TFLite graph, and from there to integers.

The only rooms that know TensorFlow's converter. `lower` runs once for a model; `engine.quantize`
once for a variant.
"""

from edgekit.lowering.lower import LoweredModel, lower, reference

__all__ = ["LoweredModel", "lower", "reference"]

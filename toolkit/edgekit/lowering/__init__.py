"""From a model in memory to a float TFLite graph, and from there to integers.

The only room that calls TensorFlow's converter. `lower` runs once for a model;
`tf_quantizer.quantize` once for a variant.
"""

from edgekit.lowering.lower import LoweredModel, lower

__all__ = ["LoweredModel", "lower"]

"""Convert a model in memory to a float TFLite graph, and a float graph to integers.

The only package that calls TensorFlow's converter. `lower` runs once per model,
`tf_quantizer.quantize` once per variant.
"""

from edgekit.lowering.lower import LoweredModel, lower

__all__ = ["LoweredModel", "lower"]

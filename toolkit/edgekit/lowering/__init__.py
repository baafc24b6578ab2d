"""Convert a model in memory to a float TFLite graph.

The only package that calls TensorFlow's converter, once per model.
"""

from edgekit.lowering.lower import LoweredModel, lower

__all__ = ["LoweredModel", "lower"]

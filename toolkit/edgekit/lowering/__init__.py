"""Convert a model in memory to a float TFLite graph.

The only package that calls TensorFlow's converter, once per model.
"""

from edgekit.lowering.lower import LoweredModel, lower
from edgekit.lowering.trace import plain_function

__all__ = ["LoweredModel", "lower", "plain_function"]

"""TFLite flatbuffers without TensorFlow: read, rewrite, write.

Every rewriter takes a model's bytes and returns new ones; nothing is changed in place.
"""

from edgekit.tflite.graph import operator_name, read, write
from edgekit.tflite.load import check_loads
from edgekit.tflite.signature import load_source, signature, with_signature

__all__ = [
    "check_loads",
    "load_source",
    "operator_name",
    "read",
    "signature",
    "with_signature",
    "write",
]

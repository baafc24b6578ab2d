"""TFLite flatbuffers without TensorFlow: read, rewrite, write.

Every rewriter takes a model's bytes and returns new ones; nothing is changed in place.
"""

from edgekit.tflite.graph import has_loops, operator_name, read, write
from edgekit.tflite.load import check_ends, check_loads
from edgekit.tflite.metadata import carry_metadata, has_metadata, read_metadata, with_metadata
from edgekit.tflite.signature import check_interface, load_source, signature, with_signature

__all__ = [
    "carry_metadata",
    "check_ends",
    "check_interface",
    "check_loads",
    "has_loops",
    "has_metadata",
    "load_source",
    "operator_name",
    "read",
    "read_metadata",
    "signature",
    "with_metadata",
    "with_signature",
    "write",
]

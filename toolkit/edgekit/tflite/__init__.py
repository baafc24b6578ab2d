"""TFLite flatbuffers without TensorFlow: read, rewrite, write.

Every rewriter takes a parsed model and returns a changed copy; nothing is changed in place.
"""

from edgekit.tflite.float_source import layers_with_nan, load_source
from edgekit.tflite.graph import has_loops, operator_name, operators, read, write
from edgekit.tflite.input_scaling import input_scaling
from edgekit.tflite.load import check_ends, check_loads
from edgekit.tflite.metadata import (
    carry_metadata,
    files_behind,
    has_metadata,
    read_metadata,
    with_files,
    with_metadata,
)
from edgekit.tflite.signature import check_interface, signature, with_signature

__all__ = [
    "carry_metadata",
    "check_ends",
    "check_interface",
    "check_loads",
    "files_behind",
    "has_loops",
    "has_metadata",
    "input_scaling",
    "layers_with_nan",
    "load_source",
    "operator_name",
    "operators",
    "read",
    "read_metadata",
    "signature",
    "with_files",
    "with_metadata",
    "with_signature",
    "write",
]

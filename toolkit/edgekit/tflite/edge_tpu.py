"""Read what Google's compiler put into a model for an Edge TPU.

Its custom operator holds a package of executables: one that loads parameters into the chip's memory
once, and one that runs, with the parameters that did not fit there. The schema is
`executable/executable.fbs` of github.com/google-coral/libedgetpu.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from edgekit.records import EdgeTpuProgram
from edgekit.tflite.flatbuffer_tables import Table, unpack
from edgekit.tflite.graph import operators

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

OPERATOR: Final = "edgetpu-custom-op"
_IDENTIFIER: Final = b"DWN1"
# Of the tables Package, MultiExecutable and Executable.
_MIN_RUNTIME, _EXECUTABLES = 0, 1
_SERIALIZED = 0
_PARAMETERS, _CYCLES, _TYPE, _CYCLES_64 = 6, 11, 13, 16
_CACHING: Final = 1


def edge_tpu_program(model: ModelT) -> EdgeTpuProgram | None:
    """Return what runs on the Edge TPU; None if the model was not compiled for one.

    Args:
        model: A file as `graph.read` returns it.

    Returns:
        Its requirements; None also where the package cannot be read.
    """
    for _, op, name in operators(model):
        if name != OPERATOR or op.customOptions is None:
            continue
        content = bytes(bytearray(op.customOptions))
        start = content.find(_IDENTIFIER) - 4
        if start < 0:
            continue
        try:
            return _program(content[start:])
        except (ValueError, struct.error, IndexError):
            return None
    return None


def _program(content: bytes) -> EdgeTpuProgram:
    package = unpack(content, _IDENTIFIER)
    executables = [_root(one) for one in _root(package.content(_EXECUTABLES)).contents(_SERIALIZED)]
    cached = streamed = cycles = 0
    for one in executables:
        size = len(one.content(_PARAMETERS))
        if one.number(_TYPE, "<h") == _CACHING:
            cached += size
        else:
            streamed += size
            cycles += one.number(_CYCLES_64, "<q") or one.number(_CYCLES)
    return EdgeTpuProgram(
        min_runtime=package.number(_MIN_RUNTIME),
        cached_bytes=cached,
        streamed_bytes=streamed,
        cycles=cycles or None,
    )


def _root(content: bytes) -> Table:
    """Return the root table of a nested buffer, which has no identifier."""
    return Table(content, struct.unpack_from("<I", content)[0], [8 * len(content) + 4096])

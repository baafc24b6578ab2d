"""The float graph that every variant is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.quantization.passes.bound_padding import bound_padding
from edgekit.quantization.passes.gather_words import gather_words
from edgekit.tflite.graph import read

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class FloatGraph:
    """A float graph, parsed once for all variants.

    Attributes:
        data: Content of its file.
        model: The parsed content, which is never changed in place. Operators that no precision
            but float32 has are replaced in it by others that compute the same, before any range is
            observed: infinite padding (`passes.bound_padding`), lookups (`passes.gather_words`).
    """

    data: bytes
    model: ModelT


def read_float_graph(source: Path | bytes) -> FloatGraph:
    """Read a float graph.

    Args:
        source: A float `.tflite` file or its content, with batch size 1.

    Raises:
        ModelError: It cannot be read.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    return FloatGraph(data, gather_words(bound_padding(read(data))))

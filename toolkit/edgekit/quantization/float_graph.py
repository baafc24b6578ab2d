"""The float graph that every variant is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.quantization.finite_masks import with_finite_masks
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
        finite: The same with finite masks, to observe and to write in integers; `model` itself
            where no mask is -inf.
    """

    data: bytes
    model: ModelT
    finite: ModelT = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look for masks once: graphs are told apart by identity."""
        object.__setattr__(self, "finite", with_finite_masks(self.model))


def read_float_graph(source: Path | bytes) -> FloatGraph:
    """Read a float graph.

    Args:
        source: A float `.tflite` file or its content, with batch size 1.

    Raises:
        ModelError: It cannot be read.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    return FloatGraph(data, gather_words(bound_padding(read(data))))

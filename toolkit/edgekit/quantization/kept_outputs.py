"""Outputs of a float graph, kept while it is observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgekit.isolate import shared
from edgekit.records import Array
from edgekit.tflite.ranges import activations
from edgekit.tflite.signature import signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_MOST_BYTES: Final = 256 << 20
"""Larger outputs are computed again, for as many samples as are compared."""


@dataclass(frozen=True, slots=True)
class KeptOutputs:
    """Outputs of a graph, in memory that child processes write.

    Attributes:
        indices: Output name -> tensor index.
        values: Output name -> `[n, ...]`.
        first: Number of the sample whose outputs are kept first.
    """

    indices: Mapping[str, int]
    values: Mapping[str, Array]
    first: int = 0

    @classmethod
    def of(cls, model: ModelT, n: int, *, first: int = 0) -> KeptOutputs | None:
        """Return room for the outputs of `n` samples.

        Args:
            model: A graph with batch size 1.
            n: Number of samples.
            first: Number of the first of them among those that are run.

        Returns:
            None where one of the outputs is not computed, no float32, or of a free shape, or where
            they are large.
        """
        graph, specs = model.subgraphs[0], signature(model)[1]
        computed = {*activations(model)} - {int(index) for index in graph.inputs}
        indices = {spec.name: int(i) for spec, i in zip(specs, graph.outputs, strict=True)}
        free = [graph.tensors[index].shapeSignature for index in indices.values()]
        fixed = all(spec.shape[:1] == (1,) for spec in specs) and not any(
            size is not None and -1 in size for size in free
        )
        if not fixed or not computed.issuperset(indices.values()):
            return None
        if sum(4 * n * math.prod(spec.shape) for spec in specs) > _MOST_BYTES:
            return None
        values = {spec.name: shared((n, *spec.shape[1:]), spec.dtype) for spec in specs}
        return cls(indices, values, first)

    def store(self, interpreter: Any, sample: int) -> None:
        """Keep what the graph returned for a sample, unless it comes before the first."""
        if sample >= self.first:
            for name, index in self.indices.items():
                self.values[name][sample - self.first] = interpreter.tensor(index)()[0]

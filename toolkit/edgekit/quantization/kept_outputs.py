"""Outputs of a float graph, kept while it is observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.isolate import shared
from edgekit.records import Array
from edgekit.tflite.ranges import activations
from edgekit.tflite.signature import signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


@dataclass(frozen=True, slots=True)
class KeptOutputs:
    """Outputs of a graph, in memory that child processes write.

    Attributes:
        indices: Output name -> tensor index.
        values: Output name -> `[n, ...]`.
    """

    indices: Mapping[str, int]
    values: Mapping[str, Array]

    @classmethod
    def of(cls, model: ModelT, n: int) -> KeptOutputs | None:
        """Return room for the outputs of `n` samples.

        Args:
            model: A graph with batch size 1.
            n: Number of samples.

        Returns:
            None where one of the outputs is not computed, no float32, or of a free shape.
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
        values = {spec.name: shared((n, *spec.shape[1:]), spec.dtype) for spec in specs}
        return cls(indices, values)

    def store(self, interpreter: Any, sample: int) -> None:
        """Keep what the graph returned for a sample."""
        for name, index in self.indices.items():
            self.values[name][sample] = interpreter.tensor(index)()[0]

"""Map trained ranges from layers to the tensors of their TFLite graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from edgekit.errors import ConversionError
from edgekit.records import Ranges
from edgekit.tflite.graph import operator_name, read
from edgekit.tflite.ranges import activations
from edgekit.tflite.signature import signature_names

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Operators whose output has the scale of the input; converters insert some that are no layers.
_SAME_SCALE: Final = frozenset(
    {
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D"),
        *("AVERAGE_POOL_2D", "STRIDED_SLICE", "SLICE"),
    }
)


def tensor_ranges(graph: bytes, trained: Ranges) -> Ranges:
    """Return the range of every activation of a float graph.

    A tensor's name lists the layers fused into its operator; all of them share a range.

    Args:
        graph: The TFLite graph of the model that `qat.finish` returned.
        trained: Ranges by layer name, as `qat.finish` returns them.

    Returns:
        Ranges by tensor name, as `tflite.ranges.with_ranges` takes them.

    Raises:
        ConversionError: A tensor belongs to no trained layer.
    """
    model = read(graph)
    tensors = model.subgraphs[0].tensors
    ends: dict[int, tuple[float, float]] = dict(_inputs(model, trained))
    for op in model.subgraphs[0].operators:
        same = operator_name(model, op) in _SAME_SCALE and op.inputs[0] in ends
        for index in map(int, op.outputs):
            layer = _layer(tensors[index].name, trained.low)
            if same:
                ends[index] = ends[int(op.inputs[0])]
            elif layer is not None:
                ends[index] = trained.low[layer], trained.high[layer]
    unknown = [t for i in activations(model) if i not in ends and (t := tensors[i].name)]
    if unknown:
        raise ConversionError(
            "The trained ranges do not fit the graph.",
            found=f"No trained layer computes {unknown[0]}.",
            hint="Lower the model that qat.finish returned.",
        )
    return Ranges(
        method=trained.method,
        low={tensors[i].name: low for i, (low, _) in ends.items()},
        high={tensors[i].name: high for i, (_, high) in ends.items()},
        n=trained.n,
        weight_bits=trained.weight_bits,
    )


def _layer(name: str, known: Mapping[str, float]) -> str | None:
    """Return the first known layer in a tensor's name."""
    for path in name.split(";"):
        for part in reversed(path.split("/")):
            if part in known:
                return part
    return None


def _inputs(model: ModelT, trained: Ranges) -> Iterator[tuple[int, tuple[float, float]]]:
    names, _ = signature_names(model)
    for index, name in names.items():
        if name in trained.low:
            yield index, (trained.low[name], trained.high[name])

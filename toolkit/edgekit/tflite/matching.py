"""Find the operators that two models of one origin have in common, by layers and tensor names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import clone
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_CONVERSIONS: Final = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
# What the writer appends to the name of a tensor that is there in float, too.
_WIDTH: Final = re.compile(r"_u?int(8|16)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A tensor that both models compute.

    Attributes:
        operator: Name of the operator; "" for an output of the model.
        layer: Name of its layer, or of the output.
        tensor: Name of the tensor in the second model.
        indices: Index of the tensor in the main graph of each model.
    """

    operator: str
    layer: str
    tensor: str
    indices: tuple[int, int]


def match_operators(first: ModelT, second: ModelT) -> tuple[tuple[Match, ...], tuple[str, ...]]:
    """Pair the operators of two main graphs, by layer and kind, and by their order within a layer.

    Conversions between precisions are left out: they belong to no layer.

    Returns:
        The pairs in the second model's order; and what it has beside them, `layer (OPERATOR)`.
    """
    known = {key: tensor for key, (_, tensor) in _keyed(first).items()}
    found, unmatched = [], []
    for key, (layer, tensor) in _keyed(second).items():
        other = known.get(key)
        if other is None or other.shape != tensor.shape:
            unmatched.append(f"{layer} ({key[1]})")
            continue
        found.append(
            Match(
                operator=key[1],
                layer=layer,
                tensor=tensor.name,
                indices=(other.index, tensor.index),
            )
        )
    return tuple(found), tuple(dict.fromkeys(unmatched))


def with_outputs(model: ModelT, tensors: Iterable[int]) -> ModelT:
    """Make tensors of the main graph outputs, after the existing ones.

    The runtime then keeps each of them until the end of the inference, also with delegates.

    Args:
        model: A model; it is not changed.
        tensors: Indices of computed tensors.
    """
    model = clone(model)
    graph = model.subgraphs[0]
    known = {*graph.inputs.tolist(), *graph.outputs.tolist()}
    added = [index for index in dict.fromkeys(tensors) if index not in known]
    graph.outputs = np.concatenate([graph.outputs, np.asarray(added, np.int32)])
    return model


_Key = tuple[str, str, int, int]
"""Layer, operator, how many of the kind the layer has before it, number of the output."""


def _keyed(model: ModelT) -> dict[_Key, tuple[str, Tensor]]:
    operators = nodes(model)
    given = {int(index) for index in model.subgraphs[0].inputs}
    before: Counter[tuple[str, str]] = Counter()
    keyed: dict[_Key, tuple[str, Tensor]] = {}
    for node, layer in _computing(operators):
        place = before[layer, node.name]
        before[layer, node.name] += 1
        for number, tensor in enumerate(node.outputs):
            if tensor.index not in given and tensor.dtype not in ("string", "resource", "variant"):
                keyed[layer, node.name, place, number] = (layer, tensor)
    return keyed


def _computing(operators: Sequence[Node]) -> Iterable[tuple[Node, str]]:
    for node, layer in zip(operators, name_layers(operators), strict=True):
        if node.graph == 0 and node.name not in _CONVERSIONS:
            yield node, _WIDTH.sub("", layer)

"""Derive a readable layer name for every operator from the names of its tensors.

A converter joins the paths of all operations it fused, `;` between them, e.g.
`cnn_1/relu_1/Relu;cnn_1/bn_1/batchnorm/add_1;cnn_1/conv_1/convolution`, adds those of operations
that share a constant, and appends a digit where a name would repeat. A path is
`model/.../layer/operation`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from edgekit.targets.node import Node
from edgekit.tflite.graph import clone
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Names that converters give to tensors without a layer, with or without a number appended.
_NAMES_OF_NONE: Final = (
    r"(StatefulPartitionedCall|PartitionedCall|Identity|(arith|std)\.constant"
    r"|serving_default_|tfl\.)"
)
_NAMELESS: Final = re.compile(_NAMES_OF_NONE)
_NAMELESS_IN_PATHS: Final = re.compile(rf"(^|[/;]){_NAMES_OF_NONE}")
# Scopes inside a layer: the rest of a path describes the computation, not the layer.
_INSIDE: Final = re.compile(
    r"/(BatchNorm(_Fold)?(/.*)?|batchnorm(_\d+)?/.*|(weights|act)_quant/.*|resize/Resize\w*"
    r"|(convolution|Conv1D)/(ExpandDims|Squeeze)\w*|Tensordot/.*|separable_conv2d/depthwise\d*"
    r"|(BiasAdd|MatMul|Conv2D|convolution)/(conv|ReadVariableOp)\w*|\w+_cell(_\d+)?/.*)$"
)
# Operations with a layer's weights: among several fused layers, that one gives the name.
_WEIGHTED: Final = re.compile(
    r"/(convolution|conv2d_transpose|separable_conv2d|Conv\dD|depthwise|MatMul|conv|weights)"
    r"(_Fold|_bias)?\d*$|/(weights_quant|Tensordot)/"
)
_WITH_WEIGHTS: Final = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
_CALL_NUMBER: Final = re.compile(r"_\d+$")
_OUTPUT_NUMBER: Final = re.compile(r":\d+$")


def name_layers(operators: Sequence[Node]) -> tuple[str, ...]:
    """Return the layer name of every operator; one without a name takes that of its producer.

    Model scopes common to all layers are left out, as is the number that Keras 3 appends to every
    scope when a model is traced again (layer `conv` appears as `model_1/conv_1`).

    Args:
        operators: All operators of a model, in execution order.
    """
    paths: list[str] = []
    producers: dict[int, dict[int, int]] = {}
    for position, node in enumerate(operators):
        made = producers.setdefault(node.graph, {})
        path = _path(node)
        if not path:
            upstream = (paths[made[t.index]] for t in node.inputs if t and t.index in made)
            path = next(upstream, "") or _input_name(node)
        paths.append(path)
        for tensor in node.outputs:
            made[tensor.index] = position
    return _without_shared_scopes([path.split("/") for path in paths])


def with_short_names(model: ModelT, scopes: Sequence[str]) -> ModelT:
    """Return a model whose tensors below these scopes are called `scope/number`.

    A layer that is written out step by step has thousands of tensors, whose names converters join:
    they take up to half of the file. Layer names are not changed.

    Args:
        model: A model; it is not changed.
        scopes: Paths of layers.
    """
    if not scopes:
        return model
    starts = tuple(f"{scope}/" for scope in scopes)
    model = clone(model)
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            scope = next((start for start in starts if tensor.name.startswith(start)), None)
            if scope is not None:
                tensor.name = f"{scope}{index}"
    return model


def with_layer_names(model: ModelT) -> ModelT:
    """Return a model whose tensors are called after their layers alone.

    No runtime needs names of inner tensors: constants lose theirs, and of the paths joined in that
    of a computed tensor the one remains that its layer is named by, with a number where it
    repeats. Inputs and outputs keep their names.

    Args:
        model: A model; it is not changed.
    """
    model = clone(model)
    first = [node for node in nodes(model) if node.graph == 0]
    graph = model.subgraphs[0]
    kept = {*graph.inputs.tolist(), *graph.outputs.tolist()}
    taken = {graph.tensors[index].name for index in kept}
    names: dict[int, str] = {}
    for node in first:
        for tensor in node.outputs:
            piece = name = _deciding(node)
            while name and name in taken:
                name = f"{piece}{len(names)}"
            taken.add(name)
            names.setdefault(tensor.index, name)
    for index, tensor in enumerate(graph.tensors):
        if index not in kept:
            tensor.name = names.get(index, "")
    return model


def _path(node: Node) -> str:
    """Return the path of an operator's layer, or an empty one."""
    piece = _deciding(node)
    return _layer(piece) if piece else ""


def _deciding(node: Node) -> str:
    """Return the path that names an operator's layer, of those that its tensors have; or none."""
    fused: list[str] = []
    for tensor in node.outputs:
        fused += _pieces(tensor.name)
    weights = node.input(1) if node.name in _WITH_WEIGHTS else None
    if weights is not None:
        pieces = (*_pieces(weights.name), *fused)
        weighted = [piece for piece in pieces if _WEIGHTED.search(piece)]
        fused = [*weighted, *fused, *pieces]
    return fused[0] if fused else ""


def _pieces(name: str) -> list[str]:
    """Return the paths joined in a tensor name, without the parts that name no layer."""
    if not _NAMELESS_IN_PATHS.search(name):
        return [path for path in name.split(";") if path]
    paths = ("/".join(p for p in x.split("/") if not _NAMELESS.match(p)) for x in name.split(";"))
    return [path for path in paths if path]


def _layer(path: str) -> str:
    inside = _INSIDE.sub("", path)
    if inside != path:
        return inside
    return path.rpartition("/")[0] or _OUTPUT_NUMBER.sub("", path)


def _input_name(node: Node) -> str:
    """Return the name for operators before the first layer."""
    tensor = node.input(0)
    name = tensor.name.removeprefix("serving_default_") if tensor is not None else ""
    if not name or _NAMELESS.match(name):
        return node.name.lower()
    return _OUTPUT_NUMBER.sub("", name)


def _without_shared_scopes(paths: Sequence[list[str]]) -> tuple[str, ...]:
    """Remove scopes common to all layers and, if the last of them is numbered, Keras's numbers."""
    scoped = [path for path in paths if len(path) > 1]
    shared = 0
    if scoped:
        # What the first and the last in order share, all in between share, too.
        first, last = min(scoped), max(scoped)
        deepest = min(map(len, scoped)) - 1
        while shared < deepest and first[shared] == last[shared]:
            shared += 1
    names = ["/".join(path[shared:]) if len(path) > 1 else path[0] for path in paths]
    if not shared or not _CALL_NUMBER.search(scoped[0][shared - 1]):
        return tuple(names)
    layers = {"/".join(path[shared:]) for path in scoped}
    plain = {layer: _CALL_NUMBER.sub("", layer) for layer in layers}
    if any(before == after for before, after in plain.items()):
        return tuple(names)
    if len(set(plain.values())) < len(plain):
        return tuple(names)
    return tuple(plain.get(name, name) for name in names)

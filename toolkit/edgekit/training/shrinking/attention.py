"""The rule of multi-head attention: whole heads are cut.

A head adds its values to the output by its own rows of the output projection, so that removing its
rows and columns in all projections removes exactly its summand. Michel et al., "Are sixteen heads
really better than one?", arXiv 1905.10650.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from edgekit.records import Array
from edgekit.training.shrinking.walk import Role, Walk, Weight


def attention(walk: Walk, node: Any, rows: list[Array], path: str) -> Array | None:
    """Return the output channels of a `MultiHeadAttention`; None where heads cannot be told apart.

    Kernels of query, key and value are `[in, heads, size]`, the output's is `[heads, size, out]`.

    Args:
        walk: The state that the rules update.
        node: The call.
        rows: Channels of its tensors.
        path: Path of the layer.
    """
    layer = node.operation
    signature = inspect.signature(layer.call)
    named = signature.bind(*node.arguments.args, **node.arguments.kwargs).arguments
    channels = {id(tensor): row for tensor, row in zip(node.input_tensors, rows, strict=True)}
    output = layer.output_dense
    mask = named.get("attention_mask")
    by_head = mask is not None and len(mask.shape) > 3 and mask.shape[1] != 1
    if by_head or len(output.kernel.shape) != 3:
        return None
    query, value = named["query"], named["value"]
    key = value if named.get("key") is None else named["key"]
    sources = {"query": query, "key": key, "value": value}
    projections = {"query": layer.query_dense, "key": layer.key_dense, "value": layer.value_dense}
    if getattr(layer, "_use_gate", False):
        sources["gate"], projections["gate"] = query, layer._gate_dense  # noqa: SLF001  no public name
    parts = (*projections.values(), output)
    known = {id(weight) for part in parts for weight in (part.kernel, part.bias)} - {id(None)}
    if known != {id(weight) for weight in layer.weights}:
        return None  # adapters (LoRA) and quantized kernels have other variables
    read = [channels[id(sources[name])] for name in projections]
    made = [walk.make(layer.num_heads), walk.make(output.kernel.shape[-1])]
    incoming, outgoing = np.concatenate(read), np.concatenate(made)
    first_in, first_out = walk.calls.setdefault(id(layer), (incoming, outgoing))
    walk.tie(first_in, incoming)
    heads, out = np.split(first_out, [layer.num_heads])
    for tensor, row in zip(node.input_tensors, rows, strict=True):
        if not any(tensor is source for source in sources.values()):
            walk.freeze(row, f"is a mask of {path}")
    for name, part in projections.items():
        # The output is linear in the values: a factor on them is the gate of a head.
        gates = name == "value"
        _add(
            walk,
            f"{path}/heads" if gates else f"{path}/{name}",
            part,
            {0: channels[id(sources[name])], 1: heads},
            made=1 if gates else None,
            positions=math.prod(sources[name].shape[1:-1]),
        )
    positions = math.prod(query.shape[1:-1])
    _add(walk, path, output, {0: heads, 2: out}, made=2, positions=positions)
    walk.outputs[f"{path}/heads"], walk.outputs[path] = heads, out
    walk.widths[id(layer)] = {"num_heads": heads, "output_shape": out}
    return out


def _add(
    walk: Walk,
    path: str,
    part: Any,
    axes: dict[int, Array],
    *,
    made: int | None,
    positions: int,
) -> None:
    """Record the kernel and the bias of a projection, whose bias has the kernel's last axes."""
    role: Role = "kernel" if made is None else "filters"
    walk.add(
        Weight(layer=path, variable=part.kernel, role=role, axes=axes, made=made, macs=positions)
    )
    if part.bias is not None:
        first = len(part.kernel.shape) - len(part.bias.shape)
        own = {axis - first: row for axis, row in axes.items() if axis >= first}
        walk.add(Weight(layer=path, variable=part.bias, role="bias", axes=own))

"""Inputs and outputs of a model by the names of its signature."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import TensorSpec
from edgekit.tflite.graph import (
    DTYPES,
    quantized,
)

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, TensorMapT, TensorT


def signature(model: ModelT) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs of the first graph, in its order.

    They carry the names of the signature that describes the graph, else the tensors' own names.
    """
    graph = model.subgraphs[0]
    names = signature_names(model)
    inputs, outputs = (
        tuple(
            tensor_spec(names[side].get(int(index)), graph.tensors[index])
            for index in (graph.inputs, graph.outputs)[side]
        )
        for side in (0, 1)
    )
    return inputs, outputs


def signature_names(model: ModelT) -> tuple[dict[int, str], dict[int, str]]:
    """Return tensor index -> signature name, for inputs and for outputs of the first graph."""
    for entry in model.signatureDefs:
        if entry.subgraphIndex == 0:
            return (
                {e.tensorIndex: e.name for e in entry.inputs},
                {e.tensorIndex: e.name for e in entry.outputs},
            )
    return {}, {}


def check_interface(name: str, inputs: Sized, outputs: Sized) -> None:
    """Refuse a model without inputs or outputs: it can neither be scored nor timed.

    Args:
        name: What to call it in the error.
        inputs: Inputs of its first graph, in any form.
        outputs: Likewise.

    Raises:
        ModelError: There are none.
    """
    for side, found in (("inputs", inputs), ("outputs", outputs)):
        if len(found) == 0:
            raise ModelError(
                f"{name} cannot be run: its main graph has no {side}.",
                hint="Convert it again, from a model with inputs and outputs.",
            )


def with_signature(model: ModelT, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> ModelT:
    """Return a model with a `serving_default` signature, which replaces existing ones.

    Args:
        model: A model; it is not changed.
        inputs: Signature name -> tensor name.
        outputs: Likewise.

    Raises:
        ModelError: The graph has no such input or output, or has one without a name.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]

    def entries(names: Mapping[str, str], indices: object, side: str) -> list[TensorMapT]:
        places = {graph.tensors[i].name: int(i) for i in np.asarray(indices)}
        if set(names.values()) != set(places):
            raise ModelError(
                f"The signature's {side} are not those of the graph.",
                found=f"asked for {sorted(names.values())}, the graph has {sorted(places)}",
            )
        # Readers sort by name; callers by position see the graph's own order.
        return [schema.TensorMapT(name=n, tensorIndex=places[t]) for n, t in names.items()]

    named = copy.copy(model)
    named.signatureDefs = [
        schema.SignatureDefT(
            inputs=entries(inputs, graph.inputs, "inputs"),
            outputs=entries(outputs, graph.outputs, "outputs"),
            signatureKey="serving_default",
            subgraphIndex=0,
        )
    ]
    return named


def with_names_of(made: ModelT, original: ModelT) -> ModelT:
    """Return a model made from `original` with its signature names, by position, if lost.

    Returns:
        `made` itself if it has them.
    """
    wanted, found = signature(original), signature(made)
    if all(
        [spec.name for spec in was] == [spec.name for spec in now]
        for was, now in zip(wanted, found, strict=True)
    ):
        return made
    graph = made.subgraphs[0]
    inputs, outputs = (
        {spec.name: graph.tensors[i].name for spec, i in zip(specs, indices, strict=True)}
        for specs, indices in zip(wanted, (graph.inputs, graph.outputs), strict=True)
    )
    return with_signature(made, inputs, outputs)


def tensor_spec(name: str | None, tensor: TensorT) -> TensorSpec:
    """What a tensor is, under a signature's name or its own."""
    one = quantized(tensor) and len(tensor.quantization.scale) == 1
    zero_points = tensor.quantization.zeroPoint if one else None
    return TensorSpec(
        name=name or tensor.name,
        shape=tuple(int(n) for n in tensor.shape),
        dtype=DTYPES.get(tensor.type, f"type {tensor.type}"),
        scale=float(tensor.quantization.scale[0]) if one else None,
        # An empty list denotes zeros, as any field left out of a file.
        zero_point=(int(zero_points[0]) if zero_points is not None and len(zero_points) else 0)
        if one
        else None,
    )

"""Read a float `.tflite` file that is quantized in place of its Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ModelError
from edgekit.files import sha256_of
from edgekit.records import Source
from edgekit.tflite.graph import (
    DTYPES,
    FLOAT16,
    FLOAT32,
    INT4,
    constant,
    is_constant,
    quantized,
    read,
)
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes
from edgekit.tflite.signature import check_interface, signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


def load_source(path: Path) -> Source:
    """Read a float `.tflite` file as a source model.

    Raises:
        ModelError: It cannot be read, has no inputs or outputs, is quantized already, or has NaN
            among its weights.
    """
    model = read(path)
    check_interface(str(path), model.subgraphs[0].inputs, model.subgraphs[0].outputs)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            stored = is_constant(model, tensor) and tensor.type in {FLOAT16, INT4}
            if quantized(tensor) or stored:
                raise ModelError(
                    f"{path} is quantized already; edgekit starts from a float model.",
                    found=f"tensor {tensor.name} is {DTYPES.get(tensor.type, 'int4')}",
                    hint="Give the float32 .tflite, or the Keras model it came from.",
                )
    if layers := layers_with_nan(model):
        raise ModelError(
            f"{path} cannot be quantized: its weights hold NaN.",
            found=f"They are those of {', '.join(layers[:3])}.",
            hint="Train the model again, or export it from an earlier checkpoint.",
        )
    inputs, outputs = signature(model)
    return Source(
        name=path.stem,
        path=path,
        kind="tflite",
        sha256=sha256_of(path),
        inputs=inputs,
        outputs=outputs,
        parameters=sum(
            int(np.prod(tensor.shape, dtype=np.int64))
            for graph in model.subgraphs
            for tensor in graph.tensors
            if tensor.type == 0 and is_constant(model, tensor)
        ),
    )


def layers_with_nan(model: ModelT) -> tuple[str, ...]:
    """Return the layers of a float model that have NaN among their weights, in execution order.

    Infinity is no fault by itself: masks hold it, and biases of channels that are never open.
    """
    found = []
    operators = nodes(model)
    for node, layer in zip(operators, name_layers(operators), strict=True):
        tensors = model.subgraphs[node.graph].tensors
        weights = [tensors[t.index] for t in node.inputs if t is not None and t.constant]
        dense = [t for t in weights if t.type == FLOAT32 and t.sparsity is None]
        if any(np.isnan(constant(model, tensor)).any() for tensor in dense):
            found.append(layer)
    return tuple(dict.fromkeys(found))

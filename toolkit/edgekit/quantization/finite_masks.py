"""Give masks of -inf finite values, which ranges can be observed of.

A softmax gives exactly 0 to -inf, and to -1e9 beside any score: the outputs of the graph are the
same. They are not where a mask hides everything: the softmax of nothing is NaN, the one of -1e9
alone is not. Which rows a mask hides shows in samples only, so outputs are compared on these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.errors import ConversionError
from edgekit.evaluation.predict import predict
from edgekit.files import temporary_folder
from edgekit.quantization.writer.hidden import PAD, SELECTS, SUMS, Hiding, moves, with_constants
from edgekit.quantization.writer.precisions import real_inputs
from edgekit.records import Array, Samples
from edgekit.targets.node import Node
from edgekit.tflite.graph import constant, write
from edgekit.tflite.nodes import nodes

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_FAR: Final = np.float32(1e9)
# The sum of two such values is infinite: of two masks of the least number there is, for instance.
_INFINITE: Final = np.finfo(np.float32).max / 2
# A softmax returns the hidden values too, and -inf is the logarithm of 0.
_SHOWING: Final = "LOG_SOFTMAX"
_PIECE: Final = 64
# Kernels may add up in another order where a term is not infinite.
_TOLERANCE: Final = 1e-5


def with_finite_masks(model: ModelT) -> ModelT:
    """Return a float graph whose masks of -inf before a softmax or a maximum are -1e9.

    Args:
        model: A float model; it is not changed.

    Returns:
        `model` itself where there are none.
    """
    graph = model.subgraphs[0]
    operators = [node for node in nodes(model) if node.graph == 0]
    found: dict[tuple[int, int], Array] = {}
    for node in operators:
        if node.name not in SELECTS | SUMS | {PAD}:
            continue
        for number, tensor in real_inputs(node):
            if not tensor.constant or tensor.data is None:
                continue
            if tensor.data.size != 4 * tensor.elements:
                continue  # a damaged constant, which is told where it is read
            values = constant(model, graph.tensors[tensor.index])
            if np.any(np.abs(values) > _INFINITE):
                far = np.clip(values, -_FAR, _FAR)
                found[node.index, number] = np.where(np.abs(values) > _INFINITE, far, values)
    if not found:
        return model
    hiding = Hiding(operators, graph.outputs.tolist(), 8)
    return with_constants(
        model,
        {
            place: values
            for place, values in found.items()
            if _hidden(next(n for n in operators if n.index == place[0]), hiding)
        },
    )


def check_masks(model: ModelT, changed: ModelT, samples: Samples) -> None:
    """Check that a graph with finite masks computes the same of samples.

    Args:
        model: The graph as it was.
        changed: The same with finite masks.
        samples: The samples that it is going to be calibrated on.

    Raises:
        ConversionError: It does not: a mask hides all that a softmax is given.
        ModelError: The graph cannot be run.
    """
    with temporary_folder() as folder:
        infinite, finite = folder / "infinite.tflite", folder / "finite.tflite"
        infinite.write_bytes(write(model))
        finite.write_bytes(write(changed))
        for start in range(0, samples.n, _PIECE):
            piece = samples.at(np.arange(start, min(start + _PIECE, samples.n)))
            expected, found = predict(infinite, piece), predict(finite, piece)
            for name, values in expected.items():
                row = _differing(values, found[name])
                if row is not None:
                    raise ConversionError(
                        "A mask of -inf hides everything from a softmax, which is NaN then.",
                        found=f"output {name} of calibration sample {start + row}",
                        hint="Leave something unhidden in every row, or mask by -1e9 instead of "
                        "-inf: integers have no NaN.",
                    )


def _hidden(node: Node, hiding: Hiding) -> bool:
    """Whether what an operator computes ends in a softmax or a maximum, and in nothing else."""
    index = node.outputs[0].index
    if index not in hiding.margins:
        return False
    return all(
        _hidden(reader, hiding)
        if moves(reader) or reader.name in SELECTS | SUMS | {PAD}
        else reader.name != _SHOWING
        for reader in hiding.readers[index]
    )


def _differing(values: Array, found: Array) -> int | None:
    """Return the first sample whose values are NaN or others; None if all are the same."""
    if values.dtype.kind != "f":
        same = values == found
    else:
        # What is NaN in both is none of the masks' doing.
        same = np.isclose(values, found, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    rows = np.flatnonzero(~same.reshape(len(same), -1).all(axis=1))
    return int(rows[0]) if rows.size else None

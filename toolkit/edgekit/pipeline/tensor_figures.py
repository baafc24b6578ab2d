"""Ranges, saturation and noise of every tensor of the file that a report shows in full."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgekit import tflite
from edgekit.errors import DataError, ModelError
from edgekit.evaluation import compared
from edgekit.modes import MODES
from edgekit.pipeline.layer_comparison import compare_models, rows_run
from edgekit.records import Array, Dataset, Listener, Row, Samples, silent

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Of a small model these samples are compared; of a larger one as many as take about a second.
_MOST_SAMPLES: Final = 32
_MOST_VALUES: Final = 2 * 10**7
_MOST_OPERATORS: Final = 4000
"""Operators in all samples together: each is a call for itself."""


def with_tensors(
    rows: Sequence[Row], dataset: Dataset | None, graph: Path, *, listener: Listener = silent
) -> list[Row]:
    """Return the rows; the one whose tensors are of most interest with their figures.

    That is the recommended file where its activations are integers, else the first such file.

    Args:
        rows: The files, as they stand now.
        dataset: Samples, bound to the model; test samples are run, else those of calibration.
        graph: The float graph that they were made of.
        listener: Progress callback.
    """
    shown = [
        row
        for row in rows
        if row.artifact.mode and MODES[row.artifact.mode].calibrated and not row.failure
    ]
    samples = compared(dataset) if dataset is not None else None
    if not shown or samples is None:
        return list(rows)
    row = next((row for row in shown if row.recommended), shown[0])
    models = tflite.read(graph), tflite.read(row.artifact.path)
    try:
        found = compare_models(
            models,
            ("float32", row.artifact.variant),
            samples,
            _few(samples, models[1]),
            listener=listener,
        )
    except (ModelError, DataError):  # a table less is no reason to refuse files
        return list(rows)
    return [replace(one, tensors=found) if one is row else one for one in rows]


def _few(samples: Samples, model: ModelT) -> Array:
    graph = model.subgraphs[0]
    shapes = [graph.tensors[index].shape for op in graph.operators for index in op.outputs]
    values = sum(math.prod(map(int, shape)) for shape in shapes if shape is not None)
    most = min(_MOST_VALUES // max(1, values), _MOST_OPERATORS // max(1, len(graph.operators)))
    return rows_run(samples, min(_MOST_SAMPLES, max(1, most)))

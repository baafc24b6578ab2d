"""Float files that are quantized in place of their Keras models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.tflite import load_source, read, write
from edgekit.tflite.float_source import layers_with_nan
from edgekit.tflite.graph import constant


@pytest.fixture
def path(golden: Path) -> Path:
    return golden / "quantize" / "speech_float32.tflite"


@pytest.mark.parametrize(("value", "refused"), [(np.nan, True), (-np.inf, False), (1e30, False)])
def test_nan_among_weights_is_told_by_file_and_layer(
    path: Path, tmp_path: Path, value: float, refused: bool
) -> None:
    # Given a file in which one bias is no number, or a very large one
    model = read(path)
    graph = model.subgraphs[0]
    assert layers_with_nan(model) == ()
    op = next(op for op in graph.operators if len(op.inputs) == 3)
    bias = constant(model, graph.tensors[op.inputs[2]]).copy()
    bias.flat[1] = value
    model.buffers[graph.tensors[op.inputs[2]].buffer].data = bias.reshape(-1).view(np.uint8)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(write(model))
    # When it is taken as a source, then NaN is refused, by the names that the user knows.
    if not refused:
        assert load_source(broken).parameters > 0
        return
    with pytest.raises(ModelError, match="hold NaN") as caught:
        load_source(broken)
    assert str(broken) in caught.value.what
    (layer,) = layers_with_nan(model)
    assert caught.value.found == f"They are those of {layer}."
    assert layer in graph.tensors[op.outputs[0]].name

"""Published float graphs with one channel rescaled: int8 loses, the function is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.tflite import read, write
from edgekit.tflite.graph import constant, operator_name

QUANTIZED = Path(__file__).resolve().parents[2] / "quantized"


def rescaled(name: str, *, factor: float = 2000.0, channel: int = 3) -> bytes:
    """Return a published graph whose first convolution has one output channel times `factor`.

    What reads it divides by that: the next convolution, through pooling and ReLU.
    """
    model = read((QUANTIZED / name / "float32.tflite").read_bytes())
    graph = model.subgraphs[0]
    first, second = [
        op for op in graph.operators if operator_name(model, op) in ("CONV_2D", "DEPTHWISE_CONV_2D")
    ][:2]
    depthwise = operator_name(model, second) == "DEPTHWISE_CONV_2D"
    places = [(first.inputs[1], np.s_[channel], factor), (first.inputs[2], np.s_[channel], factor)]
    places.append((second.inputs[1], np.s_[..., channel], 1 / factor))
    assert depthwise or graph.tensors[second.inputs[1]].shape[-1] > channel
    for index, part, times in places:
        tensor = graph.tensors[index]
        values = constant(model, tensor).astype(np.float32).copy()
        values[part] *= times
        model.buffers[tensor.buffer].data = values.reshape(-1).view(np.uint8)
    return write(model)

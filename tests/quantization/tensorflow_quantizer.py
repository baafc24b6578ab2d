"""TensorFlow's own quantizers, on float graphs: the reference of edgekit's writer.

TensorFlow's public API has them only as the last part of a whole conversion, after a calibration of
its own. Internally they are functions on flatbuffers that read ranges from `min` and `max`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.records import Plan, Ranges
from edgekit.tflite.graph import FLOAT32, clone
from edgekit.tflite.lstm import LEAST_CELL, STATE_INPUTS, fused_lstms
from edgekit.tflite.ranges import activations
from edgekit.worker import Session

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, QuantizationParametersT

# Width of the range of a constant activation: a range of width 0 has no scale.
_NARROWEST = 1e-6
# Of a fused LSTM: one for each gate, and one for the outputs before a projection.
_INTERMEDIATES = 5


def calibrated(session: Session, path: Path, inputs: list[np.ndarray]) -> bytes:
    """Write min/max ranges over samples into a float graph, as TensorFlow itself does."""
    from tensorflow.lite.python.optimize import calibrator

    quantity = len(inputs[0])
    samples = [[array[i : i + 1] for array in inputs] for i in range(quantity)]
    return bytes(calibrator.Calibrator(path.read_bytes()).calibrate(lambda: iter(samples)))


def quantized(session: Session, ranged: bytes, plan: Plan) -> bytes:
    """Quantize a float graph with ranges, in the process with TensorFlow."""
    import tensorflow as tf
    from tensorflow.lite.python import convert
    from tensorflow.lite.python.optimize import calibrator

    if plan.mode == "int8":
        given, made = (tf.as_dtype(kind) for kind in (plan.input_type, plan.output_type))
        return bytes(convert.mlir_quantize(ranged, input_data_type=given, output_data_type=made))
    # Only the older of the two quantizers meets the requirements of int16 kernels.
    wrapper = calibrator._calibration_wrapper.CalibrationWrapper(ranged, [], [])
    kinds = [np.dtype(kind).num for kind in (plan.input_type, plan.output_type)]
    widths = [np.dtype(kind).num for kind in (np.int16, np.int64)]
    # Operators without an int16 kernel remain float; weights are per channel, everywhere.
    return bytes(wrapper.QuantizeModel(*kinds, True, *widths, False, False))


def with_ranges(model: ModelT, ranges: Ranges, *, symmetric: bool) -> ModelT:
    """Store ranges in the quantization parameters, where TensorFlow's quantizer reads them.

    A fused LSTM whose cell state has a range gets those of its states, too, and the five
    intermediate tensors without which its integer kernel does not load; the last of them has the
    range of the outputs.

    Args:
        model: A float model; it is not changed.
        ranges: Ranges by tensor name; other tensors get no range.
        symmetric: Widen each range to equal ends, as the int16 kernels need (zero point 0).
    """
    from ai_edge_litert import schema_py_generated as schema

    model = clone(model)
    graph = model.subgraphs[0]
    for index in activations(model):
        tensor = graph.tensors[index]
        if tensor.name not in ranges.low:
            continue
        tensor.quantization = _stored(ranges, tensor.name, symmetric=symmetric)
    for op in fused_lstms(model):
        output, cell = (graph.tensors[op.inputs[place]] for place in STATE_INPUTS)
        outputs = graph.tensors[op.outputs[0]].name
        if not {cell.name, outputs} <= set(ranges.low):
            continue
        cell.quantization = _stored(ranges, cell.name, symmetric=symmetric, least=LEAST_CELL)
        output.quantization = _stored(ranges, outputs, symmetric=symmetric)
        first = len(graph.tensors)
        graph.tensors += [
            schema.TensorT(
                shape=np.zeros(1, np.int32),
                type=FLOAT32,
                buffer=0,
                name=f"intermediate{index}",
                quantization=_stored(ranges, outputs, symmetric=symmetric)
                if index == first + _INTERMEDIATES - 1
                else None,
                hasRank=True,
            )
            for index in range(first, first + _INTERMEDIATES)
        ]
        op.intermediates = np.arange(first, first + _INTERMEDIATES, dtype=np.int32)
    return model


def _stored(
    ranges: Ranges, name: str, *, symmetric: bool, least: float = 0.0
) -> QuantizationParametersT:
    from ai_edge_litert import schema_py_generated as schema

    low, high = ranges.low[name], ranges.high[name]
    if low == high == 0.0:
        high = _NARROWEST
    if symmetric or least:
        high = max(abs(low), abs(high), least)
        low = -high
    return schema.QuantizationParametersT(
        min=np.array([low], np.float32), max=np.array([high], np.float32)
    )

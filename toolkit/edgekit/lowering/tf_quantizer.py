"""Integer quantization by TensorFlow: the only module that uses its private functions.

TensorFlow's public API has the quantizer only as the last part of a whole conversion, after a
calibration of its own. Internally both parts are separate functions on flatbuffers; called
directly, another variant costs milliseconds, and any calibration can precede it. edgekit pins the
releases of TensorFlow that have these functions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.lowering.float_islands import Hidden
from edgekit.modes import INT8, INT16X8
from edgekit.records import Plan
from edgekit.tflite.graph import read
from edgekit.tflite.lstm import FUSED_LSTM, fused_lstms, is_plain

# Operators at which the quantizer crashes (TensorFlow 2.21).
_LOOPS = ("WHILE", "BIDIRECTIONAL_SEQUENCE_LSTM")


def quantize(calibrated: bytes, plan: Plan, *, denied: Sequence[str] = ()) -> bytes:
    """Quantize a float graph with activation ranges.

    Args:
        calibrated: A float flatbuffer with activation ranges in `tensor.quantization.min/max`.
        plan: Mode int8 (inputs and outputs int8, uint8 or float32) or int16x8 (int16 or float32).
        denied: Output tensor names of operators that remain float (int8 only).

    Returns:
        The quantized flatbuffer.

    Raises:
        ConversionError: TensorFlow refuses to quantize it.
    """
    _check(calibrated, plan, denied)
    convert, wrapper = _entry_points()
    import tensorflow as tf

    try:
        if plan.mode == INT8.name:
            hidden = Hidden(calibrated, denied)
            quantized = convert.mlir_quantize(
                hidden.data,
                input_data_type=tf.as_dtype(plan.input_type),
                output_data_type=tf.as_dtype(plan.output_type),
                denylisted_nodes=list(denied) or None,
            )
            return hidden.restored(bytes(quantized))
        # Only the older of the two quantizers meets the requirements of int16 kernels: 64-bit
        # biases, zero points of 0, and 1/32768 after LOGISTIC and TANH.
        return bytes(
            wrapper(calibrated, [], []).QuantizeModel(
                np.dtype(plan.input_type).num,
                np.dtype(plan.output_type).num,
                True,  # operators without an int16 kernel remain float
                np.dtype(np.int16).num,
                np.dtype(np.int64).num,
                False,  # weights per channel,
                False,  # in dense layers too
            )
        )
    except Exception as error:  # pybind turns any C++ exception into one of Python's
        raise _refused(plan, error) from error


def _entry_points() -> tuple[Any, Any]:
    """Return the converter's module, and the class that calibrates and quantizes to int16.

    Raises:
        ConversionError: This TensorFlow does not have them.
    """
    try:
        from tensorflow.lite.python import convert
        from tensorflow.lite.python.optimize import calibrator

        _ = convert.mlir_quantize
        wrapper = calibrator._calibration_wrapper.CalibrationWrapper  # noqa: SLF001  published nowhere
    except (ImportError, AttributeError) as error:
        raise ConversionError(
            "This TensorFlow has no quantizer for float graphs.",
            found=f"{type(error).__name__}: {error}",
            hint="Install the TensorFlow that edgekit asks for: pip install edgekit-tflite",
        ) from error
    return convert, wrapper


def _check(calibrated: bytes, plan: Plan, denied: Sequence[str]) -> None:
    if plan.mode == INT16X8.name and denied:
        raise ConversionError(
            f"Variant {plan.variant}: int16x8 cannot leave single layers in float.",
            found=f"{len(denied)} operators are to remain float.",
            hint="Drop the rules, or use them with int8.",
        )
    names = _operator_names(calibrated, denied)
    loops = [name for name in _LOOPS if name in names]
    if FUSED_LSTM in names and not (plan.mode == INT8.name and _complete(calibrated)):
        # There is no int16 kernel of it (LiteRT 2.3).
        loops.append(FUSED_LSTM)
    if loops:
        raise ConversionError(
            f"Variant {plan.variant}: TensorFlow cannot quantize loops to {plan.mode}.",
            found=f"The graph holds {', '.join(loops)}, from a recurrent layer.",
            hint="Give the Keras model, whose recurrent layers edgekit writes out step by step "
            "(over 512 steps: built with unroll=True); or choose float16 or dynamic.",
        )


def _complete(data: bytes) -> bool:
    """Whether every fused LSTM has what its quantization needs (`tflite.ranges.with_ranges`)."""
    return all(
        is_plain(op) and op.intermediates is not None and len(op.intermediates)
        for op in fused_lstms(read(data))
    )


def _operator_names(data: bytes, denied: Collection[str]) -> set[str]:
    """Return the names of a model's operators that do not remain float, without unpacking it."""
    from ai_edge_litert import schema_py_generated as schema

    names = {c: n for n, c in vars(schema.BuiltinOperator).items() if isinstance(c, int)}
    model = schema.Model.GetRootAs(data)
    left = {name.encode() for name in denied}
    found = set()
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            outputs = (graph.Tensors(op.Outputs(i)) for i in range(op.OutputsLength()))
            if not left or any(tensor.Name() not in left for tensor in outputs):
                code = model.OperatorCodes(op.OpcodeIndex())
                # Either field may hold an operator code below 127.
                found.add(names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())])
    return found


def _refused(plan: Plan, error: Exception) -> ConversionError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return ConversionError(
        f"Variant {plan.variant}: TensorFlow refuses to quantize to {plan.mode}.",
        found=first[:200] or type(error).__name__,
        hint="Keep the layer named there in float32 with a rule, or choose another mode.",
    )

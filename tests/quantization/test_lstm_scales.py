"""Integer LSTMs whose outputs are joined with values of another scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.quantization.writer import write_integers
from edgekit.records import Plan, Ranges
from edgekit.tflite import read, write
from edgekit.tflite.graph import operator_code
from edgekit.tflite.lstm import STATE_INPUTS, fused_lstms, lstm_cells, with_resets
from edgekit.tflite.ranges import activations


def joined(path: Path) -> schema.ModelT:
    """An LSTM, whose outputs are concatenated with the wider values of its input."""
    model = read(path)
    graph = model.subgraphs[0]
    lstm = graph.operators[0]
    sequence, outputs = int(lstm.inputs[0]), int(lstm.outputs[0])
    whole = schema.TensorT(shape=np.array([1, 3, 14], np.int32), name="whole", hasRank=True)
    graph.tensors.append(whole)
    graph.operators = [
        lstm,
        schema.OperatorT(
            opcodeIndex=operator_code(model, "CONCATENATION", 1),
            inputs=np.array([outputs, sequence], np.int32),
            outputs=np.array([len(graph.tensors) - 1], np.int32),
            builtinOptionsType=schema.BuiltinOptions.ConcatenationOptions,
            builtinOptions=schema.ConcatenationOptionsT(axis=2),
        ),
    ]
    graph.outputs = np.array([len(graph.tensors) - 1], np.int32)
    model.signatureDefs = []
    return with_resets(read(write(model)))


def answer(data: bytes, values: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def test_the_state_keeps_its_scale_beside_values_that_are_wider(golden: Path) -> None:
    # Given outputs within 1, which are joined with values of up to 3
    model = joined(golden / "stateful" / "lstm.tflite")
    values = np.random.default_rng(0).uniform(-3, 3, (1, 3, 8)).astype(np.float32)
    (cell,) = lstm_cells(model)
    tensors = model.subgraphs[0].tensors
    names = [tensors[i].name for i in activations(model)]
    high = dict.fromkeys(names, 3.0) | {tensors[cell.cell].name: 2.0}
    high[tensors[int(fused_lstms(model)[0].outputs[0])].name] = 0.8
    ranges = Ranges(method="minmax", low={n: -v for n, v in high.items()}, high=high, n=1)
    # When it is written in integers
    plan = Plan(variant="int8", mode="int8", input_type="float32", output_type="float32")
    made = write_integers(model, ranges, plan).model
    # Then the operator's state, which it reads as its output, has its own scale, and so do the
    # outputs, which are rounded again for the joined values.
    (lstm,) = fused_lstms(made)
    graph = made.subgraphs[0]
    state, output = (
        graph.tensors[i].quantization for i in (lstm.inputs[STATE_INPUTS[0]], lstm.outputs[0])
    )
    assert output.scale[0] == pytest.approx(2 * 0.8 / 255)
    assert (state.scale[0], state.zeroPoint[0]) == (output.scale[0], output.zeroPoint[0])
    error = answer(write(made), values) - answer(write(model), values)
    step = 2 * 3 / 255
    assert np.abs(error).max() < step / 2 + 4 * output.scale[0]

"""The fused LSTM operator: its state is set back by the file itself, and followed step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.records import Ranges
from edgekit.tflite import read, write
from edgekit.tflite.lstm import lstm_cells, with_resets, without_resets
from edgekit.tflite.ranges import activations, with_ranges
from edgekit_runner import TENSORS, state_of


@pytest.fixture
def remembering(golden: Path) -> Path:
    """A file that goes on with the state of the last inference."""
    return golden / "stateful" / "lstm.tflite"


def answers(data: bytes, values: np.ndarray, *, fresh: bool) -> np.ndarray:
    found = []
    interpreter = None
    for sample in values:
        if interpreter is None or fresh:
            interpreter = Interpreter(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(found)


def test_a_file_with_resets_forgets_and_without_them_remembers(remembering: Path) -> None:
    # Given samples that a remembering file answers differently in a row than alone
    values = np.random.default_rng(0).normal(size=(5, 3, 8)).astype(np.float32)
    before = remembering.read_bytes()
    alone = answers(before, values, fresh=True)
    assert not np.allclose(answers(before, values, fresh=False), alone, atol=1e-3)
    # When resets are added, and taken away again
    model = with_resets(read(before))
    bare, had = without_resets(model)
    # Then it answers in a row as alone, and again as before.
    np.testing.assert_allclose(answers(write(model), values, fresh=False), alone, atol=1e-6)
    assert (state_of(before), state_of(write(model)), state_of(write(bare))) == (
        TENSORS,
        "",
        TENSORS,
    )
    assert had
    assert not without_resets(bare)[1]
    assert len(write(model)) < len(before) + 1000 * len(lstm_cells(model))


def test_the_cell_state_is_that_of_the_runtime(remembering: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 8)).astype(np.float32)
    model = read(remembering)
    (cell,) = lstm_cells(model)
    interpreter = Interpreter(model_content=remembering.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()

    assert cell.sequence == interpreter.get_input_details()[0]["index"]
    states = cell.states(values)

    np.testing.assert_allclose(states[-1], interpreter.get_tensor(cell.cell)[0], atol=1e-6)
    assert np.ptp(states[:, 0]) > 0


@pytest.mark.parametrize(("seen", "stored"), [(0.3, 1.5), (1.2, 1.5), (2.5, 2.5)])
def test_a_cell_state_never_gets_a_range_at_which_the_integer_kernel_saturates(
    remembering: Path, seen: float, stored: float
) -> None:
    model = read(remembering)
    (cell,) = lstm_cells(model)
    tensors = model.subgraphs[0].tensors
    names = [str(tensors[i].name) for i in (cell.cell, *activations(model))]
    low, high = dict.fromkeys(names, -0.2), dict.fromkeys(names, seen)
    ranged = with_ranges(model, Ranges(method="minmax", low=low, high=high, n=1), symmetric=False)
    found = ranged.subgraphs[0].tensors[cell.cell].quantization
    assert (float(found.min[0]), float(found.max[0])) == pytest.approx((-stored, stored))

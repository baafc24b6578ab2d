"""The estimate of pruning, on the published models."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ModelError
from edgekit.tflite import operator_name, read, write
from edgekit.tflite.pruning_estimate import estimate_pruning

PUBLISHED = ["fashion-mnist", "spoken-digits", "turbofan"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_download_shrinks_with_the_share(repository: Path, name: str) -> None:
    data = (repository / "quantized" / name / "float32.tflite").read_bytes()
    told = [estimate_pruning(data, share) for share in (0.0, 0.5, 0.8)]
    sizes = [payoff.pruned_deflated_bytes for payoff in told]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.4 * sizes[0]
    assert sizes[0] == pytest.approx(told[0].size_deflated_bytes, rel=0.02)
    assert told[0].sparse_bytes is None
    assert told[2].sparse_bytes < 0.5 * told[2].size_bytes
    assert [payoff.sparsity for payoff in told] == pytest.approx([0, 0.5, 0.8], abs=2e-3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_integers_gain_less_in_flash(repository: Path, name: str) -> None:
    data = (repository / "quantized" / name / "int8.tflite").read_bytes()
    told = estimate_pruning(data, 0.8)
    assert told.pruned_deflated_bytes < 0.7 * told.size_deflated_bytes
    assert 0.45 * told.size_bytes < told.sparse_bytes < 0.9 * told.size_bytes
    assert not told.faster.mapped
    # A value and its place take two bytes: half of the weights must go before anything is saved.
    assert estimate_pruning(data, 0.4).sparse_bytes is None


def test_the_weights_of_an_lstm_count(golden: Path) -> None:
    # Given a file of an LSTM with 6 units and 8 inputs, whose dense layer has 12 weights
    told = estimate_pruning((golden / "stateful" / "lstm.tflite").read_bytes(), 0.5)
    # Then half of its 336 weights of 4 bytes shrink to little.
    assert told.sparsity == pytest.approx(0.5, abs=0.02)
    assert told.pruned_deflated_bytes < told.size_deflated_bytes - 250


def test_kernels_that_do_not_hold_what_their_shape_says_are_refused(golden: Path) -> None:
    model = read((golden / "quantize" / "speech_float32.tflite").read_bytes())
    graph = model.subgraphs[0]
    convolution = next(op for op in graph.operators if operator_name(model, op) == "CONV_2D")
    kernel = graph.tensors[convolution.inputs[1]]
    kernel.shape = kernel.shape + 1
    with pytest.raises(ModelError, match="does not hold what its shape"):
        estimate_pruning(write(model), 0.5)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.tflite.int4_weights import four_bit_codes


@pytest.fixture(scope="session")
def found(run_session, demo_model) -> dict[str, Any]:
    return run_session("qat", demo_model)


@pytest.mark.tensorflow
def test_the_int8_file_predicts_what_the_trained_model_does(found):
    digits = found["digits"]
    assert digits["agreement"] >= 0.99
    assert digits["reloaded"]
    assert digits["accuracy"] > 0.95


@pytest.mark.tensorflow
def test_it_is_no_worse_than_quantizing_after_training(found):
    mean, margin = found["digits"]["gain"]
    assert mean + margin >= 0


@pytest.mark.tensorflow
def test_the_file_holds_exactly_the_trained_codes_and_scales(found):
    digits = found["digits"]
    assert digits["same codes"]
    assert digits["ranges"] >= 8
    assert digits["other scales"] == []


@pytest.mark.tensorflow
def test_what_is_finished_is_a_plain_model_without_normalization(found):
    kinds = found["digits"]["plain"]
    assert {"Conv2D", "ReLU", "Dense"} <= set(kinds)
    assert not {"BatchNormalization", "FakeQuantize", "QuantizedWeights"} & set(kinds)


@pytest.mark.tensorflow
def test_the_given_model_is_left_alone_and_its_output_keeps_its_name(found):
    assert found["digits"]["untouched"] == [14, 1]
    assert found["digits"]["output"] == ["output"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["mixed", "narrow mixed", "narrow temporal"])
def test_every_supported_layer_computes_as_in_the_file(found, name):
    result = found[name]
    assert result["agreement"] >= 0.99
    assert result["other scales"] == []
    assert result["accuracy"] >= result["float"] - 0.02


@pytest.mark.tensorflow
def test_four_bit_weights_run_with_eight_bit_activations(found):
    result = found["narrow mixed"]
    assert result["narrow agreement"] >= 0.98
    assert result["narrow"] == [
        ["CONV_2D", "int4"],
        ["DEPTHWISE_CONV_2D", "int8"],
        ["FULLY_CONNECTED", "int4"],
    ]
    before, after = result["bytes"]
    assert after < before


@pytest.mark.tensorflow
def test_eight_bit_weights_are_not_taken_for_four_bit_ones(found):
    assert {kind for _, kind in found["mixed"]["narrow"]} == {"int8"}


@pytest.mark.tensorflow
def test_excluded_layers_stay_float_and_are_computed_so_in_the_file(found):
    result = found["partly"]
    assert result["kept"] == ["first", "second", "inner", "logits"]
    # Nothing is rounded between the float layers.
    assert not {"first_range", "clip_range", "second_range"} & set(result["rounded"])
    assert result["dtypes"] == ["int8", "float32", "float32", "float32", "int8", "float32"]
    assert result["agreement"] >= 0.99
    assert result["other scales"] == []


@pytest.mark.tensorflow
def test_zeros_and_clusters_are_kept_in_kernels_of_every_kind(found):
    # Given a model that was pruned by half and clustered to 8 weights a kernel
    kept = found["kept"]
    assert kept["left"] == {"island": "SimpleRNN"}
    assert kept["moved"]
    # Then the codes of every integer kernel, and the weights of one in float, are as few: dense,
    # 4 of attention, pointwise, transposed, convolution, 8 of an LSTM, and 2 in the loop of a GRU.
    assert len(kept["distinct"]) == 19
    assert max(*kept["distinct"], *kept["island"]) <= 8
    assert min(*kept["zeros"], *kept["island zeros"]) >= 0.4


def test_a_model_of_which_nothing_can_be_trained_is_refused(found):
    refused = found["refused"]
    assert "Without a quantized form: SimpleRNN" in refused["nothing"]
    assert refused["bits"].startswith("UsageError")
    assert "never set" in refused["unset"]


@given(
    arrays(np.int8, (3, 40), elements=st.integers(-7, 7)),
    st.integers(1, 7),
)
def test_codes_survive_the_way_through_eight_bits(codes, largest):
    codes = np.clip(codes, -largest, largest)
    codes[:, 0] = largest
    eight = np.rint(codes * (127.0 / largest)).astype(np.int8)
    recovered = four_bit_codes(eight)
    assert recovered is not None
    again, limits = recovered
    assert np.allclose(again / limits[:, None], codes / largest)


def test_codes_of_eight_bits_are_left_alone():
    assert four_bit_codes(np.arange(-127, 128, dtype=np.int8)[None]) is None

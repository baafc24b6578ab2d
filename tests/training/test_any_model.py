"""Passes over models of every kind that people have: none ends in a traceback."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def found(run_session) -> dict[str, Any]:
    return run_session("any_model")


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("masked words", ("cluster",)),
        ("masked attention", ("qat",)),
        ("transformer", ("shrink", "cluster")),
        ("open picture", ("shrink", "qat")),
        ("fixed batch", ("shrink", "qat")),
        ("stateful", ("cluster",)),
        ("stateful batch", ("prune",)),
        ("float16", ("cluster",)),
        ("bfloat16", ("prune",)),
        ("float16 h5", ("prune",)),
        ("adapted", ("prune", "qat")),
        ("without input", ("shrink", "qat")),
        ("keras 2 h5", ("cluster",)),
        ("keras 2 saved", ("prune",)),
    ],
)
def test_a_pass_writes_a_model_that_loads_and_lowers(found, kind, steps):
    for step in steps:
        assert "error" not in found[kind][step], (step, found[kind][step])
        if step == "cluster":
            assert found[kind][step]["distinct"] <= 8


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("masked words", [None, None]),
        ("open picture", [None, None, None, 1]),
        ("stateful", [1, 6, 4]),
    ],
)
def test_the_file_takes_the_inputs_that_the_source_takes(found, kind, shape):
    assert {tuple(each["input"]) for each in found[kind].values()} == {tuple(shape)}


def test_what_qat_leaves_in_float_is_named_with_what_it_costs(found):
    said = found["masked attention"]["qat"]["facts"]["float islands"]
    assert said.startswith("attention (MultiHeadAttention with a mask), memory (GRU with a mask): ")
    assert "conversions" in said
    assert "Quantized without qat" in said


def test_a_stateful_model_stays_one(found):
    for step in found["stateful"].values():
        assert step["stateful"] == ["gru", "lstm"]
        assert "gru, lstm" in step["facts"]["loaded"]


@pytest.mark.parametrize("kind", ["transformer", "open picture", "stateful", "adapted"])
def test_what_is_trained_computes_what_the_file_does(found, kind):
    assert found["kept"][kind] < 1e-5


@pytest.mark.parametrize(
    ("kind", "allowed"), [("float16", 0.01), ("bfloat16", 0.05), ("float16 h5", None)]
)
def test_half_precision_becomes_float32_and_that_is_said(found, kind, allowed):
    (step,) = found[kind].values()
    assert step["policies"] == ["float32"]
    assert "float32 in place of mixed_" in step["facts"]["loaded"]
    if allowed:
        assert 0 < found["kept"][kind] < allowed


def test_a_loss_of_one_hot_targets_takes_labels(found):
    # Outputs are shares of three classes: squared errors are at most 2/3, focal losses small.
    assert 0 < found["squared errors"]["prune"]["loss"] < 2 / 3
    assert 0 < found["focal"]["prune"]["loss"] < 1


@pytest.mark.parametrize("step", ["prune", "shrink", "cluster", "qat"])
def test_normalizations_keep_their_statistics(found, step):
    # Without them values around 1,000 reach the dense layer, and the loss is in the hundreds.
    assert found["statistics"][step]["after"] < found["statistics"][step]["loss"] + 1.0


def test_weights_that_are_no_numbers_are_named(found):
    kind, _, reason, _ = found["diverged"]["prune"]["error"]
    assert kind == "ModelError"
    assert reason.endswith("wide/bias.")


def test_a_model_that_cannot_be_called_is_not_blamed_on_its_loss(found):
    kind, what, reason, hint = found["badly named"]["prune"]["error"]
    assert kind == "ModelError"
    assert "cannot be run" in what
    assert "wide(1)" in reason
    assert "predicts in Keras" in hint


def test_adapters_are_merged_and_that_is_said(found):
    for step in found["adapted"].values():
        assert "LoRA" in step["facts"]["loaded"]


def test_a_model_that_keras_quantized_is_refused(found):
    for step in found["coded"].values():
        kind, _, reason, hint = step["error"]
        assert kind == "ModelError"
        assert reason == "wide (Dense) is stored as int8."
        assert "before model.quantize()" in hint


def test_heads_are_cut_whole(found):
    assert found["transformer"]["shrink"]["heads"][0] < 4
    assert found["transformer"]["cluster"]["heads"] == [4]


def test_a_fixed_batch_takes_single_samples(found):
    assert found["singles"] < 1e-5
    assert found["fixed batch"]["shrink"]["input"] == [None, 6, 4]
    assert "batches of 8" in found["fixed batch"]["shrink"]["facts"]["loaded"]


def test_what_holds_a_batch_together_is_named(found):
    kind, what, reason, hint = found["sealed"]
    assert kind == "ModelError"
    assert what == "sealed.keras works on batches of 8 only."
    assert "broadcast_to" in reason
    assert "-1 where 8 is written" in hint


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("keras 2 code", "(TFOpLambda) is code of Keras 2"),
        ("exported", "an exported graph, without Keras layers"),
    ],
)
def test_what_has_no_layers_to_train_is_refused(found, kind, says):
    error = found[kind]["prune"]["error"]
    assert error[0] == "ModelError"
    assert says in "\n".join(error)
    assert len(error) <= 4


def test_a_table_is_named_and_the_hint_works(found):
    kind, what, reason, hint = found["table"]
    assert kind == "ConversionError"
    assert "no such preprocessing" in what
    assert "table (IntegerLookup)" in reason
    assert 'model.get_layer("table").output' in hint
    assert found["fed"] == []

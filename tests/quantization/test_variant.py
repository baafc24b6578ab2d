from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT

from edgekit.errors import ConversionError, UsageError
from edgekit.modes import MODES
from edgekit.quantization import Observed, QuantizedModel, make, observe, read_float_graph
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.rules import modes_of
from edgekit.recipe import default_plan
from edgekit.records import Batch, Plan, Rule, Samples
from edgekit.tflite import read, signature, write
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes
from edgekit.tflite.ranges import activations
from edgekit.tflite.runtime_versions import oldest_runtimes
from edgekit.tflite.weights import stored_weights


def not_observed(model: ModelT) -> Observed:
    raise AssertionError("weights need no ranges")


def of_weights(plan: Plan, graph: bytes) -> QuantizedModel:
    return make(plan, read_float_graph(graph), observe=not_observed)


def rule(layers: str, mode: str = "float32") -> tuple[Rule, ...]:
    return (Rule(layers=layers, mode=mode),)


def kinds(data: bytes) -> dict[str, str]:
    """Output tensor name -> storage type of the operator's weights."""
    return {node.outputs[0].name: w.dtype for node, w in stored_weights(nodes(read(data)))}


def test_float32_is_the_graph_itself(speech: bytes) -> None:
    made = of_weights(Plan(variant="float32", mode="float32"), speech)
    assert made.data == speech
    assert made.left_in_float == ()


@pytest.mark.parametrize("mode", ["float16", "dynamic", "int4"])
def test_weight_modes_say_what_they_left(speech: bytes, mode: str) -> None:
    made = of_weights(Plan(variant=mode, mode=mode), speech)
    left = {entry["layer"]: entry for entry in made.left_in_float}
    if mode == "int4":
        assert left["conv2d"] == {
            "operator": "CONV_2D",
            "layer": "conv2d",
            "reason": "its 480 weights are int8: they gain too little from int4",
        }
        assert "conv2d_1" not in left
    else:
        assert not left


def test_small_weights_are_stored_where_the_file_gets_smaller(golden: Path, speech: bytes) -> None:
    # Given kernels of 288 to 640 weights, which compute in float
    stored = {
        (node.name, w.elements): w.dtype
        for node, w in stored_weights(
            nodes(read(of_weights(Plan(variant="dynamic", mode="dynamic"), speech).data))
        )
    }
    assert {stored[name, n] for name, n in stored if n < 1024} == {"int8"}

    # And one of 144 weights in 16 channels, whose scales take what would be saved
    made = of_weights(
        Plan(variant="dynamic", mode="dynamic"),
        (golden / "evaluate" / "fashion_dynamic.tflite").read_bytes(),
    )
    assert made.left_in_float == (
        {
            "operator": "CONV_2D",
            "layer": "conv2d",
            "reason": "its 144 weights are too few to reduce the size",
        },
    )


def test_a_rule_changes_its_layers_alone(speech: bytes) -> None:
    plan = Plan(variant="mixed", mode="dynamic", rules=rule("^conv2d_3$", "int4"))
    made = of_weights(plan, speech)
    types = list(kinds(made.data).values())
    assert (types.count("int4"), types.count("int8")) == (1, 7)
    (entry,) = [e for e in made.left_in_float if "rule" in e["reason"]]
    assert entry == {
        "operator": "CONV_2D",
        "layer": "conv2d_3",
        "reason": "a rule asks for int4",
    }


def test_the_last_rule_wins(speech: bytes) -> None:
    rules = (*rule("conv", "float16"), *rule("^conv2d_3$", "float32"))
    modes = modes_of(Plan(variant="v", mode="int8", rules=rules), read(speech))
    assert list(modes.values()) == [*["float16"] * 6, "float32", *["int8"] * 3]


def test_a_rule_that_matches_nothing_names_what_is_close(speech: bytes) -> None:
    with pytest.raises(UsageError, match="matches no layer") as caught:
        of_weights(Plan(variant="v", mode="dynamic", rules=rule("^conw2d_2$")), speech)
    assert "conv2d_2" in (caught.value.hint or "")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("layers", "mode", "words"),
    [("(", "float32", "not a regular expression"), ("dense", "int8", "cannot have")],
)
def test_rules_that_cannot_mean_anything(speech: bytes, layers: str, mode: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        of_weights(Plan(variant="v", mode="dynamic", rules=rule(layers, mode)), speech)


@pytest.mark.parametrize("mode", ["float16", "dynamic", "int4"])
def test_nothing_quantized_is_an_error(speech: bytes, mode: str) -> None:
    with pytest.raises(ConversionError, match=f"nothing could be quantized to {mode}"):
        of_weights(Plan(variant="v", mode=mode, rules=rule(".")), speech)


def everything(model: ModelT) -> Observed:
    """Ranges of [-4, 4] for every activation."""
    names = [model.subgraphs[0].tensors[i].name for i in activations(model)]
    return Observed(low=dict.fromkeys(names, -4.0), high=dict.fromkeys(names, 4.0), n=1)


def of_integers(plan: Plan, graph: bytes) -> QuantizedModel:
    return make(plan, read_float_graph(graph), observe=everything)


def test_without_ranges_nothing_is_passed_off_as_int8(speech: bytes) -> None:
    plan = Plan(variant="int8", mode="int8")
    with pytest.raises(ConversionError, match="nothing could be quantized to int8") as caught:
        make(plan, read_float_graph(speech), observe=lambda _: NOTHING)
    assert "no range is known of input_layer" in (caught.value.found or "")


def test_inputs_of_another_type_than_asked_are_an_error(speech: bytes, noise: Samples) -> None:
    # Given ranges of all activations but the input's
    def all_but_the_input(model: ModelT) -> Observed:
        seen = observe(model, noise)
        return replace(seen, low={n: low for n, low in seen.low.items() if n != "input_layer"})

    plan = Plan(variant="int8", mode="int8", input_type="int8")
    with pytest.raises(ConversionError, match="not as requested") as caught:
        make(plan, read_float_graph(speech), observe=all_but_the_input)
    assert "input_layer int8 [1, 61, 40, 1]" in (caught.value.found or "")


def test_a_file_that_does_not_run_is_an_error(speech: bytes) -> None:
    model = read(speech)
    model.subgraphs[0].operators[0].builtinOptions.strideW = 0
    with pytest.raises(ConversionError, match="does not run"):
        of_integers(Plan(variant="int8", mode="int8"), write(model))


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_names_and_signature_of_the_interface_are_kept(speech: bytes, mode: str) -> None:
    made = of_integers(Plan(variant=mode, mode=mode), speech)
    assert signature(read(made.data)) == signature(read(speech))
    assert made.left_in_float == ()


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_layers_of_a_rule_remain_float(speech: bytes, mode: str) -> None:
    made = of_integers(Plan(variant="v", mode=mode, rules=rule("^dense$")), speech)
    left = [(entry["operator"], entry["reason"]) for entry in made.left_in_float]
    assert left == [
        ("FULLY_CONNECTED", "a rule asks for float32"),
        ("SOFTMAX", "a rule asks for float32"),
    ]
    names = [node.name for node in nodes(read(made.data))]
    assert names[-3:] == ["DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"]
    assert names.count("DEQUANTIZE") == 1


@pytest.mark.parametrize(("mode", "other"), [("int8", "int16x8"), ("int16x8", "int8")])
def test_integers_of_both_widths_mix_by_layer(speech: bytes, mode: str, other: str) -> None:
    made = of_integers(Plan(variant="v", mode=mode, rules=rule("^conv2d_[12]$", other)), speech)
    found = [n.outputs[0].dtype for n in nodes(read(made.data)) if n.name == "CONV_2D"]
    usual, ruled = (MODES[name].activations for name in (mode, other))
    assert found == [usual, ruled, ruled, usual]
    assert {entry["reason"] for entry in made.left_in_float} == {f"a rule asks for {other}"}


def test_a_rule_gives_integer_layers_weights_of_four_bits(speech: bytes) -> None:
    # Given an int8 plan, and a rule that asks for int4 where there are convolutions
    made = of_integers(Plan(variant="v", mode="int8", rules=rule("^conv2d_[23]$", "int4")), speech)
    plain = of_integers(Plan(variant="v", mode="int8"), speech)
    model = read(made.data)
    # Then activations are as in int8, weights are half as large, and only they are listed.
    assert [n.outputs[0].dtype for n in nodes(model)] == [
        n.outputs[0].dtype for n in nodes(plain.model)
    ]
    assert sorted(kinds(made.data).values()).count("int4") == 2
    assert len(plain.data) - len(made.data) > 3000
    assert [(e["operator"], e["reason"]) for e in made.left_in_float] == [
        ("CONV_2D", "a rule asks for int4")
    ] * 2
    # It runs (`make` tries every file) where such kernels are: not in tflite-runtime 2.14.
    assert oldest_runtimes(plain.model)["tflite"] == "1.14"
    assert oldest_runtimes(model)["tflite"] is None
    assert oldest_runtimes(model)["litert"] == "1.0.1"


def test_integers_with_weights_of_four_bits_compute_what_float_does(speech: bytes) -> None:
    # Given all layers with int4 weights, the dense one too
    graph = read(speech)
    plan = Plan(variant="v", mode="int8", rules=rule(".", "int4"))
    x = np.random.default_rng(0).standard_normal((1, 61, 40, 1)).astype(np.float32)
    made = make(plan, read_float_graph(speech), observe=lambda model: observe(model, one(x)))
    # Then operators with such kernels have them, and the others are named.
    assert {(node.name, weight.dtype) for node, weight in stored_weights(nodes(made.model))} == {
        ("CONV_2D", "int4"),
        ("DEPTHWISE_CONV_2D", "int8"),
        ("FULLY_CONNECTED", "int4"),
    }
    told = {entry["operator"]: entry["reason"] for entry in made.left_in_float}
    assert told == {
        "CONV_2D": "a rule asks for int4",
        "DEPTHWISE_CONV_2D": "a rule asks for int4: DEPTHWISE_CONV_2D has no such kernel",
        "FULLY_CONNECTED": "a rule asks for int4",
    }
    assert oldest_runtimes(made.model)["litert"] == "1.1.2"
    # The class remains the same.
    expected, found = (answer(data, x) for data in (write(graph), made.data))
    assert np.argmax(found) == np.argmax(expected)
    assert np.abs(found - expected).max() < 0.1


def test_inner_names_are_short_unless_they_are_to_be_kept(speech: bytes) -> None:
    plain, named = (
        of_integers(default_plan("int8", io="int8", keep_names=keep), speech)
        for keep in (False, True)
    )
    long, short = (
        {tensor.name for tensor in read(file.data).subgraphs[0].tensors} for file in (named, plain)
    )
    assert {tensor.name for tensor in read(speech).subgraphs[0].tensors} <= long
    assert sum(map(len, short)) < 0.3 * sum(map(len, long))
    assert len(plain.data) < len(named.data)
    # The layers are found either way.
    layers = [name_layers(nodes(file.model)) for file in (plain, named)]
    assert layers[0] == layers[1]


def one(x: np.ndarray) -> Samples:
    return Samples(
        split="calibrate", n=1, sha256="", read=lambda rows: Batch(inputs={"input_layer": x[rows]})
    )


def answer(data: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=data, num_threads=1)
    return next(iter(interpreter.get_signature_runner()(input_layer=x).values()))


@pytest.mark.parametrize(("mode", "layers"), [("int16x8", "^conv2d_3$")])
def test_rules_of_weights_hold_in_integer_files(speech: bytes, mode: str, layers: str) -> None:
    made = of_integers(Plan(variant="v", mode=mode, rules=rule(layers, "int4")), speech)
    assert sorted(kinds(made.data).values()).count("int4") == 1
    assert {entry["reason"] for entry in made.left_in_float} == {"a rule asks for int4"}

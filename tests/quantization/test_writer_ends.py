"""What remains float at the ends of a graph because one scale would ruin it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from test_writer import Step, add, concatenation, graph_of, operators_of, reshape, run

from edgekit.quantization import QuantizedModel, make, observe, read_float_graph
from edgekit.recipe import default_plan
from edgekit.records import Array, Batch, Plan, Samples
from edgekit.tflite import signature, write

RNG = np.random.default_rng(2)
INT8 = default_plan("int8")
PLANS = [INT8, default_plan("int16x8")]
TENTHS = np.array([0.1, -0.2, 0.3, 0.4], np.float32)


def mul() -> object:
    return schema.MulOptionsT()


def sub() -> object:
    return schema.SubOptionsT()


def dense() -> object:
    return schema.FullyConnectedOptionsT()


def shaped(model: ModelT, **shapes: Sequence[int]) -> ModelT:
    """The model with other shapes of some tensors, and a signature."""
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.name in shapes:
            tensor.shape = np.array(shapes[tensor.name], np.int32)
    ends = [
        [schema.TensorMapT(name=graph.tensors[i].name, tensorIndex=int(i)) for i in indices]
        for indices in (graph.inputs, graph.outputs)
    ]
    model.signatureDefs = [
        schema.SignatureDefT(
            inputs=ends[0], outputs=ends[1], signatureKey="serving_default", subgraphIndex=0
        )
    ]
    return model


def made(plan: Plan, model: ModelT, x: Array) -> QuantizedModel:
    samples = Samples(
        split="calibrate", n=len(x), sha256="", read=lambda rows: Batch(inputs={"x": x[rows]})
    )
    return make(plan, read_float_graph(write(model)), observe=lambda graph: observe(graph, samples))


def outputs(data: bytes, x: Array) -> Array:
    """Real outputs `[n, ...]`, from real inputs."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in x:
        values = row[None]
        scale, zero = given["quantization"]
        if scale:
            values = np.clip(np.rint(values / scale) + zero, -128, 127).astype(given["dtype"])
        interpreter.set_tensor(given["index"], values)
        interpreter.invoke()
        codes = interpreter.get_tensor(output["index"]).astype(np.float32)
        scale, zero = output["quantization"]
        found.append((codes - zero) * scale if scale else codes)
    return np.concatenate(found)


def detector() -> ModelT:
    """Boxes in 640 pixels beside a score, then a reshape, as heads of detectors end."""
    steps: list[Step] = [
        ("FULLY_CONNECTED", ["x", "w", "b"], "logits", dense()),
        ("LOGISTIC", ["logits"], "unit", None),
        ("MUL", ["unit", "size"], "boxes", mul()),
        ("TANH", ["x"], "t", None),
        ("LOGISTIC", ["t"], "score", None),
        ("CONCATENATION", ["boxes", "score"], "joined", concatenation()),
        ("RESHAPE", ["joined", "shape"], "y", reshape()),
    ]
    constants = {
        "w": RNG.normal(0, 1, (4, 4)).astype(np.float32),
        "b": TENTHS,
        "size": np.array(640, np.float32),
        "shape": np.array([1, 2, 4], np.int32),
    }
    return shaped(graph_of(steps, constants), joined=(1, 8), y=(1, 2, 4))


X = RNG.uniform(-2, 2, (40, 4)).astype(np.float32)


def test_boxes_and_scores_are_joined_in_float() -> None:
    # Given a head that joins pixels and probabilities, and a plan that asks for no types
    model = detector()
    file = made(INT8, model, X)
    # Then they are joined in float, and so the output is, which the reasons and a note say.
    assert operators_of(file.model)[-4:] == [
        *("DEQUANTIZE", "DEQUANTIZE", "CONCATENATION", "RESHAPE")
    ]
    assert [entry["reason"] for entry in file.left_in_float] == [
        "in one scale, score would have 2 of 256 levels",
        "what it is given is float",
    ]
    assert (file.plan.input_type, file.plan.output_type) == ("int8", "float32")
    assert file.notes == (
        "int8: its output is float32, not int8: in one scale, score would have 2 of 256 levels.",
    )
    expected, found = outputs(write(model), X), outputs(file.data, X)
    scores = np.abs(expected[:, 1] - found[:, 1])
    assert scores.max() < 0.02


def test_an_int8_output_that_was_asked_for_stays_and_says_what_it_loses() -> None:
    model = detector()
    file = made(default_plan("int8", io="int8"), model, X)
    assert signature(file.model)[1][0].dtype == "int8"
    (note,) = file.notes
    assert note == (
        "int8: its output loses too much in int8: in one scale, score would have 2 of 256 levels. "
        "Leave out --io (in a recipe: output), and it is float32."
    )
    exact, lost = (outputs(data, X)[:, 1] for data in (write(model), file.data))
    assert np.abs(exact - lost).max() > 0.2
    # Which does as it says: the scores are there.
    followed = made(default_plan("int8"), model, X)
    assert signature(followed.model)[1][0].dtype == "float32"
    assert np.abs(exact - outputs(followed.data, X)[:, 1]).max() < 0.02


def test_sixteen_bits_are_enough_for_both() -> None:
    file = made(PLANS[1], detector(), X)
    assert file.left_in_float == ()
    assert file.notes == ()


def test_what_is_read_by_a_layer_is_joined_in_integers() -> None:
    # Given a concatenation of values as far apart, that a dense layer reads
    steps: list[Step] = [
        ("MUL", ["x", "size"], "a", mul()),
        ("CONCATENATION", ["a", "x"], "joined", concatenation()),
        ("FULLY_CONNECTED", ["joined", "w", "b"], "y", dense()),
    ]
    weights = RNG.normal(0, 1, (4, 8)).astype(np.float32)
    model = graph_of(steps, {"size": np.array(640, np.float32), "w": weights, "b": TENTHS})
    file = made(INT8, shaped(model, joined=(1, 8)), X)
    assert file.left_in_float == ()
    assert file.plan.output_type == "int8"


def test_a_concatenation_of_concatenations_is_float_from_the_first_that_loses() -> None:
    steps: list[Step] = [
        ("MUL", ["x", "size"], "a", mul()),
        ("TANH", ["x"], "t", None),
        ("CONCATENATION", ["a", "t"], "first", concatenation()),
        ("ABS", ["a"], "b", None),
        ("CONCATENATION", ["first", "b"], "y", concatenation()),
    ]
    model = graph_of(steps, {"size": np.array(640, np.float32)})
    file = made(INT8, shaped(model, first=(1, 8), y=(1, 12)), X)
    assert [entry["reason"] for entry in file.left_in_float] == [
        "in one scale, t would have 2 of 256 levels",
        "what it is given is float",
    ]
    expected, found = outputs(write(model), X), outputs(file.data, X)
    assert np.abs(expected - found)[:, 4:8].max() < 0.02


@pytest.mark.parametrize(
    ("constants", "operator"),
    [
        (np.array([640, 640, 1, 0.1], np.float32), "MUL"),
        (np.array([1, 1, 0.01, 1], np.float32), "DIV"),
        (np.array([0, 0, 3000, 0], np.float32), "ADD"),
    ],
)
def test_columns_get_magnitudes_of_their_own_in_float(constants: Array, operator: str) -> None:
    # Given a dense layer whose outputs are scaled or moved column by column
    options = {"MUL": mul(), "DIV": schema.DivOptionsT(), "ADD": add()}[operator]
    steps: list[Step] = [
        ("FULLY_CONNECTED", ["x", "w", "b"], "d", dense()),
        (operator, ["d", "scales"], "y", options),
    ]
    weights = RNG.normal(0, 1, (4, 4)).astype(np.float32)
    model = shaped(graph_of(steps, {"w": weights, "b": TENTHS, "scales": constants}))
    file = made(INT8, model, X)
    # Then that is done in float, and each column is as exact as the layer's output.
    assert operators_of(file.model) == ["FULLY_CONNECTED", "DEQUANTIZE", operator]
    expected, found = outputs(write(model), X), outputs(file.data, X)
    spread = expected.max(0) - expected.min(0)
    assert (np.abs(expected - found).max(0) < 0.05 * spread).all()


MEANS = np.array([40.0, 55_000.0, 0.3, 1990.0], np.float32)
DEVIATIONS = np.array([12.0, 21_000.0, 0.1, 15.0], np.float32)


def prices() -> tuple[ModelT, Array, Array]:
    """A fitted regression of prices on raw features, its samples `[n, 4]` and targets `[n]`."""
    x = RNG.normal(MEANS, DEVIATIONS, (400, 4)).astype(np.float32)
    z = (x - MEANS) / DEVIATIONS
    y = 250_000 + 60_000 * np.tanh(z[:, 0]) + 40_000 * z[:, 2] * (z[:, 3] > 0) + 9_000 * z[:, 1]
    hidden, shift = RNG.normal(0, 1, (24, 4)), RNG.normal(0, 1, 24)
    features = np.maximum(z @ hidden.T + shift, 0)
    fitted = np.linalg.lstsq(np.c_[features, np.ones(400)], y, rcond=None)[0]
    steps: list[Step] = [
        ("SUB", ["x", "means"], "centred", sub()),
        ("MUL", ["centred", "inverse"], "normalized", mul()),
        ("FULLY_CONNECTED", ["normalized", "w1", "b1"], "h", relu()),
        ("FULLY_CONNECTED", ["h", "w2", "b2"], "y", dense()),
    ]
    constants = {
        "means": MEANS[None],
        "inverse": (1 / DEVIATIONS)[None],
        "w1": hidden.astype(np.float32),
        "b1": shift.astype(np.float32),
        "w2": fitted[None, :-1].astype(np.float32),
        "b2": fitted[-1:].astype(np.float32),
    }
    return shaped(graph_of(steps, constants), h=(1, 24), y=(1, 1)), x, y


def relu() -> object:
    return schema.FullyConnectedOptionsT(fusedActivationFunction=1)


def rmse(data: bytes, x: Array, y: Array) -> float:
    return float(np.sqrt(np.mean((outputs(data, x).reshape(-1) - y) ** 2)))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.mode)
def test_raw_features_are_normalized_in_float(plan: Plan) -> None:
    # Given a regression whose features are normalized inside the model
    model, x, y = prices()
    file = made(plan, model, x)
    # Then the file takes floats, normalizes them as such, and keeps its accuracy.
    assert operators_of(file.model)[:3] == ["SUB", "MUL", "QUANTIZE"]
    assert file.plan.input_type == "float32"
    assert rmse(file.data, x, y) < 1.05 * rmse(write(model), x, y)
    reasons = {entry["reason"] for entry in file.left_in_float}
    assert reasons <= {
        "given codes, normalized would have 2 of 256 levels",
        "given codes, normalized would have 2 of 65536 levels",
    }


def test_raw_features_in_int8_are_lost_and_said_so() -> None:
    model, x, y = prices()
    file = made(replace(INT8, free_ends=()), model, x)
    assert file.left_in_float == ()
    assert file.notes[0].startswith("int8: its input loses too much in int8: given codes, ")
    assert rmse(file.data, x, y) > 2 * rmse(write(model), x, y)


def test_a_rescaling_that_suits_all_values_is_done_in_integers() -> None:
    steps: list[Step] = [
        ("MUL", ["x", "factor"], "m", mul()),
        ("ADD", ["m", "term"], "a", add()),
        ("FULLY_CONNECTED", ["a", "w", "b"], "y", dense()),
    ]
    constants = {
        "factor": np.array(1 / 127.5, np.float32),
        "term": np.array(-1.0, np.float32),
        "w": RNG.normal(0, 1, (4, 4)).astype(np.float32),
        "b": TENTHS,
    }
    pixels = RNG.integers(0, 256, (40, 4)).astype(np.float32)
    file = made(INT8, shaped(graph_of(steps, constants)), pixels)
    assert file.left_in_float == ()
    assert file.plan.input_type == "int8"


@pytest.mark.parametrize(
    ("first", "samples"),
    [
        # Values far from zero, which the range of codes includes.
        (("ADD", ["x", "term"], "first", add()), RNG.uniform(999, 1001, (40, 4))),
        (("LOG", ["x"], "first", None), RNG.lognormal(0, 3, (40, 4))),
        (("SQRT", ["x"], "first", None), RNG.lognormal(0, 3, (40, 4))),
    ],
    ids=["moved", "log", "sqrt"],
)
def test_values_that_codes_cannot_tell_apart_are_taken_in_float(
    first: Step, samples: Array
) -> None:
    x = samples.astype(np.float32)
    constants = {
        "term": np.array(-1000.0, np.float32),
        "w": RNG.normal(0, 1, (4, 4)).astype(np.float32),
        "b": TENTHS,
    }
    steps: list[Step] = [first, ("FULLY_CONNECTED", ["first", "w", "b"], "y", dense())]
    model = shaped(graph_of(steps, constants))
    file = made(INT8, model, x)
    assert operators_of(file.model) == [first[0], "QUANTIZE", "FULLY_CONNECTED"]
    expected, found = outputs(write(model), x), outputs(file.data, x)
    assert np.abs(expected - found).max() < 0.03 * np.abs(expected).max()


def test_an_operator_in_float_before_others_changes_no_type() -> None:
    model = shaped(graph_of([("SIN", ["x"], "s", None), ("ADD", ["s", "s"], "y", add())], {}))
    file = made(INT8, model, X)
    assert [entry["reason"] for entry in file.left_in_float] == ["SIN has no integer kernel"]
    assert run(file.data, np.zeros((1, 4), np.int8))[0].dtype == np.int8

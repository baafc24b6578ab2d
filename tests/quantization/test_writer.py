"""Integers written by edgekit itself: the table, mixed graphs, bad input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from quantize_programs import WITHOUT_TENSORFLOW

from edgekit.errors import ModelError
from edgekit.quantization.writer import OPERATORS, write_integers
from edgekit.quantization.writer.operators import Parameters
from edgekit.quantization.writer.recurrent import cell_parameters
from edgekit.records import Array, Plan, Ranges
from edgekit.tflite import read, write
from edgekit.tflite.graph import FLOAT32, INT32, constant, operator_code
from edgekit.tflite.naming import name_layers, with_layer_names
from edgekit.tflite.nodes import nodes
from edgekit.tflite.ranges import activations

REPOSITORY = Path(__file__).parents[2]
INT8 = Plan(variant="int8", mode="int8")
INT16 = Plan(variant="int16x8", mode="int16x8")
Step = tuple[str, Sequence[str], str, object]


def graph_of(
    steps: Sequence[Step],
    constants: dict[str, Array],
    *,
    shape: tuple[int, ...] = (1, 4),
    outputs: Sequence[str] = ("y",),
) -> ModelT:
    """A float graph of operators on tensors of one shape, from input `x`."""
    model = schema.ModelT(
        version=3, operatorCodes=[], buffers=[schema.BufferT()], metadata=[], signatureDefs=[]
    )
    tensors: dict[str, int] = {}
    graph = schema.SubGraphT(tensors=[], operators=[], name="main")
    model.subgraphs = [graph]

    def index(name: str) -> int:
        if name not in tensors:
            values = constants.get(name)
            if values is not None:
                data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
                model.buffers.append(schema.BufferT(data=data))
            dims = shape if values is None else values.shape
            kind = FLOAT32 if values is None or values.dtype == np.float32 else INT32
            place = 0 if values is None else len(model.buffers) - 1
            graph.tensors.append(
                schema.TensorT(
                    shape=np.array(dims, np.int32), type=kind, name=name, buffer=place, hasRank=True
                )
            )
            tensors[name] = len(graph.tensors) - 1
        return tensors[name]

    graph.inputs = np.array([index("x")], np.int32)
    for name, inputs, output, options in steps:
        kind = type(options).__name__.removesuffix("T")
        graph.operators.append(
            schema.OperatorT(
                opcodeIndex=operator_code(model, name, 1),
                inputs=np.array([index(given) for given in inputs], np.int32),
                outputs=np.array([index(output)], np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, kind) if options else 0,
                builtinOptions=options,
            )
        )
    graph.outputs = np.array([index(name) for name in outputs], np.int32)
    return read(write(model))


def ranges_of(model: ModelT, low: float = -2.0, high: float = 2.0) -> Ranges:
    names = [model.subgraphs[0].tensors[i].name for i in activations(model)]
    return Ranges(
        method="minmax", low=dict.fromkeys(names, low), high=dict.fromkeys(names, high), n=1
    )


def run(data: bytes, values: Array) -> list[Array]:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def operators_of(model: ModelT) -> list[str]:
    return [node.name for node in nodes(model)]


def add() -> object:
    return schema.AddOptionsT()


def reshape() -> object:
    return schema.ReshapeOptionsT()


def concatenation() -> object:
    return schema.ConcatenationOptionsT(axis=1)


VALUES = np.array([[-1.5, -0.2, 0.4, 1.9]], np.float32)
SHAPE = {"shape": np.array([1, 4], np.int32)}


def test_rows_of_the_table_are_complete() -> None:
    builtin = vars(schema.BuiltinOperator)
    for name, row in OPERATORS.items():
        assert name in builtin
        assert row.version >= 1
        assert set(row.bits) <= {8, 16}
        assert bool(row.fixed) == (row.scale == "fixed")
        assert [entry.bits for entry in row.fixed] in ([], list(row.bits))


@pytest.mark.parametrize("plan", [INT8, INT16], ids=lambda plan: plan.mode)
def test_the_same_bytes_twice(speech: bytes, plan: Plan) -> None:
    model = read(speech)
    first, second = (write(write_integers(model, ranges_of(model), plan).model) for _ in range(2))
    assert first == second
    assert write(model) == write(read(speech))


def test_layers_keep_their_names(speech: bytes) -> None:
    model = read(speech)
    made = with_layer_names(write_integers(model, ranges_of(model), INT8).model)
    assert name_layers(nodes(made))[1:-1] == name_layers(nodes(model))
    longest = max(len(t.name) for t in made.subgraphs[0].tensors)
    assert longest < max(len(t.name) for t in model.subgraphs[0].tensors)


def test_precisions_mix_by_operator() -> None:
    model = graph_of(
        [
            ("ADD", ["x", "x"], "a", add()),
            ("TANH", ["a"], "t", None),
            ("SQUARED_DIFFERENCE", ["t", "x"], "s", None),
            ("ADD", ["s", "t"], "y", add()),
        ],
        {},
    )
    ranges = ranges_of(model, -4, 9)
    widths = {"t": "int16x8", "s": "int16x8", "a": "dynamic"}
    mixed = write_integers(model, ranges, INT8, widths)
    # Codes change their width by QUANTIZE, without a detour through float.
    assert [(node.name, node.outputs[0].dtype) for node in nodes(mixed.model)] == [
        ("ADD", "float32"),
        *[("QUANTIZE", "int16"), ("TANH", "int16")],
        *[("QUANTIZE", "int16"), ("SUB", "int16"), ("MUL", "int16")],
        *[("QUANTIZE", "int8"), ("QUANTIZE", "int8"), ("ADD", "int8"), ("DEQUANTIZE", "float32")],
    ]
    expected = run(write(model), VALUES)[0]
    found = run(write(mixed.model), VALUES)[0]
    np.testing.assert_allclose(found, expected, atol=0.08)


def test_an_operator_without_integers_is_an_island() -> None:
    # Given a graph whose middle is a sine, between reshapes
    model = graph_of(
        [
            ("ADD", ["x", "x"], "a", add()),
            ("RESHAPE", ["a", "shape"], "b", reshape()),
            ("SIN", ["b"], "c", None),
            ("RESHAPE", ["c", "shape"], "d", reshape()),
            ("COS", ["d"], "e", None),
            ("RESHAPE", ["e", "shape"], "f", reshape()),
            ("ADD", ["f", "f"], "y", add()),
        ],
        SHAPE,
    )
    written = write_integers(model, ranges_of(model, -4, 4), INT8)
    # Then codes are converted once before and once after; what is copied between floats is float.
    assert operators_of(written.model) == [
        *("QUANTIZE", "ADD", "RESHAPE", "DEQUANTIZE", "SIN", "RESHAPE", "COS"),
        *("QUANTIZE", "RESHAPE", "ADD", "DEQUANTIZE"),
    ]
    assert written.reasons == {
        "c": "SIN has no integer kernel",
        "d": "it only copies values from float to float",
        "e": "COS has no integer kernel",
    }
    expected, found = run(write(model), VALUES), run(write(written.model), VALUES)
    np.testing.assert_allclose(found[0], expected[0], atol=0.08)


def test_a_tensor_is_converted_once_for_all_its_readers() -> None:
    model = graph_of(
        [
            ("ADD", ["x", "x"], "a", add()),
            ("SIN", ["a"], "b", None),
            ("COS", ["a"], "c", None),
            ("ADD", ["b", "c"], "y", add()),
        ],
        {},
        outputs=("y", "a"),
    )
    made = write_integers(model, ranges_of(model, -4, 4), INT8).model
    assert operators_of(made).count("DEQUANTIZE") == 2  # of `a` and of `y`
    assert [made.subgraphs[0].tensors[i].name for i in made.subgraphs[0].outputs] == ["y", "a"]


def test_a_concatenation_gives_its_scale_to_what_it_joins() -> None:
    steps = [
        ("ADD", ["x", "x"], "a", add()),
        ("TANH", ["x"], "t", None),
        ("CONCATENATION", ["a", "t"], "y", concatenation()),
    ]
    model = graph_of(steps, {})
    model.subgraphs[0].tensors[-1].shape = np.array([1, 8], np.int32)
    ranges = replace(ranges_of(model), high={**ranges_of(model).high, "y": 4.0})
    made = write_integers(model, ranges, INT8).model
    by_name = {node.name: node for node in nodes(made)}
    tensors = made.subgraphs[0].tensors
    shared = {
        float(tensors[t.index].quantization.scale[0]) for t in by_name["CONCATENATION"].inputs if t
    }
    # The sum is computed in the shared scale; TANH prescribes its own, so it is requantized.
    assert shared == {float(np.float32(6 / 255))}
    assert operators_of(made) == [
        *("QUANTIZE", "ADD", "TANH", "QUANTIZE", "CONCATENATION", "DEQUANTIZE")
    ]


def test_what_others_read_is_not_clipped_to_a_shared_range() -> None:
    model = graph_of(
        [
            ("MINIMUM", ["x", "half"], "m", schema.MaximumMinimumOptionsT()),
            ("ADD", ["x", "m"], "y", add()),
        ],
        {"half": np.full((1, 4), -1.0, np.float32)},
    )
    ranges = ranges_of(model)
    ranges = replace(ranges, low={**ranges.low, "y": -4.0}, high={**ranges.high, "m": -1.0})
    found = run(write(write_integers(model, ranges, INT8).model), VALUES)
    np.testing.assert_allclose(found[0], run(write(model), VALUES)[0], atol=0.05)


@pytest.mark.parametrize("plan", [INT8, INT16], ids=lambda plan: plan.mode)
@pytest.mark.parametrize("name", ["SQUARE", "NEG", "SQUARED_DIFFERENCE"])
def test_equivalents_compute_the_same(name: str, plan: Plan) -> None:
    inputs = ["x", "x2"] if name == "SQUARED_DIFFERENCE" else ["x"]
    model = graph_of(
        [("TANH", ["x"], "x2", None), (name, inputs, "y", None)],
        {},
    )
    ranges = replace(ranges_of(model, -4, 4), high={"x": 2.0, "x2": 1.0, "y": 4.0})
    written = write_integers(model, ranges, plan)
    assert not written.reasons
    found = run(write(written.model), VALUES)
    tolerance = 0.06 if plan is INT8 else 0.001
    np.testing.assert_allclose(found[0], run(write(model), VALUES)[0], atol=tolerance)


@pytest.mark.parametrize("bias", [0.0, 5.0])
def test_a_channel_of_zeros_keeps_its_bias(bias: float) -> None:
    weights = np.array([[0.5, -0.25, 0.125, 1.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    model = graph_of(
        [("FULLY_CONNECTED", ["x", "w", "b"], "y", schema.FullyConnectedOptionsT())],
        {"w": weights, "b": np.array([0.1, bias], np.float32)},
    )
    model.subgraphs[0].tensors[-1].shape = np.array([1, 2], np.int32)
    made = write_integers(model, ranges_of(model, -3, 6), INT8).model
    added = next(node.inputs[2] for node in nodes(made) if node.name == "FULLY_CONNECTED")
    assert added is not None
    codes = constant(made, made.subgraphs[0].tensors[added.index])
    assert np.abs(codes).max() < 2**30 + 2
    found = run(write(made), VALUES)
    np.testing.assert_allclose(found[0], run(write(model), VALUES)[0], atol=0.05)


def test_weights_that_are_no_numbers_are_refused() -> None:
    weights = np.full((4, 4), np.nan, np.float32)
    model = graph_of(
        [("FULLY_CONNECTED", ["x", "w", "b"], "y", schema.FullyConnectedOptionsT())],
        {"w": weights, "b": np.zeros(4, np.float32)},
    )
    with pytest.raises(ModelError, match="NaN or infinity"):
        write_integers(model, ranges_of(model), INT8)


def test_weights_that_are_computed_leave_the_operator_in_float() -> None:
    model = graph_of(
        [
            ("ADD", ["x", "x"], "w", add()),
            ("FULLY_CONNECTED", ["x", "w", "b"], "y", schema.FullyConnectedOptionsT()),
        ],
        {"b": np.zeros(1, np.float32)},
    )
    model.subgraphs[0].tensors[-1].shape = np.array([1, 1], np.int32)
    written = write_integers(model, ranges_of(model, -9, 9), INT8)
    assert written.reasons == {"y": "its weights are computed, not stored"}
    found = run(write(written.model), VALUES)
    np.testing.assert_allclose(found[0], run(write(model), VALUES)[0], atol=0.6)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (1.0, 1.0), (-1e-9, 1e-9), (-3.4e38, 3.4e38), (1e-30, 2e-30)]
)
def test_extreme_ranges_make_files_that_run(low: float, high: float) -> None:
    model = graph_of([("ADD", ["x", "x"], "y", add())], {})
    for plan in (INT8, INT16):
        data = write(write_integers(model, ranges_of(model, low, high), plan).model)
        assert np.isfinite(run(data, VALUES)[0]).all()


def test_a_range_covers_what_it_has_codes_for() -> None:
    wide, narrow = Parameters(8, 0.02, 0), Parameters(8, 0.01, -128)
    assert wide.covers(narrow)
    assert not narrow.covers(wide)


def test_quantizing_a_graph_starts_no_tensorflow(speech: bytes, tmp_path: Path) -> None:
    # Given a float file, samples, and a process in which the worker cannot be started
    (tmp_path / "speech.tflite").write_bytes(speech)
    x = np.random.default_rng(0).normal(size=(24, 61, 40, 1)).astype(np.float32)
    y = np.arange(24) % 10
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    arguments = ["quantize", "speech.tflite", "--data", "data.npz", "--output", "out", "--no-bench"]
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments),
            *("--mode", "int8", "--mode", "int16x8"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Then both files are made.
    assert done.returncode == 0, done.stderr
    for name in ("int8", "int16x8"):
        assert set(operators_of(read(tmp_path / "out" / f"{name}.tflite"))) >= {"CONV_2D"}


@pytest.mark.parametrize(("seen", "ends"), [(0.3, 2.0), (1.2, 2.0), (2.5, 4.0)])
def test_a_cell_state_never_gets_a_range_at_which_the_kernel_saturates(
    seen: float, ends: float
) -> None:
    assert cell_parameters(-0.2, seen) == Parameters(16, ends / 32768, 0)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import ModelT

from edgekit.data import bind, open_data
from edgekit.errors import ModelError
from edgekit.numerics import dequantize, symmetric_scales, unpack_int4
from edgekit.records import Dataset
from edgekit.tflite import check_loads, operator_name, read, signature, write
from edgekit.tflite.graph import constant, operators, quantized
from edgekit.tflite.int4_weights import narrow_weights
from edgekit.tflite.nodes import nodes
from edgekit.tflite.sparse import store_sparse
from edgekit.tflite.weights import stored_weights, to_dynamic, to_float16, to_int4

REWRITERS = {"float16": to_float16, "dynamic": to_dynamic, "int4": to_int4}


@pytest.fixture(scope="module")
def digits(shared_data: Path, speech: bytes) -> Dataset:
    return bind(open_data("spoken-digits"), *signature(read(speech)))


def accuracy(run, data: bytes, digits: Dataset) -> float:
    batch = digits.test.read(np.arange(digits.test.n))
    return float(np.mean(run(data, batch.inputs)["dense"].argmax(1) == batch.targets))


# TensorFlow's own float16 and dynamic files: 33,908 and 29,152 bytes, accuracy 0.990 and 0.993.
# It makes no int4 ones.
EXPECTED = {"float16": (0.990, 33_908), "dynamic": (0.990, 29_152), "int4": (0.980, 25_000)}


@pytest.mark.parametrize("mode", EXPECTED)
def test_smaller_files_keep_their_accuracy(speech: bytes, run, digits: Dataset, mode: str) -> None:
    lowest, largest_bytes = EXPECTED[mode]
    data = write(REWRITERS[mode](read(speech)))
    check_loads(data)
    assert signature(read(data)) == signature(read(speech))
    assert len(data) <= largest_bytes
    assert accuracy(run, data, digits) >= lowest


def test_float16_rounds_and_keeps_biases(speech: bytes) -> None:
    before, after = read(speech), to_float16(read(speech))
    kernels = {w.name: w for _, w in stored_weights(nodes(after))}
    assert {w.dtype for w in kernels.values()} == {"float16"}
    weight = before.subgraphs[0].tensors[14]
    half = next(t for t in after.subgraphs[0].tensors if t.name == weight.name and t.type == 1)
    np.testing.assert_array_equal(
        constant(after, half), constant(before, weight).astype(np.float16)
    )
    bias = next(t for t in after.subgraphs[0].tensors if t.name == "functional/dense/BiasAdd")
    assert constant(after, bias).dtype == np.float32


def test_what_float16_cannot_hold_stays_float(speech: bytes) -> None:

    model = read(speech)
    kernel = model.subgraphs[0].tensors[14]
    values = constant(model, kernel).copy()
    values[0, 0] = 1e5
    model.buffers[kernel.buffer].data = values.reshape(-1).view(np.uint8)
    weights = stored_weights(nodes(to_float16(model)))
    assert {w.dtype for node, w in weights if node.name == "FULLY_CONNECTED"} == {"float32"}


def test_dynamic_kernels_get_scales_as_older_runtimes_read_them(speech: bytes) -> None:
    # Given a graph whose dense layer is large enough, by an embedded threshold
    model = to_dynamic(read(speech))
    for graph, op, name in operators(model):
        weight = graph.tensors[op.inputs[1]] if len(op.inputs) > 1 else None
        if weight is None or not quantized(weight):
            continue
        version = model.operatorCodes[op.opcodeIndex].version
        assert (name, version) == ("CONV_2D", 5)
        assert len(weight.quantization.scale) == weight.shape[0]
        assert not weight.quantization.zeroPoint.any()
        assert constant(model, weight).min() >= -127


def test_dense_layers_get_one_scale(golden: Path) -> None:
    data = (golden / "evaluate" / "autoencoder_float32.tflite").read_bytes()
    model = to_dynamic(read(data))
    dense = [
        (graph.tensors[op.inputs[1]], model.operatorCodes[op.opcodeIndex].version, op)
        for graph, op, name in operators(model)
        if name == "FULLY_CONNECTED" and quantized(graph.tensors[op.inputs[1]])
    ]
    assert dense
    for weight, version, op in dense:
        assert version == 9  # 12, for scales by channel, is refused by tflite-runtime 2.14
        assert len(weight.quantization.scale) == 1
        assert op.builtinOptions.asymmetricQuantizeInputs


def test_int4_codes_are_packed_in_order(speech: bytes) -> None:
    before, after = read(speech), to_int4(read(speech))
    original = before.subgraphs[0].tensors[11]
    stored = next(t for t in after.subgraphs[0].tensors if t.name == original.name)
    packed = after.buffers[stored.buffer].data
    assert stored.type == 17
    assert len(packed) == 64 * 64 // 2
    codes = unpack_int4(packed, 64 * 64).reshape(original.shape)
    weights = constant(before, original)
    scales = stored.quantization.scale
    assert np.all(scales <= symmetric_scales(weights, 0, 4) * 1.0001)
    # No code is further than one step from the weight it stands for, clipped ones apart.
    error = np.abs(dequantize(codes, scales, 0) - weights) / scales[:, None, None, None]
    assert np.mean(error <= 1.001) > 0.99


def test_int4_files_are_refused_where_they_would_compute_nonsense(speech: bytes) -> None:
    model = to_int4(read(speech))
    versions = {
        (name, model.operatorCodes[op.opcodeIndex].version)
        for graph, op, name in operators(model)
        if len(op.inputs) > 1 and graph.tensors[op.inputs[1]].type == 17
    }
    assert versions == {("CONV_2D", 8)}  # tflite-runtime 2.14 knows 7 at most


def test_only_the_chosen_operators_change(speech: bytes) -> None:
    graph = read(speech).subgraphs[0]
    chosen = graph.tensors[graph.operators[4].outputs[0]].name
    data = write(to_dynamic(read(speech), {chosen}))
    types = [w.dtype for _, w in stored_weights(nodes(read(data)))]
    assert types.count("int8") == 1
    assert types.count("float32") == len(types) - 1
    assert len(write(to_dynamic(read(speech), set()))) <= len(speech)


def test_weights_of_a_loop_are_found(golden: Path) -> None:
    data = (golden / "inspect" / "loop_float32.tflite").read_bytes()
    check_loads(write(to_float16(read(data))))
    check_loads(write(to_dynamic(read(data))))


def test_a_constant_of_the_wrong_size_is_an_error(speech: bytes) -> None:

    model = read(speech)
    kernel = model.subgraphs[0].tensors[11]
    model.buffers[kernel.buffer].data = model.buffers[kernel.buffer].data[:400]
    with pytest.raises(ModelError, match="does not hold what its shape"):
        to_dynamic(model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rewrite", [to_dynamic, to_int4])
def test_weights_that_are_no_numbers_are_refused(
    speech: bytes, rewrite: Callable[[ModelT], ModelT], value: float
) -> None:
    model = read(speech)
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    weights = largest.data.view(np.float32).copy()
    weights[0] = value
    largest.data = weights.view(np.uint8)
    with pytest.raises(ModelError, match="holds NaN or infinity"):
        rewrite(model)


def no_second_input(model, op) -> None:
    op.inputs = op.inputs[:1]


def no_output(model, op) -> None:
    op.outputs = op.outputs[:0]


def flat_kernel(model, op) -> None:
    kernel = model.subgraphs[0].tensors[op.inputs[1]]
    kernel.shape = np.array([kernel.shape.prod()], np.int32)


def no_options(model, op) -> None:
    op.builtinOptions = None
    op.builtinOptionsType = 0


@pytest.mark.parametrize("damage", [no_second_input, no_output, flat_kernel, no_options])
@pytest.mark.parametrize("rewrite", [to_float16, to_dynamic, to_int4, narrow_weights, store_sparse])
def test_operators_that_are_not_complete_are_refused(
    speech: bytes, rewrite: Callable[..., object], damage: Callable[..., None]
) -> None:
    model = read(speech)
    names = [operator_name(model, op) for op in model.subgraphs[0].operators]
    damage(model, model.subgraphs[0].operators[names.index("FULLY_CONNECTED")])
    with pytest.raises(ModelError, match=r"an operator is not complete\.\n.*FULLY_CONNECTED"):
        rewrite(model)

"""What inspection finds in real files, against what their makers and papers say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import ModelError, UsageError
from edgekit.records import Inspection
from edgekit.tflite import read, write
from edgekit.tflite.inspect import inspect

# Mult-Adds in millions: MobileNet v1 paper (arXiv 1704.04861), tables 6-8 and the figures
# published with its checkpoints; MobileNetV2 (arXiv 1801.04381), table 4.
PUBLISHED_MACS = {
    "mobilenet_v1_0.25_128_quant": 14,
    "mobilenet_v1_0.5_160_quant": 77,
    "mobilenet_v2_1.0_224_quant": 300,
}


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "inspect"


def layers(inspection: Inspection) -> dict[str, str]:
    return {op.layer: op.name for op in inspection.ops}


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED_MACS)
def test_macs_agree_with_the_papers(shared_data: Path, name: str) -> None:
    inspection = inspect(shared_data / "coral_pairs" / f"{name}.tflite")

    assert inspection.macs / 1e6 == pytest.approx(PUBLISHED_MACS[name], abs=1)


@pytest.mark.data
def test_the_parts_of_every_public_file_add_up(shared_data: Path) -> None:
    paths = sorted((shared_data / "coral_pairs").glob("*.tflite"))
    assert len(paths) == 20

    for path in paths:
        inspection = inspect(path)

        assert sum(inspection.bytes.values()) == path.stat().st_size == inspection.size_bytes
        assert min(inspection.bytes.values()) >= 0
        assert sum(inspection.weight_dtypes.values()) == inspection.bytes["weights"]
        assert sum(op.bytes for op in inspection.ops) == inspection.bytes["weights"]


@pytest.mark.data
def test_parameters_of_the_published_network(shared_data: Path) -> None:
    # MobileNetV1 0.25 has 0.47 M parameters (TensorFlow's model list); its shapes do not count.
    inspection = inspect(shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite")

    reshape = next(op for op in inspection.ops if op.name == "RESHAPE")
    assert inspection.parameters == 467_593
    assert reshape.bytes == 8
    assert inspection.weight_dtypes == {"uint8": 463_856, "int32": 14_956}


@pytest.mark.parametrize("name", ["speech_int8", "speech_float16"])
def test_the_same_network_at_two_precisions(folder: Path, name: str) -> None:
    # given the trained speech model, whose layers have this many weights and biases:
    expected = 11_482

    inspection = inspect(folder / f"{name}.tflite")

    assert inspection.parameters == expected
    assert sum(inspection.bytes.values()) == inspection.size_bytes
    assert [op.layer for op in inspection.ops if op.macs] == [
        "conv2d",
        "depthwise_conv2d",
        "conv2d_1",
        "depthwise_conv2d_1",
        "conv2d_2",
        "depthwise_conv2d_2",
        "conv2d_3",
        "dense",
    ]


def test_macs_of_the_speech_model_by_hand(folder: Path) -> None:
    inspection = inspect(folder / "speech_int8.tflite")
    by_layer = {op.layer: op.macs for op in inspection.ops if op.macs}

    # 61 x 40 at stride 2 is 31 x 20; a 5 x 3 kernel on 1 channel, 32 filters; 64 -> 10 dense
    assert by_layer["conv2d"] == 31 * 20 * 32 * 5 * 3
    assert by_layer["depthwise_conv2d"] == 31 * 20 * 32 * 3 * 3
    assert by_layer["conv2d_1"] == 31 * 20 * 32 * 48
    assert by_layer["dense"] == 64 * 10
    assert inspection.macs == sum(by_layer.values())


def test_float16_weights_belong_to_the_operator_that_computes_with_them(folder: Path) -> None:
    inspection = inspect(folder / "speech_float16.tflite")

    sizes = {op.name: op.bytes for op in inspection.ops}
    assert sizes["DEQUANTIZE"] == 0
    assert sizes["FULLY_CONNECTED"] == 2 * (64 * 10 + 10)
    assert inspection.weight_dtypes["float16"] == 2 * inspection.parameters
    assert inspection.bytes["quantization"] == 0


def test_sparse_weights_count_their_indices_and_all_their_parameters(folder: Path) -> None:
    # given 64 x 64 weights of which one in eight is stored (and zero is among them)
    inspection = inspect(folder / "sparse_float32.tflite")

    dense = next(op for op in inspection.ops if op.name == "FULLY_CONNECTED")
    assert 512 * 4 < dense.bytes < 64 * 64 * 4
    assert dense.macs == 64 * 64
    assert inspection.parameters == 64 * 64


def test_inputs_outputs_and_layers_of_a_model_with_several(folder: Path) -> None:
    inspection = inspect(folder / "several_float32.tflite")

    assert sorted(spec.shape for spec in inspection.inputs) == [(1, 3), (1, 8, 8, 3)]
    assert len(inspection.outputs) == 2
    found = layers(inspection)
    assert found["up"] == "TRANSPOSE_CONV"
    assert found["slope"] in {"PRELU", "RESIZE_BILINEAR"}  # the nameless resize inherits
    assert found["joined"] == "CONCATENATION"
    assert found["logits"] == "FULLY_CONNECTED"
    transposed = next(op for op in inspection.ops if op.name == "TRANSPOSE_CONV")
    assert transposed.macs == 8 * 8 * 3 * 3 * 3 * 4


def test_operators_of_all_graphs_are_listed_in_order(folder: Path) -> None:
    inspection = inspect(folder / "loop_float32.tflite")

    assert [op.index for op in inspection.ops] == list(range(len(inspection.ops)))
    assert inspection.ops[0].name == "WHILE"
    body = next(op for op in inspection.ops if op.name == "FULLY_CONNECTED")
    assert body.macs == 3 * 4 * 4  # its condition stops it after three runs
    assert not body.targets["coral"].mapped


@pytest.mark.data
def test_layer_names_of_a_model_of_another_age(shared_data: Path) -> None:
    inspection = inspect(shared_data / "coral_pairs" / "mobilenet_v1_0.25_128_quant.tflite")

    assert [op.layer for op in inspection.ops][:3] == [
        "MobilenetV1/Conv2d_0",
        "MobilenetV1/Conv2d_1_depthwise",
        "MobilenetV1/Conv2d_1_pointwise",
    ]
    assert inspection.ops[-1].layer == "Predictions"


@pytest.mark.data
def test_layer_names_among_shared_constants(shared_data: Path) -> None:
    # given names into which the converter mixed layers that share a constant
    inspection = inspect(shared_data / "coral_pairs" / "movenet_single_pose_lightning_ptq.tflite")

    found = [op.layer for op in inspection.ops if op.name == "DEPTHWISE_CONV_2D"]
    scope = "center_net_mobile_net_v2fpn_feature_extractor/model_1/model"
    assert found[:3] == [
        f"{scope}/expanded_conv_depthwise",
        f"{scope}/block_1_depthwise",
        f"{scope}/block_2_depthwise",
    ]


def edited(path: Path, target: Path, edit: Callable[[schema.ModelT], None]) -> Path:
    model = read(path)
    edit(model)
    target.write_bytes(write(model))
    return target


def test_a_shared_buffer_counts_once(folder: Path, tmp_path: Path) -> None:
    # given two dense operators of the loop's file that share one matrix
    def share(model: schema.ModelT) -> None:
        body = next(g for g in model.subgraphs if len(g.operators) == 2)
        dense = body.operators[-1]
        body.operators.append(dense)

    inspection = inspect(edited(folder / "loop_float32.tflite", tmp_path / "m.tflite", share))

    dense = [op for op in inspection.ops if op.name == "FULLY_CONNECTED"]
    assert [op.bytes for op in dense] == [64, 0]
    assert inspection.parameters == 16
    assert inspection.macs == 3 * 32


def test_int4_weights_take_half_a_byte(folder: Path, tmp_path: Path) -> None:
    # given the dense kernel of the speech model packed two to a byte
    def pack(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        dense = next(op for op in graph.operators if len(graph.tensors[op.inputs[0]].shape) == 2)
        kernel = graph.tensors[dense.inputs[1]]
        kernel.type = schema.TensorType.INT4
        buffer = model.buffers[kernel.buffer]
        buffer.data = buffer.data[: len(buffer.data) // 2]

    inspection = inspect(edited(folder / "speech_int8.tflite", tmp_path / "m.tflite", pack))

    assert inspection.weight_dtypes["int4"] == 64 * 10 // 2
    assert inspection.parameters == 11_482


def test_scales_of_blockwise_weights_are_quantization(folder: Path, tmp_path: Path) -> None:
    # given a kernel whose scales are a float16 tensor, as blockwise quantization stores them
    source = folder / "speech_int8.tflite"
    before = inspect(edited(source, tmp_path / "before.tflite", lambda _: None))

    def block(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        dense = next(op for op in graph.operators if len(graph.tensors[op.inputs[0]].shape) == 2)
        model.buffers.append(schema.BufferT(data=[0, 60] * 20))
        graph.tensors.append(
            schema.TensorT(
                shape=[10, 2],
                type=schema.TensorType.FLOAT16,
                buffer=len(model.buffers) - 1,
                name="scales",
            )
        )
        details = schema.BlockwiseQuantizationT(
            scales=len(graph.tensors) - 1, zeroPoints=-1, blockSize=32
        )
        graph.tensors[dense.inputs[1]].quantization = schema.QuantizationParametersT(
            detailsType=schema.QuantizationDetails.BlockwiseQuantization, details=details
        )

    after = inspect(edited(source, tmp_path / "m.tflite", block))

    # 10 scales of 4 bytes went, 20 of 2 bytes came; the bias has the same zero points.
    assert after.bytes["quantization"] == before.bytes["quantization"] - 10 * 4 + 20 * 2
    assert after.bytes["weights"] == before.bytes["weights"]
    assert after.parameters == before.parameters


def test_a_custom_operator_has_its_own_name_and_no_macs(folder: Path, tmp_path: Path) -> None:
    def customize(model: schema.ModelT) -> None:
        code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "Sorter"
        model.subgraphs[0].operators[-1].builtinOptions = None
        model.subgraphs[0].operators[-1].builtinOptionsType = 0

    inspection = inspect(edited(folder / "speech_int8.tflite", tmp_path / "m.tflite", customize))

    assert (inspection.ops[-1].name, inspection.ops[-1].macs) == ("Sorter", None)
    assert inspection.ops[-1].targets["coral"].reason == "The Edge TPU has no such operator."


def test_targets_are_those_asked_for(folder: Path) -> None:
    path = folder / "speech_int8.tflite"

    assert set(inspect(path, targets=()).ops[0].targets) == set()
    assert set(inspect(path, targets=("cpu", "coral")).ops[0].targets) == {"cpu", "coral"}
    with pytest.raises(UsageError, match="Did you mean 'coral'"):
        inspect(path, targets=("corral",))


@pytest.mark.parametrize("content", [None, b"", b"hello, this is text", b"TFL3TFL3TFL3TFL3TFL3"])
def test_what_is_no_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ModelError) as caught:
        inspect(path)

    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_nothing_heavy_is_imported(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgekit.tflite.inspect import inspect;"
        "inspect(Path(sys.argv[1]));"
        "heavy = {'tensorflow', 'keras', 'PIL', 'ai_edge_litert.interpreter'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run(
        [sys.executable, "-c", code, folder / "speech_int8.tflite"], check=True, timeout=60
    )

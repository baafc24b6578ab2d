from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ModelError
from edgekit.tflite import (
    check_loads,
    load_source,
    operator_name,
    read,
    signature,
    with_signature,
    write,
)
from edgekit.tflite.graph import clone, constant, is_constant


def every_golden(golden: Path) -> list[Path]:
    return sorted(golden.rglob("*.tflite"))


def test_rewritten_files_compute_the_same(golden: Path, speech: bytes, run) -> None:
    features = np.random.default_rng(0).standard_normal((5, 61, 40, 1)).astype(np.float32)
    once = write(read(speech))
    assert write(read(once)) == once
    before = run(speech, {"input_layer": features})["dense"]
    np.testing.assert_array_equal(run(once, {"input_layer": features})["dense"], before)


def test_every_file_survives_the_round_trip(golden: Path) -> None:
    for path in every_golden(golden):
        before = read(path)
        after = read(write(before))
        assert signature(after) == signature(before), path
        for old, new in zip(before.subgraphs, after.subgraphs, strict=True):
            assert [operator_name(before, op) for op in old.operators] == [
                operator_name(after, op) for op in new.operators
            ]
            for was, now in zip(old.tensors, new.tensors, strict=True):
                assert was.name == now.name
                if is_constant(before, was):
                    stored = before.buffers[was.buffer].data
                    np.testing.assert_array_equal(stored, after.buffers[now.buffer].data)


def test_equal_vectors_and_names_are_stored_once(golden: Path) -> None:
    # Given a file with scales per channel, in which many shapes and zero points are equal
    path = golden / "inspect" / "speech_int8.tflite"
    model = read(path)
    data = write(model)
    # Then it is smaller by an eighth and more, what is read is the same, and it runs.
    assert len(data) < 7 / 8 * path.stat().st_size
    for was, now in zip(model.subgraphs[0].tensors, read(data).subgraphs[0].tensors, strict=True):
        assert was.shape.tolist() == now.shape.tolist()
        for field in ("scale", "zeroPoint"):
            old, new = (getattr(t.quantization, field, None) for t in (was, now))
            np.testing.assert_array_equal(new, old)
    check_loads(data)
    # However often one is referred to, reading stays possible.
    many = clone(model)
    tensor = many.subgraphs[0].tensors[0]
    many.subgraphs[0].tensors += [tensor] * 5000
    assert len(read(write(many)).subgraphs[0].tensors) == len(model.subgraphs[0].tensors) + 5000


def test_buffers_are_aligned(speech: bytes) -> None:
    data = write(read(speech))
    model = read(data)
    weights = [b.data for b in model.buffers if b.data is not None and len(b.data) >= 64]
    assert weights
    base = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    assert all((w.__array_interface__["data"][0] - base) % 16 == 0 for w in weights)


def test_what_is_read_needs_no_care(speech: bytes) -> None:
    model = read(speech)
    graph = model.subgraphs[0]
    assert [operator_name(model, op) for op in graph.operators][:3] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
    ]
    assert all(isinstance(t.name, str) and t.shape.dtype == np.int32 for t in graph.tensors)
    kernel = graph.tensors[graph.operators[0].inputs[1]]
    assert constant(model, kernel).shape == (32, 5, 3, 1)
    with pytest.raises(ModelError, match="holds no values"):
        constant(model, graph.tensors[graph.outputs[0]])


def test_a_clone_is_changed_alone(speech: bytes) -> None:
    model = read(speech)
    copy = clone(model)
    copy.subgraphs[0].tensors[0].name = "other"
    assert model.subgraphs[0].tensors[0].name == "input_layer"
    shared = model.subgraphs[0].tensors[16].buffer
    assert copy.buffers[shared].data is model.buffers[shared].data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a TFLite file"),
        (b"Just a line of text, long enough to be a header.", "not a TFLite file"),
        (b"PK\x03\x04" + bytes(100), "not a TFLite file"),
        (b"\x10\x00\x00\x00TFL3" + b"\xff" * 64, "damaged"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(64), "damaged"),
    ],
)
def test_other_files_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        read(content)
    assert len(str(caught.value).splitlines()) <= 3


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.tflite", tmp_path):
        with pytest.raises(ModelError, match=r"does not exist|is a folder"):
            read(path)


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    # Given a model whose 20,000 subgraphs are all the same one, which has 20,000 tensors, all
    # the same one: 160 kB that would become 400 million objects
    n = 20_000
    data = bytearray(struct.pack("<I4s", 24, b"TFL3"))
    data += struct.pack("<4H", 10, 12, 0, 0) + struct.pack("<H2x", 4)  # field list of Model
    data += bytes(24 - len(data)) if len(data) < 24 else b""
    data[8:18] = struct.pack("<5H", 10, 8, 0, 0, 4)
    model = 24
    data += struct.pack("<iI", model - 8, 4)  # its subgraphs follow at once
    vector = model + 8
    tensors = vector + 4 + 4 * n + 16
    graph = vector + 4 + 4 * n + 8
    data += struct.pack("<I", n)
    data += b"".join(struct.pack("<I", graph - (vector + 4 + 4 * i)) for i in range(n))
    data += struct.pack("<3H2x", 6, 8, 4)  # field list of SubGraph
    data += struct.pack("<iI", 8, 4)  # the subgraph; its tensors follow at once
    table = tensors - 8 + 8 + 4 + 4 * n + 4
    assert len(data) == tensors
    data += struct.pack("<I", n)
    data += b"".join(struct.pack("<I", table - (tensors + 4 + 4 * i)) for i in range(n))
    data += struct.pack("<2H", 4, 4) + struct.pack("<i", 4)  # field list of Tensor, the tensor
    # When it is read, then it is refused before they are made
    with pytest.raises(ModelError, match="damaged") as caught:
        read(bytes(data))
    assert "overlaps" in (caught.value.found or "")


def test_signatures_are_written_and_read(speech: bytes) -> None:
    renamed = with_signature(
        read(speech), {"spectrogram": "input_layer"}, {"digit": "functional/dense/Softmax"}
    )
    inputs, outputs = signature(read(write(renamed)))
    assert [(s.name, s.shape, s.dtype) for s in inputs] == [
        ("spectrogram", (1, 61, 40, 1), "float32")
    ]
    assert [(s.name, s.shape) for s in outputs] == [("digit", (1, 10))]
    with pytest.raises(ModelError, match="signature's outputs"):
        with_signature(read(speech), {"a": "input_layer"}, {"b": "input_layer"})


def test_a_graph_without_signature_goes_by_tensor_names(speech: bytes) -> None:
    model = read(speech)
    model.signatureDefs = []
    inputs, outputs = signature(read(write(model)))
    assert (inputs[0].name, outputs[0].name) == ("input_layer", "functional/dense/Softmax")


def test_several_inputs_keep_the_graphs_order(golden: Path) -> None:
    inputs, outputs = signature(read(golden / "evaluate" / "two_in_two_out.tflite"))
    assert len(inputs) == len(outputs) == 2


def test_a_float_file_is_a_source(golden: Path) -> None:
    source = load_source(golden / "quantize" / "speech_float32.tflite")
    assert (source.name, source.kind) == ("speech_float32", "tflite")
    assert source.inputs[0].name == "input_layer"
    assert source.parameters == 11482  # batch norms are folded in


@pytest.mark.parametrize("name", ["inspect/speech_int8", "inspect/speech_float16"])
def test_a_quantized_file_is_no_source(golden: Path, name: str) -> None:
    with pytest.raises(ModelError, match="quantized already"):
        load_source(golden / f"{name}.tflite")


def test_what_does_not_run_is_an_error_not_a_crash(speech: bytes, tmp_path: Path) -> None:
    check_loads(speech)
    model = read(speech)
    model.subgraphs[0].tensors[18].shape = np.array([1, 2, 3, 4], np.int32)
    model.subgraphs[0].operators[0].outputs = np.array([17], np.int32)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(write(model))
    with pytest.raises(ModelError, match="does not run in LiteRT") as caught:
        check_loads(broken)
    assert len(str(caught.value).splitlines()) == 3

"""Pruned versions of the published models, stored sparse."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.errors import ModelError
from edgekit.numerics.sparsity import Blocks, magnitude_masks
from edgekit.tflite import equivalence, operator_name, read, sparse, write
from edgekit.tflite.graph import DTYPES, constant, is_constant
from edgekit.tflite.pruning_estimate import estimate_pruning
from edgekit.tflite.sparse import Packed, encode_sparse, pack, store_sparse

PUBLISHED = ["fashion-mnist", "spoken-digits", "turbofan"]
KERNELS = {"CONV_2D": 1, "FULLY_CONNECTED": 1, "DEQUANTIZE": 0}
# Share of the dense file that is left at 80 % zeros, at most.
LEFT = {"float32": 0.46, "float16": 0.58, "int8": 0.84, "int16x8": 0.86}


def drop_smallest(data: bytes, share: float, block: int = 1) -> bytes:
    """Prune a model in one shot, every kernel by itself, inputs in blocks where they divide."""
    model = read(data)
    for graph in model.subgraphs:
        for op in graph.operators:
            place = KERNELS.get(operator_name(model, op))
            if place is None:
                continue
            tensor = graph.tensors[op.inputs[place]]
            if not is_constant(model, tensor) or tensor.type not in DTYPES:
                continue
            values = constant(model, tensor)
            inputs = values.shape[-1]
            pattern = Blocks(1, block if inputs % block == 0 else 1)
            (mask,) = magnitude_masks([values.reshape(-1, inputs)], share, pattern)
            left = np.where(mask.reshape(values.shape), values, values.dtype.type(0))
            model.buffers[tensor.buffer].data = np.frombuffer(left.tobytes(), np.uint8)
    return write(model)


def unpack(packed: Packed, shape: tuple[int, ...]) -> NDArray[np.generic]:
    dense = np.zeros((int(np.prod(shape[:-1])), shape[-1]), packed.values.dtype)
    for row, (start, end) in enumerate(zip(packed.segments, packed.segments[1:], strict=False)):
        for place in range(start, end):
            column = int(packed.indices[place]) * packed.block
            values = packed.values[place * packed.block : (place + 1) * packed.block]
            dense[row, column : column + packed.block] = values
    return dense.reshape(shape)


@pytest.fixture
def published(repository: Path):
    def published(name: str, variant: str) -> bytes:
        return (repository / "quantized" / name / f"{variant}.tflite").read_bytes()

    return published


@given(
    share=st.floats(0, 1),
    inputs=st.sampled_from([1, 8, 256, 272]),
    block=st.sampled_from([1, 4, 8]),
    dtype=st.sampled_from([np.int8, np.float16, np.float32]),
)
def test_what_is_packed_can_be_unpacked(share: float, inputs: int, block: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(1, 100, (24, 3, inputs)) * (rng.random((24, 3, inputs)) >= share)
    kernel = values.astype(dtype)
    packed = pack(kernel, block if inputs % block == 0 else 1)
    np.testing.assert_array_equal(unpack(packed, kernel.shape), kernel)
    assert packed.indices.dtype == (np.uint8 if packed.indices.max(initial=0) < 256 else np.uint16)
    assert int(packed.segments[-1]) * packed.block == len(packed.values)


def test_places_are_as_wide_as_they_must_be() -> None:
    assert pack(np.ones((1, 256))).indices.dtype == np.uint8
    assert pack(np.ones((1, 257))).indices.dtype == np.uint16
    assert pack(np.ones((1, 65536))).segments.dtype == np.int32


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("variant", LEFT)
def test_a_pruned_model_is_smaller_and_computes_the_same(
    published, run, name: str, variant: str
) -> None:
    # Given a model with 80 % zeros
    dense = drop_smallest(published(name, variant), 0.8)
    # When it is stored sparse
    encoded = encode_sparse(read(dense))
    # Then its sizes are those of the bytes, and tell what each kernel saved,
    done = [kernel for kernel in encoded.kernels if kernel.reason is None]
    saved = sum(kernel.dense_bytes - kernel.sparse_bytes for kernel in done)
    assert encoded.dense_size_bytes == len(dense)
    assert encoded.size_bytes == len(encoded.data) < LEFT[variant] * len(dense)
    assert encoded.size_bytes == pytest.approx(len(dense) - saved, abs=64 * len(done) + 16)
    assert encoded.unpacked_bytes == sum(kernel.dense_bytes for kernel in done)
    assert 0.8 < encoded.size_deflated_bytes / encoded.dense_deflated_bytes < 1.25
    assert all(kernel.sparsity > 0.4 for kernel in done)
    # and not a bit of its outputs has changed.
    (graph,) = read(dense).subgraphs
    (entry,) = read(dense).signatureDefs[0].inputs
    tensor = graph.tensors[entry.tensorIndex]
    inputs = np.random.default_rng(1).standard_normal((4, *tensor.shape[1:])) * 40
    feed = {entry.name: inputs.astype(DTYPES[tensor.type])}
    (expected,), (found,) = run(dense, feed).values(), run(encoded.data, feed).values()
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_from_which_share_on_is_computed(published, variant: str) -> None:
    data = published("fashion-mnist", variant)
    # A weight and its place take five bytes instead of four, or two instead of one.
    worth = 0.25 if variant == "float32" else 0.55
    for share, smaller in ((0.0, False), (worth - 0.1, False), (worth + 0.1, True)):
        dense = drop_smallest(data, share)
        encoded = encode_sparse(read(dense))
        assert (encoded.size_bytes < len(dense)) is smaller
        if not smaller:
            assert encoded.data == dense
            assert all(kernel.reason for kernel in encoded.kernels)
            assert encoded.unpacked_bytes == 0


def test_blocks_share_a_place(published) -> None:
    data = published("turbofan", "float32")
    scattered, blocked = (encode_sparse(read(drop_smallest(data, 0.8, block))) for block in (1, 4))
    assert {kernel.block for kernel in scattered.kernels} == {1}
    assert sum(kernel.block == 4 for kernel in blocked.kernels) >= 3
    assert blocked.size_bytes < 0.95 * scattered.size_bytes


@pytest.mark.parametrize("variant", ["int8", "dynamic"])
def test_what_would_not_load_stays_dense_by_rule(published, variant: str) -> None:
    encoded = encode_sparse(read(drop_smallest(published("turbofan", variant), 0.8)))
    large = [kernel for kernel in encoded.kernels if kernel.dense_bytes > 1000]
    refused = {kernel.operator: kernel.reason for kernel in large if kernel.reason}
    assert "load" in refused["FULLY_CONNECTED"]
    assert ("CONV_2D" in refused) == (variant == "dynamic")


@pytest.mark.parametrize("variant", ["int8", "dynamic"])
def test_and_by_trying(published, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    # Given a rule that is not known yet
    monkeypatch.setattr(sparse, "_refusal", lambda *_: None)
    dense = drop_smallest(published("spoken-digits", variant), 0.8)
    # When the file then fails to load
    encoded = encode_sparse(read(dense))
    # Then it is not handed out, and the runtime's own words say why.
    assert encoded.data == dense
    reasons = {kernel.reason for kernel in encoded.kernels}
    assert any("does not run" in reason and "failed to" in reason for reason in reasons)


def test_a_file_that_computes_something_else_is_not_handed_out(
    published, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(kernel, block=1):
        packed = pack(kernel, block)
        return Packed(packed.values[::-1].copy(), packed.segments, packed.indices, packed.block)

    monkeypatch.setattr(sparse, "pack", forgetful)
    dense = drop_smallest(published("spoken-digits", "float32"), 0.8)
    encoded = encode_sparse(read(dense))
    assert encoded.data == dense
    assert any("differ from those of the dense" in kernel.reason for kernel in encoded.kernels)


def test_a_runtime_that_dies_is_a_reason(published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "_outputs", lambda *_: os.kill(os.getpid(), signal.SIGSEGV))
    dense = drop_smallest(published("spoken-digits", "float32"), 0.8)
    encoded = encode_sparse(read(dense))
    assert encoded.data == dense
    assert any("SIGSEGV" in kernel.reason for kernel in encoded.kernels)


def test_constants_in_other_use_stay_dense(published) -> None:
    dense = drop_smallest(published("turbofan", "float32"), 0.8)
    model = read(dense)
    (graph,) = model.subgraphs
    convolutions = [op for op in graph.operators if operator_name(model, op) == "CONV_2D"]
    first, second, third = (int(op.inputs[1]) for op in convolutions[:3])
    # Given a kernel that is an output too, and two of one shape that share their bytes
    graph.outputs = np.append(graph.outputs, first).astype(np.int32)
    graph.tensors[third].buffer = graph.tensors[second].buffer
    _, kernels = store_sparse(model)
    reasons = [kernel.reason for kernel in kernels[:3]]
    assert "output" in reasons[0]
    assert "shares" in reasons[1]
    assert "shares" in reasons[2]


def test_a_sparse_file_is_left_as_it_is(published, golden: Path) -> None:
    for data in (
        (golden / "inspect" / "sparse_float32.tflite").read_bytes(),
        encode_sparse(read(drop_smallest(published("turbofan", "float32"), 0.8))).data,
    ):
        model = read(data)
        assert encode_sparse(model).model is model


def test_damaged_files_are_refused_or_encoded(published) -> None:
    dice = np.random.default_rng(0)
    outcomes = {"encoded": 0, "refused": 0}
    for source in (
        published("turbofan", "int8"),
        drop_smallest(published("turbofan", "float32"), 0.8),
    ):
        for _ in range(40):
            data = bytearray(source)
            for place in dice.integers(4, len(data) - 8, 8):
                data[place] ^= 1 << dice.integers(8)
            try:
                store_sparse(read(bytes(data)))
            except ModelError:
                outcomes["refused"] += 1
            else:
                outcomes["encoded"] += 1
    assert min(outcomes.values()) > 0


def test_a_kernel_cut_short_is_refused(published) -> None:
    model = read(published("turbofan", "float32"))
    (graph,) = model.subgraphs
    index = next(op.inputs[1] for op in graph.operators if operator_name(model, op) == "CONV_2D")
    buffer = model.buffers[graph.tensors[index].buffer]
    buffer.data = buffer.data[:-4]
    with pytest.raises(ModelError, match="does not hold what its shape"):
        encode_sparse(model)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_size_foretold_is_that_of_the_file_written(published, name: str, variant: str) -> None:
    data = published(name, variant)
    for share in (0.6, 0.8, 0.9):
        written = encode_sparse(read(drop_smallest(data, share))).size_bytes
        assert estimate_pruning(data, share).sparse_bytes == pytest.approx(written, rel=0.01)


RUN = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
def outputs(path):
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    spec, = interpreter.get_input_details()
    found = []
    for seed in range(4):
        values = np.random.default_rng(seed).standard_normal(spec["shape"]) * 40
        interpreter.set_tensor(spec["index"], values.astype(spec["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.array(found)
for dense, encoded in zip(sys.argv[1::2], sys.argv[2::2]):
    expected = outputs(dense)
    assert len(np.unique(expected)) > 1
    assert (expected == outputs(encoded)).all(), encoded
"""


def test_tflite_runtime_takes_it_too(tflite_runtime: Path, published, tmp_path: Path) -> None:
    files = []
    for name in PUBLISHED:
        for variant in LEFT:
            dense = drop_smallest(published(name, variant), 0.8)
            for kind, data in (("dense", dense), ("sparse", encode_sparse(read(dense)).data)):
                files.append(tmp_path / f"{name}-{variant}-{kind}.tflite")
                files[-1].write_bytes(data)
    done = subprocess.run(
        [tflite_runtime / "numpy1" / "bin" / "python", "-c", RUN, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""Files that are small on flash, unpacked by the runner: equal answers, or an error."""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given
from hypothesis import strategies as st

import edgekit_runner
from edgekit.tflite import operator_name, read, sparse, write
from edgekit.tflite.graph import INT4, INT8, constant, is_constant
from edgekit.tflite.stored import packed
from edgekit_runner import RunnerError, expand

REPOSITORY = Path(__file__).resolve().parents[2]
QUANTIZED = REPOSITORY / "quantized"
GOLDEN = REPOSITORY / "tests" / "golden"
FILES = [
    *(f"{name}/int4" for name in ("fashion-mnist", "spoken-digits", "turbofan")),
    *(f"{name}-small/small" for name in ("fashion-mnist", "spoken-digits", "turbofan")),
]
# Operators of int4 files that tflite-runtime 2.14 has, up to these versions.
OLD = {"CONV_2D": 7, "FULLY_CONNECTED": 10}


def content(name: str) -> bytes:
    return (QUANTIZED / f"{name}.tflite").read_bytes()


def outputs(model: bytes, *, reference: bool = False, n: int = 8) -> np.ndarray:
    """Run a model on random samples; return its outputs, `[n, ...]`."""
    kernels = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF} if reference else {}
    interpreter = Interpreter(model_content=model, num_threads=1, **kernels)
    interpreter.allocate_tensors()
    (taken,), given_ = interpreter.get_input_details(), interpreter.get_output_details()[0]
    generator = np.random.default_rng(0)
    found = []
    for _ in range(n):
        values = generator.standard_normal(taken["shape"])
        if taken["dtype"] != np.float32:
            values = generator.integers(0, 127, taken["shape"])
        interpreter.set_tensor(taken["index"], values.astype(taken["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(given_["index"]).copy())
    return np.array(found)


def kinds(model: bytes) -> set[int]:
    return {tensor.type for graph in read(model).subgraphs for tensor in graph.tensors}


def pruned(name: str, *, block: int) -> bytes:
    """Return a published file without 80 % of its weights, stored sparse."""
    model = read(content(name))
    generator = np.random.default_rng(0)
    for graph in model.subgraphs:
        for op in graph.operators:
            place = {"CONV_2D": 1, "FULLY_CONNECTED": 1, "DEQUANTIZE": 0}.get(
                operator_name(model, op)
            )
            if place is None or not is_constant(model, graph.tensors[op.inputs[place]]):
                continue
            tensor = graph.tensors[op.inputs[place]]
            values = constant(model, tensor)
            size = block if values.shape[-1] % block == 0 else 1
            kept = generator.random(values.size // size) < 0.2
            left = np.where(np.repeat(kept, size).reshape(values.shape), values, 0)
            raw = left.astype(values.dtype).tobytes()
            model.buffers[tensor.buffer].data = np.frombuffer(raw, np.uint8)
    return write(model)


# --- Equal answers ---


@pytest.mark.parametrize("name", FILES)
def test_an_int4_file_computes_the_same_to_the_bit_with_reference_kernels(name):
    # Given a file with int4 weights
    stored = content(name)
    assert INT4 in kinds(stored)

    # When it is expanded
    expanded = expand(stored)

    # Then it has none, and the same codes and scales
    assert INT4 not in kinds(expanded)
    assert np.array_equal(outputs(stored, reference=True), outputs(expanded, reference=True))


@pytest.mark.parametrize("name", FILES)
def test_versions_of_operators_are_those_that_int8_needs(name):
    # When a file is expanded for tflite-runtime, or for a newer one
    old, new = read(expand(content(name), per_channel=False)), read(expand(content(name)))

    # Then the old one has every operator of it
    for code in old.operatorCodes:
        operator = next(k for k, v in vars(schema.BuiltinOperator).items() if v == code.builtinCode)
        assert code.version <= OLD.get(operator, 7), operator
    # And a dense layer with float input and a scale per channel keeps its int8 weights in the new.
    assert INT8 in kinds(expand(content(name), per_channel=False))
    assert len(new.operatorCodes) == len(old.operatorCodes)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int16x8"])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("name", ["fashion-mnist", "turbofan"])
def test_a_sparse_file_computes_the_same_to_the_bit(name, kind, block):
    # Given a pruned file, and the same with its kernels stored sparse
    dense = pruned(f"{name}/{kind}", block=block)
    encoded, considered = sparse.store_sparse(read(dense))
    assert any(kernel.reason is None for kernel in considered)

    # When the sparse one is expanded
    expanded = expand(write(encoded))

    # Then no DENSIFY is left, and both compute the same
    model = read(expanded)
    assert "DENSIFY" not in {operator_name(model, op) for op in model.subgraphs[0].operators}
    assert np.array_equal(outputs(dense), outputs(expanded))
    # And where a runtime has sparse kernels for floats, these are left to it.
    untouched = expand(write(encoded), floats=False)
    assert (untouched == write(encoded)) == (kind in {"float32", "float16"})


@given(
    st.data(),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(sparse._BLOCKS),
)
def test_sparse_values_are_put_where_they_were(data, shape, block):
    # Given any array, stored sparse as edgekit does
    shape = (*shape[:-1], shape[-1] * block)
    size = int(np.prod(shape))
    values = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=size, max_size=size)))
    kernel = values.astype(np.int8).reshape(shape)
    found = sparse.pack(kernel, block)
    tensor = schema.TensorT(shape=np.array(shape, np.int32))
    tensor.sparsity = sparse._parameters(tensor, found)

    # When its layout is read from a file
    graph = schema.SubGraphT(tensors=[tensor], inputs=[], outputs=[], operators=[])
    file = write(schema.ModelT(version=3, subgraphs=[graph], buffers=[], operatorCodes=[]))
    table = edgekit_runner.Table(file, int.from_bytes(file[:4], "little"))
    layout = table.tables(2)[0].tables(0)[0].table(6)
    dense = edgekit_runner.dense_values(found.values.tobytes(), list(shape), 1, layout)

    # Then it is the same array.
    assert np.array_equal(dense.view(np.int8).reshape(shape), kernel)


@pytest.mark.parametrize("name", FILES)
def test_new_buffers_begin_at_multiples_of_16_bytes(name):
    data = expand(content(name))
    begin = np.frombuffer(data, np.uint8).ctypes.data

    for buffer in read(data).buffers:
        if buffer.data is not None and len(buffer.data):
            assert (buffer.data.ctypes.data - begin) % 16 == 0


@pytest.mark.parametrize("name", ["fashion-mnist/int8", "turbofan/dynamic", "turbofan/float32"])
def test_what_needs_no_expansion_stays_in_its_file(name):
    path = str(QUANTIZED / f"{name}.tflite")

    assert expand(content(name)) == content(name)
    assert edgekit_runner.loadable(path) == path


# --- Commands ---


@pytest.fixture
def turbofan(tmp_path) -> Path:
    """The int4 file as edgekit wrote it, with its manifest, also packed."""
    for ending in ("tflite", "json"):
        shutil.copy(QUANTIZED / "turbofan" / f"int4.{ending}", tmp_path)
    (tmp_path / "packed").mkdir()
    shutil.copy(tmp_path / "int4.json", tmp_path / "packed")
    (tmp_path / "packed" / "int4.tflite.gz").write_bytes(packed(content("turbofan/int4")))
    return tmp_path


def test_a_packed_file_is_scored_as_the_plain_one(runner, turbofan, golden):
    # Given a file, plain and packed, and data
    files = [turbofan / "int4.tflite", turbofan / "packed" / "int4.tflite.gz"]

    # When both are scored, and the plain one without expansion
    told = [
        json.loads(runner("eval", path, golden / "runner" / "cmapss.npz", "--json", *more)[1])
        for path, *more in ([files[0]], [files[1]], [files[0], "--no-expand"])
    ]

    # Then the scores are equal, and so are digest and size of the model; on flash it is smaller.
    plain, small, stored = told
    assert plain["score"] == small["score"]
    assert stored["score"]["value"] == pytest.approx(plain["score"]["value"], rel=1e-3)
    for key in ("sha256", "size_bytes"):
        assert plain[key] == small[key]
    assert plain["flash_bytes"] == plain["size_bytes"] == files[0].stat().st_size
    assert small["flash_bytes"] == files[1].stat().st_size < plain["flash_bytes"]


@pytest.mark.parametrize("name", ["fashion-mnist/int4", "spoken-digits/int8"])
def test_run_answers_for_a_packed_file_as_for_the_plain_one(name, runner, tmp_path):
    # Given a classifier, plain and packed, and a sample of codes or numbers
    files = [tmp_path / "m.tflite", tmp_path / "packed.tflite.gz"]
    files[0].write_bytes(content(name))
    files[1].write_bytes(packed(content(name)))
    (taken,) = Interpreter(model_content=content(name)).get_input_details()
    sample = np.random.default_rng(0).integers(0, 100, taken["shape"][1:])
    np.save(tmp_path / "x.npy", sample.astype(taken["dtype"]))

    # When both answer
    lines = [json.loads(runner("run", path, tmp_path / "x.npy")[1]) for path in files]

    # Then they say the same.
    for line in lines:
        del line["invoke_ms"]
    assert lines[0] == lines[1]
    assert lines[0]["top"]


def test_bench_tells_what_is_on_flash_and_what_in_memory(alone, turbofan):
    path = turbofan / "packed" / "int4.tflite.gz"

    out = alone("bench", path, "--runs", 3).stdout
    facts = json.loads(alone("bench", path, "--runs", 3, "--json").stdout)
    stored = json.loads(alone("bench", path, "--runs", 3, "--json", "--no-expand").stdout)

    assert out.splitlines()[1] == (
        "  13.4 kB on flash, 38.8 kB in memory: unpacked when it is loaded"
    )
    assert facts["unpacked_bytes"] == 38848
    assert stored["unpacked_bytes"] == facts["size_bytes"] == 17072
    # All of it counts, whatever the process had freed before.
    assert facts["memory_bytes"] >= facts["unpacked_bytes"]


def test_the_manifest_of_a_packed_file_confirms_it(alone, turbofan):
    done = alone("info", turbofan / "packed" / "int4.tflite.gz")

    assert (done.returncode, done.stderr) == (0, "")
    assert "(from the manifest)" in done.stdout


def test_labels_inside_a_packed_file_are_read(tmp_path, golden, runner):
    # Given a file that holds its labels, packed
    from edgekit import tflite

    model = read(golden / "evaluate" / "is_eight_sigmoid.tflite")
    spec = {"kind": "affine", "scale": 0.0625, "mean": 0.5, "std": 2.0}
    data = tflite.with_metadata(model, name="eight", preprocessing=spec, labels=["eight"])
    files = [tmp_path / "eight.tflite", tmp_path / "eight.tflite.gz"]
    files[0].write_bytes(data)
    files[1].write_bytes(packed(data))

    # When it is looked into
    plain, small = (json.loads(runner("info", path, "--json")[1]) for path in files)

    # Then they are found, as in the plain file.
    assert small["labels"] == ["eight"]
    assert small["preprocessing"] == plain["preprocessing"]


def test_tflite_runtime_scores_int4_files(alone, tflite_runtime, turbofan, golden):
    # Given a board with tflite-runtime 2.14, which has no kernels for int4
    python = str(tflite_runtime / "numpy1" / "bin" / "python")
    data = golden / "runner" / "cmapss.npz"

    # When it scores the file, packed or plain
    told = [
        alone("eval", turbofan / name, data, "--json", python=python)
        for name in ("int4.tflite", "packed/int4.tflite.gz")
    ]

    # Then the score is that of LiteRT, up to the rounding of other kernels.
    assert {(done.returncode, done.stderr) for done in told} == {(0, "")}
    here = json.loads(alone("eval", turbofan / "int4.tflite", data, "--json").stdout)
    for done in told:
        facts = json.loads(done.stdout)
        assert facts["runtime"] == "tflite-runtime 2.14.0"
        assert facts["score"]["value"] == pytest.approx(here["score"]["value"], rel=0.02)


@pytest.mark.parametrize("name", FILES)
def test_every_published_int4_file_runs_in_tflite_runtime(alone, tflite_runtime, name):
    python = str(tflite_runtime / "numpy1" / "bin" / "python")

    done = alone("info", QUANTIZED / f"{name}.tflite", python=python)

    assert (done.returncode, done.stderr) == (0, "")


# --- Damage ---


def refusal(path: Path) -> list[str]:
    """Return the lines of the error for a file; what is asked of it does not matter."""
    with pytest.raises(RunnerError) as caught:
        edgekit_runner.loadable(str(path))
    assert caught.value.code == edgekit_runner.MODEL
    assert len(caught.value.lines) == 3
    return caught.value.lines


DAMAGED = {
    "text": (gzip.compress(b"no model" * 99), "holds no TFLite model"),
    "cut": (packed(content("turbofan/int4"))[:5000], "cannot be inflated"),
    "cut in its end": (packed(content("turbofan/int4"))[:-9], "cannot be inflated"),
    "header only": (b"\x1f\x8b\x08\0", "holds no TFLite model"),
    "another sum": (packed(content("turbofan/int4"))[:-6] + bytes(6), "cannot be inflated"),
    "two members": (packed(content("turbofan/int4")) * 2, "cannot be inflated"),
    "nothing like it": (b"\x1f\x8b" + bytes(100), "cannot be inflated"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_packed_file_is_an_error_with_a_hint(case, tmp_path, alone):
    data, words = DAMAGED[case]
    path = tmp_path / "m.tflite.gz"
    path.write_bytes(data)

    assert words in refusal(path)[0]
    done = alone("bench", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gzip file of a model's head and 300 MB of zeros behind it, without what it declares."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    data = packer.compress(struct.pack("<I", 8) + b"TFL3")
    zeros = bytes(1 << 20)
    for _ in range(300):
        data += packer.compress(zeros)
    return (data + packer.flush())[:-4]


@pytest.mark.parametrize(
    ("declared", "words"),
    [(300 << 20, "the limit is"), (17984, "and holds"), ((4 << 30) - 1, "can hold")],
)
def test_a_bomb_is_refused_before_it_takes_memory(bomb, declared, words, tmp_path, copied_runner):
    # Given a small file that would unpack to 300 MB, which it says or does not say
    path = tmp_path / "m.tflite.gz"
    path.write_bytes(bomb + struct.pack("<I", declared))
    assert path.stat().st_size < 2_600_000

    # When it is read where there is little room
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import edgekit_runner\n"
        "try: edgekit_runner.loadable(sys.argv[2])\n"
        "except edgekit_runner.RunnerError as error: print(error.lines)\n"
        # Not ru_maxrss, which counts what the process was before it became this program.
        "print(*(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, copied_runner.parent, path],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20)),
    )

    # Then it is refused, and little of it was unpacked.
    lines, peak_kb = done.stdout.splitlines()
    assert words in lines
    assert int(peak_kb) < 200_000


def test_the_limit_is_half_of_the_memory_that_is_free(tmp_path, monkeypatch):
    # Given a device with 30 kB of free memory
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 90 kB\nMemAvailable: 30 kB\n")
    monkeypatch.setattr(edgekit_runner, "SYSTEM_ROOT", str(tmp_path))
    path = tmp_path / "int4.tflite.gz"
    path.write_bytes(packed(content("turbofan/int4")))

    # When a file is read that takes more than 15 kB
    lines = refusal(path)

    # Then it is refused, with both figures.
    assert lines[1] == "It declares 17.1 kB; the limit is 15.4 kB."
    # And so is a plain one, which is not unpacked there.
    plain = shutil.copy(QUANTIZED / "turbofan" / "int4.tflite", tmp_path)
    assert "would take more than" in refusal(Path(plain))[1]


def changed(model: schema.ModelT) -> list[tuple[schema.TensorT, schema.SparsityParametersT]]:
    return [
        (tensor, tensor.sparsity)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.sparsity is not None
    ]


@pytest.fixture(scope="module")
def sparse_int8() -> bytes:
    """A pruned int8 file, stored sparse."""
    encoded, _ = sparse.store_sparse(read(pruned("turbofan/int8", block=1)))
    return write(encoded)


def damage_shape(tensor, _):
    tensor.shape = np.array([60_000, 60_000, 3][: len(tensor.shape)], np.int32)


def damage_columns(_, layout):
    layout.dimMetadata[-1].arrayIndices.values = np.full_like(
        layout.dimMetadata[-1].arrayIndices.values, 200
    )


def damage_rows(_, layout):
    segments = layout.dimMetadata[-1].arraySegments
    segments.values = segments.values[::-1].copy()


def damage_order(_, layout):
    layout.traversalOrder = np.zeros_like(layout.traversalOrder)


def damage_size(_, layout):
    layout.dimMetadata[0].denseSize = 1 << 30


@pytest.mark.parametrize(
    "damage", [damage_columns, damage_rows, damage_order, damage_size], ids=lambda one: one.__name__
)
def test_a_damaged_sparse_constant_is_an_error(damage, sparse_int8, tmp_path):
    model = read(sparse_int8)
    for tensor, layout in changed(model):
        damage(tensor, layout)
    path = tmp_path / "m.tflite"
    path.write_bytes(write(model))

    assert refusal(path)[0] == f"The constants of {path} cannot be expanded."


def test_a_sparse_constant_of_billions_of_elements_is_refused_at_once(sparse_int8, tmp_path):
    model = read(sparse_int8)
    for graph in model.subgraphs:
        for op in graph.operators:
            if operator_name(model, op) == "DENSIFY":
                for index in (*op.inputs, *op.outputs):
                    damage_shape(graph.tensors[index], None)
    path = tmp_path / "m.tflite"
    path.write_bytes(write(model))

    assert "would take more than" in refusal(path)[1]


def test_int4_constants_of_another_size_are_an_error(tmp_path):
    model = read(content("turbofan/int4"))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.type == INT4:
                buffer = model.buffers[tensor.buffer]
                buffer.data = buffer.data[:-1]
    path = tmp_path / "m.tflite"
    path.write_bytes(write(model))

    assert "numbers of 4 bits" in refusal(path)[1]


def test_tables_that_overlap_are_read_once(tmp_path):
    # Given a file whose 4,000 graphs are one graph of 4,000 tensors that are one tensor
    def many(position: int, to: int, count: int) -> bytes:
        offsets = (to - (position + 4 + 4 * k) for k in range(count))
        return struct.pack("<I", count) + b"".join(struct.pack("<I", offset) for offset in offsets)

    n = 4000
    model_table, graphs = 24, 40
    graph_table = graphs + 4 + 4 * n + 16
    tensors = graph_table + 16
    tensor_table = tensors + 4 + 4 * n + 16
    data = bytearray(tensor_table + 64)
    data[0:8] = struct.pack("<I", model_table) + b"TFL3"
    data[8:18] = struct.pack("<HHHHH", 10, 8, 0, 0, 4)  # the third field of a model: its graphs
    data[model_table : model_table + 8] = struct.pack("<iI", model_table - 8, graphs - 28)
    data[graphs : graphs + 4 + 4 * n] = many(graphs, graph_table, n)
    data[graph_table - 8 : graph_table - 2] = struct.pack("<HHH", 6, 8, 4)
    data[graph_table : graph_table + 8] = struct.pack("<iI", 8, tensors - graph_table - 4)
    data[tensors : tensors + 4 + 4 * n] = many(tensors, tensor_table, n)
    data[tensor_table - 8 : tensor_table - 4] = struct.pack("<HH", 4, 4)
    data[tensor_table : tensor_table + 4] = struct.pack("<i", 8)

    # When it is read by all that walks through tensors
    # Then that ends: 16 million tensors were not looked at.
    with pytest.raises(ValueError, match="overlap"):
        expand(bytes(data))
    assert edgekit_runner.state_of(bytes(data)) == ""


@given(st.data())
def test_damaged_bytes_are_refused_or_expanded_and_nothing_else(data):
    stored = bytearray(SEEDS[data.draw(st.integers(0, len(SEEDS) - 1))])
    for _ in range(data.draw(st.integers(1, 8))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(8, len(stored)) | st.just(len(stored)))

    try:
        expanded = expand(bytes(stored[:end]))
    except edgekit_runner.damage():
        return

    assert len(expanded) >= end


SEEDS = [
    content("turbofan-small/small"),
    (GOLDEN / "inspect" / "sparse_float32.tflite").read_bytes(),
]

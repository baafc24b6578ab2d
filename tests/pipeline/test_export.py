"""C sources of a model: compiled, their bytes read back, and run by TFLite Micro.

TFLite Micro itself is not compiled: main.cc is compiled against declarations of what it uses, which
checks names and types only.
"""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from micro_files import OPERATORS, T, operator_file

from edgekit import api
from edgekit.cli import run
from edgekit.errors import BudgetError, ModelError, OutputError, UsageError
from edgekit.targets.micro_operators import KERNELS
from edgekit.tflite import micro_interpreter, read, write
from edgekit.tflite.nodes import nodes
from edgekit.tflite.reference import reference_outputs

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
C_NUMBERS = {"int8_t": np.int8, "uint8_t": np.uint8, "float": np.float32, "int16_t": np.int16}
MODELS = {
    "int8": "../../quantized/turbofan/int8.tflite",
    "float32": "inspect/several_float32.tflite",
    "uint8": "runner/cmapss_uint8.tflite",
    "two": "evaluate/two_in_two_out.tflite",
    "stream": "stateful/stream.tflite",
}
HEADERS = {
    "micro_mutable_op_resolver.h": """
template <unsigned int count> class MicroMutableOpResolver {{
 public:
{methods}
}};
""",
    "micro_allocator.h": """
class MicroAllocator {{
 public:
  static MicroAllocator* Create(uint8_t* arena, size_t size);
}};
""",
    "micro_resource_variable.h": """
class MicroAllocator;
class MicroResourceVariables {{
 public:
  static MicroResourceVariables* Create(MicroAllocator* allocator, int count);
}};
""",
    "micro_interpreter.h": """
struct TfLiteTensor {{ union {{ void* data; int8_t* int8; }} data; }};
class MicroAllocator;
class MicroResourceVariables;
class MicroInterpreter {{
 public:
  template <class R> MicroInterpreter(const Model*, const R&, uint8_t* arena, size_t size);
  template <class R> MicroInterpreter(const Model*, const R&, MicroAllocator*,
                                      MicroResourceVariables*);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index);
  TfLiteTensor* output(size_t index);
}};
""",
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, golden, tmp_path_factory) -> tuple[Path, Path]:
    """A model and the folder of its sources."""
    source = golden / MODELS[request.param]
    folder = tmp_path_factory.mktemp("exported") / "firmware"
    api.export(source, folder)
    return source, folder


def compiled(folder: Path, file: str) -> ctypes.CDLL:
    library = folder.parent / f"{file}.so"
    words = ["gcc", "-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library]
    subprocess.run([*words, folder / f"{file}.c"], check=True)
    return ctypes.CDLL(str(library))


def examples(folder: Path) -> dict[str, np.ndarray]:
    """Read the stored arrays back from the compiled file."""
    library = compiled(folder, "example")
    declared = re.findall(r"const (\w+) (\w+)\[(\d+)\]", (folder / "example.h").read_text())
    found = {}
    for kind, name, count in declared:
        dtype = np.dtype(C_NUMBERS[kind])
        raw = (ctypes.c_char * (int(count) * dtype.itemsize)).in_dll(library, name).raw
        found[name] = np.frombuffer(raw, dtype)
    return found


def as_written(source: Path) -> bytes:
    """Return a file as it is, or written anew where its constants are not aligned."""
    content = source.read_bytes()
    return content if are_aligned(content) else write(read(content))


def are_aligned(content: bytes) -> bool:
    start = np.frombuffer(content, np.uint8).ctypes.data
    model = read(content)
    used = [model.buffers[t.buffer].data for graph in model.subgraphs for t in graph.tensors]
    return not any((one.ctypes.data - start) % 16 for one in used if one is not None and len(one))


def declared_number(folder: Path, name: str) -> int:
    found = re.search(rf"#define {name} (\d+)", (folder / "model.h").read_text())
    return int(found[1])


@needs_compiler
def test_the_compiled_array_is_the_file_and_is_aligned(exported):
    source, folder = exported
    size = declared_number(folder, "MODEL_MODEL_BYTES")

    array = (ctypes.c_char * size).in_dll(compiled(folder, "model"), "model_data")

    assert array.raw == as_written(source)
    assert ctypes.addressof(array) % 16 == 0


@needs_compiler
@pytest.mark.skipif(not micro_interpreter.available(), reason="tflite-micro is not installed")
def test_the_bytes_run_in_the_declared_arena_and_give_the_stored_outputs(exported):
    _, folder = exported
    size = declared_number(folder, "MODEL_MODEL_BYTES")
    content = (ctypes.c_char * size).in_dll(compiled(folder, "model"), "model_data").raw
    stored = examples(folder)
    graph = read(content).subgraphs[0]
    inputs = [
        stored[f"model_input_{i}"].reshape(graph.tensors[index].shape)
        for i, index in enumerate(graph.inputs)
    ]
    outputs = [stored[f"model_output_{i}"] for i in range(len(graph.outputs))]
    arena = declared_number(folder, "MODEL_ARENA_BYTES")
    assert arena % 16 == 0

    found = micro_interpreter.run(content, outputs=len(outputs), inputs=[inputs], arena_bytes=arena)
    smaller = micro_interpreter.run(content, outputs=len(outputs), arena_bytes=arena - 80)

    assert found.loads, found.message
    for ours, kept in zip(found.outputs[0], outputs, strict=True):
        np.testing.assert_array_equal(ours.reshape(-1), kept)
    # No much smaller one would do.
    assert not smaller.loads


@needs_compiler
def test_the_stored_outputs_are_those_of_the_reference_kernels(golden, tmp_path):
    source = golden / "inspect/speech_int8.tflite"
    made = api.export(source, tmp_path / "firmware")
    stored = examples(tmp_path / "firmware")
    shape = read(source).subgraphs[0].tensors[read(source).subgraphs[0].inputs[0]].shape

    (expected,) = reference_outputs(source.read_bytes(), [[stored["model_input_0"].reshape(shape)]])

    np.testing.assert_array_equal(stored["model_output_0"], expected[0].reshape(-1))
    assert made.equal in {True, None}


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
@pytest.mark.parametrize("space", ["tflite", "tflite::micro"])
def test_main_compiles_against_either_namespace(exported, tmp_path, space):
    _, folder = exported
    place = tmp_path / "stub" / "tensorflow" / "lite" / "micro"
    place.mkdir(parents=True)
    methods = "\n".join(
        f"  TfLiteStatus {kernel.registers}();" for kernel in dict.fromkeys(KERNELS.values())
    )
    (tmp_path / "stub" / "base.h").write_text(
        "#pragma once\n#include <cstddef>\n#include <cstdint>\n"
        "namespace tflite { struct Model; const Model* GetModel(const void*); }\n"
        "namespace tflite { namespace micro {} }\n"
        f"namespace {space} {{ enum TfLiteStatus {{ kTfLiteOk, kTfLiteError }}; }}\n"
    )
    for name, text in HEADERS.items():
        body = text.format(methods=methods)
        (place / name).write_text(
            f'#pragma once\n#include "base.h"\nnamespace {space} {{\n{body}\n}}\n'
        )
    schema = tmp_path / "stub" / "tensorflow" / "lite" / "schema"
    schema.mkdir()
    (schema / "schema_generated.h").write_text('#include "base.h"\n')

    words = ["g++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", "-I", tmp_path / "stub"]
    subprocess.run([*words, folder / "main.cc"], check=True)


def test_the_resolver_has_exactly_the_operators_of_the_model(exported):
    source, folder = exported
    names = {KERNELS[node.name].registers for node in nodes(read(source))}

    text = (folder / "resolver.h").read_text()

    assert set(re.findall(r"resolver\.(\w+)\(\)", text)) == names
    assert f"MicroMutableOpResolver<{len(names)}>" in text


@needs_compiler
@pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"
)
def test_the_array_compiles_for_a_cortex_m4(exported, tmp_path):
    source, folder = exported
    words = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c11", "-c"]
    subprocess.run([*words, folder / "model.c", "-o", tmp_path / "model.o"], check=True)
    copy = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".rodata"]
    subprocess.run([*copy, tmp_path / "model.o", tmp_path / "model.bin"], check=True)

    assert (tmp_path / "model.bin").read_bytes().startswith(as_written(source))


def test_a_file_that_does_not_run_is_refused_with_the_operator(repository, tmp_path, capsys):
    source = repository / "quantized" / "fashion-mnist-small" / "small.tflite"

    assert run(["export", str(source), "-o", str(tmp_path / "firmware")]) == 3

    told = capsys.readouterr().err
    assert "operator 8 (FULLY_CONNECTED)" in told
    assert "expand FILE --target micro -o NEW" in told
    assert not (tmp_path / "firmware").exists()


def test_a_model_beyond_the_budget_is_refused(golden, tmp_path):
    source = golden / "inspect/speech_int8.tflite"

    with pytest.raises(BudgetError, match="does not fit micro:ram=20k") as caught:
        api.export(source, tmp_path / "firmware", target="micro:ram=20k")

    assert "there are 20,480 and any number" in str(caught.value)
    assert not (tmp_path / "firmware").exists()


def test_files_are_replaced_only_when_asked(golden, tmp_path):
    source = golden / MODELS["two"]
    api.export(source, tmp_path / "firmware")

    with pytest.raises(OutputError):
        api.export(source, tmp_path / "firmware")

    api.export(source, tmp_path / "firmware", name="other", force=True)
    assert "other_data" in (tmp_path / "firmware" / "model.h").read_text()


@pytest.mark.parametrize("name", ["Model", "1st", "a-b", "a" * 41, "", "a\nb"])
def test_a_prefix_is_an_identifier(golden, tmp_path, name):
    with pytest.raises(UsageError, match="cannot be a prefix"):
        api.export(golden / MODELS["two"], tmp_path / "firmware", name=name)


def test_only_microcontrollers_and_c_are_known(golden, tmp_path, capsys):
    words = ["export", str(golden / MODELS["two"]), "-o", str(tmp_path / "firmware")]
    assert run([*words, "--target", "coral"]) == 2
    assert "Name a microcontroller" in capsys.readouterr().err
    assert run([*words, "--emit", "rust"]) == 2
    assert "Write --emit c" in capsys.readouterr().err


def test_without_the_interpreter_the_arena_is_estimated(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(micro_interpreter, "available", lambda: False)

    made = api.export(golden / "inspect/speech_int8.tflite", tmp_path / "firmware")

    assert not made.memory.measured
    assert made.equal is None
    assert 55568 <= made.arena_bytes <= 56200


def test_the_example_is_a_real_sample_where_there_is_data(golden, tmp_path, capsys):
    source = golden / "runner" / "digits_autoencoder.tflite"
    samples = np.random.default_rng(0).random((4, 64), np.float32)
    np.savez(tmp_path / "data.npz", x_test=samples, y_test=np.arange(4) % 2)
    words = ["export", str(source), "-o", str(tmp_path / "firmware"), "--json"]

    assert run([*words, "--data", str(tmp_path / "data.npz")]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["example"].startswith("the first test sample of")
    assert told["operators"] == ["AddFullyConnected"]
    assert told["files"] == [
        *("model.h", "model.c", "example.h", "example.c", "resolver.h", "main.cc")
    ]


def test_constants_are_aligned_in_the_array_whatever_they_were_in_the_file(exported):
    source, folder = exported

    values = re.findall(r"0x([0-9a-f]{2})", (folder / "model.c").read_text())

    written = bytes.fromhex("".join(values))
    assert are_aligned(written)
    if source.parent.name == "inspect":
        # edgekit aligns what it writes; other writers do not.
        assert not are_aligned(source.read_bytes())


def test_a_type_without_examples_is_refused(tmp_path):
    source = tmp_path / "odd.tflite"
    source.write_bytes(
        operator_file("RESHAPE", [T((2, 2), "uint32")], [T((4,), "uint32")], "ReshapeOptions")
    )

    with pytest.raises(ModelError, match="is uint32, of which no example is written"):
        api.export(source, tmp_path / "firmware")


def test_an_operator_that_is_missing_is_named(tmp_path):
    source = tmp_path / "gelu.tflite"
    source.write_bytes(OPERATORS["GELU"]("float32"))

    with pytest.raises(ModelError, match="operator 0") as caught:
        api.export(source, tmp_path / "firmware")

    assert "Use relu or hard_silu (Hardswish)" in str(caught.value)

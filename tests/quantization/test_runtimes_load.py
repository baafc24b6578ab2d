"""Files written here, in the last tflite-runtime, and in another process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import Net, noise
from test_writer import graph_of, ranges_of

from edgekit.quantization import make, observe, read_float_graph
from edgekit.quantization.writer import write_integers
from edgekit.records import Array, Batch, Plan, Samples
from edgekit.tflite import read, signature, write
from edgekit.tflite.runtime_limits import newer_operators

REPOSITORY = Path(__file__).parents[2]
NAMES = ("bccd", "spoken-digits", "turbofan")
MODES = ("int8", "int16x8", "dynamic", "float16")
Done = subprocess.CompletedProcess[str]
PROGRAM = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
for path in json.load(sys.stdin):
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    values = np.load(path + ".npy")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    found = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    np.savez(path + ".npz", *found)
"""


def samples_of(data: bytes) -> tuple[Samples, Array]:
    (spec,), _ = signature(read(data))
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, *spec.shape[1:])).astype(np.float32)
    samples = Samples(
        split="calibrate",
        n=6,
        sha256="",
        read=lambda rows: Batch(inputs={spec.name: values[rows]}),
    )
    return samples, values


def files_of(name: str) -> tuple[dict[str, bytes], Array]:
    """A published model in every mode that tflite-runtime loads, and one input."""
    data = (REPOSITORY / "quantized" / name / "float32.tflite").read_bytes()
    samples, values = samples_of(data)
    graph = read_float_graph(data)
    seen = observe(graph.model, samples)
    return {
        mode: make(Plan(variant=mode, mode=mode), graph, observe=lambda _: seen).data
        for mode in MODES
    }, values[:1]


def outputs(data: bytes, values: Array) -> list[Array]:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def run_there(tflite_runtime: Path, program: str, files: list[str]) -> Done:
    """Run a program in tflite-runtime 2.14, with files on its standard input."""
    python = tflite_runtime / "numpy1" / "bin" / "python"
    return subprocess.run(
        [python, "-I", "-c", program],
        input=json.dumps(files),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_last_tflite_runtime_loads_them_and_agrees(
    tflite_runtime: Path, tmp_path: Path
) -> None:
    # Given published models in all modes but int4
    expected: dict[str, list[Array]] = {}
    for name in NAMES:
        files, values = files_of(name)
        for mode, data in files.items():
            path = tmp_path / f"{name}-{mode}.tflite"
            path.write_bytes(data)
            np.save(f"{path}.npy", values)
            expected[str(path)] = outputs(data, values)
    # When tflite-runtime 2.14 runs them
    done = run_there(tflite_runtime, PROGRAM, list(expected))
    # Then it loads all, and its outputs are those of LiteRT, whose kernels round otherwise.
    assert done.returncode == 0, done.stderr
    for path, wanted in expected.items():
        with np.load(f"{path}.npz") as found:
            for was, now in zip(wanted, found.values(), strict=True):
                assert np.linalg.norm(now - was) <= 0.06 * np.linalg.norm(was), path


RUN_EACH = """
import json, os, sys
from tflite_runtime.interpreter import Interpreter
for path in json.load(sys.stdin):
    if os.fork() == 0:
        try:
            interpreter = Interpreter(path, num_threads=1)
            interpreter.allocate_tensors()
            interpreter.invoke()
        except Exception:
            os._exit(1)
        os._exit(0)
    print(os.wait()[1] == 0)
"""
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "DIV": ((1, 4), (1, 4)),
    "GELU": ((1, 4), (1, 4)),
    "MUL": ((1, 2, 2, 2, 3), (1, 2, 2, 2, 3)),
    "SUB": ((1, 2, 2, 2, 3), (1, 2, 2, 2, 3)),
    "SUM": ((2, 4), (2,)),
    "TILE": ((1, 4), (1, 8)),
}


def single(name: str) -> ModelT:
    """A graph of an operator, behind one that computes in integers."""
    given, made = SHAPES[name]
    options, second = {
        "DIV": (schema.DivOptionsT(), np.ones(4, np.float32)),
        "GELU": (schema.GeluOptionsT(), None),
        "MUL": (schema.MulOptionsT(), np.ones(3, np.float32)),
        "SUB": (schema.SubOptionsT(), np.ones(3, np.float32)),
        "SUM": (schema.ReducerOptionsT(), np.array([1], np.int32)),
        "TILE": (schema.TileOptionsT(), np.array([1, 2], np.int32)),
    }[name]
    inputs = ["a"] if second is None else ["a", "second"]
    model = graph_of(
        [("ABS", ["x"], "a", None), (name, inputs, "y", options)],
        {} if second is None else {"second": second},
        shape=given,
    )
    next(t for t in model.subgraphs[0].tensors if t.name == "y").shape = np.array(made, np.int32)
    return model


def test_what_tflite_runtime_has_no_kernel_for_is_known(
    tflite_runtime: Path, tmp_path: Path
) -> None:
    # Given operators in integers of both widths
    told = {}
    for name in SHAPES:
        model = single(name)
        for mode in ("int8", "int16x8"):
            ranges = ranges_of(model, 0.0)
            if name == "SUM":  # it runs where its output has the scale of its input
                ranges = replace(ranges, high={**ranges.high, "y": 9.0})
            made = write_integers(model, ranges, Plan(variant=mode, mode=mode)).model
            path = tmp_path / f"{name}-{mode}.tflite"
            path.write_bytes(write(made))
            told[str(path)] = newer_operators(made)
    # When tflite-runtime 2.14 loads and runs them
    done = run_there(tflite_runtime, RUN_EACH, list(told))
    assert done.returncode == 0, done.stderr
    # Then it runs those of which nothing is told that it lacks.
    runs = [line == "True" for line in done.stdout.split()]
    assert runs == [not lacking for lacking in told.values()]
    assert [lacking for lacking in told.values() if lacking] == [
        ("DIV of int8",),
        ("GELU of int16",),
        ("MUL of int16 that broadcasts 5 dimensions",),
        ("SUM of int16",),
        ("TILE of int16",),
    ]


@pytest.mark.parametrize("readers", ["output", "layer", "sum"])
def test_dense_layers_of_three_dimensions_run_in_tflite_runtime(
    tflite_runtime: Path, tmp_path: Path, readers: str
) -> None:
    # Given dense layers on the last of three dimensions
    net = Net(1, 6, 8)
    last = net.dense("x", 12)
    inner = [last]
    if readers == "layer":
        last = net.dense(last, 5)
        inner.append(last)
    elif readers == "sum":
        last = net.shift(last)
        inner.append(last)
    for name in inner:
        tensor = net.graph.tensors[net.places[name]]
        tensor.shape = np.array([1, 6, tensor.shape[-1]], np.int32)
    for op in net.graph.operators:
        if hasattr(op.builtinOptions, "keepNumDims"):
            op.builtinOptions.keepNumDims = True
    model = net.done(last)
    samples = noise(8, 6, 8)
    plan = Plan(variant="v", mode="int16x8")
    made = write_integers(model, observe(model, samples).ranges(), plan).model
    # When tflite-runtime 2.14 runs their int16x8 file
    path = tmp_path / "dense.tflite"
    path.write_bytes(write(made))
    values = samples.read(np.arange(1)).inputs["x"]
    np.save(f"{path}.npy", values)
    done = run_there(tflite_runtime, PROGRAM, [str(path)])
    assert done.returncode == 0, done.stderr
    # Then it computes what the float graph computes, in its shape.
    with np.load(f"{path}.npz") as found:
        (now,) = found.values()
    (expected,) = outputs(write(model), values)
    assert now.shape == expected.shape
    assert np.abs(now - expected).max() < 0.01 * np.abs(expected).max()
    assert newer_operators(made) == ()


def test_other_hash_seeds_make_the_same_bytes() -> None:
    """Sets of strings are in another order in every process."""
    program = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import test_runtimes_load
for name in sys.argv[2:]:
    for data in test_runtimes_load.files_of(name)[0].values():
        print(hashlib.sha256(data).hexdigest())
"""
    told = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent), "bccd", "spoken-digits"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        told.append(done.stdout.split())
    assert told[0] == told[1]
    assert len(set(told[0])) == 2 * len(MODES)
    assert hashlib.sha256(files_of("bccd")[0]["int8"]).hexdigest() == told[0][0]

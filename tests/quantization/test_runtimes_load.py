"""Files written here, in the last tflite-runtime, and in another process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgekit.quantization import make, observe, read_float_graph
from edgekit.records import Array, Batch, Plan, Samples
from edgekit.tflite import read, signature

REPOSITORY = Path(__file__).parents[2]
NAMES = ("bccd", "spoken-digits", "turbofan")
MODES = ("int8", "int16x8", "dynamic", "float16")
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
    python = tflite_runtime / "numpy1" / "bin" / "python"
    done = subprocess.run(
        [python, "-I", "-c", PROGRAM],
        input=json.dumps(list(expected)),
        capture_output=True,
        text=True,
        check=False,
    )
    # Then it loads all, and its outputs are those of LiteRT, whose kernels round otherwise.
    assert done.returncode == 0, done.stderr
    for path, wanted in expected.items():
        with np.load(f"{path}.npz") as found:
            for was, now in zip(wanted, found.values(), strict=True):
                assert np.linalg.norm(now - was) <= 0.06 * np.linalg.norm(was), path


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

"""The runner on tflite-runtime, in tflite_runtime of its own, and the trap of numpy 2."""

from __future__ import annotations

import json
import subprocess

import pytest
from ai_edge_litert import schema_py_generated as schema

import edgekit_runner
from edgekit.tflite import write
from edgekit.tflite.runtime_limits import NEWEST


def test_tflite_runtime_is_found_and_scores_alike(alone, tflite_runtime, models, runner):
    # Given a board that has tflite-runtime and nothing else
    python = str(tflite_runtime / "numpy1" / "bin" / "python")
    for name in ("cmapss_uint8", "cmapss_int16"):
        command = ["eval", models / f"{name}.tflite", models / "cmapss.npz", "--json"]
        # When the same command runs there and here
        there = alone(*command, python=python)
        here = json.loads(runner(*command)[1])
        # Then it is the other runtime with its other kernels, and the score differs by codes.
        assert (there.returncode, there.stderr) == (0, "")
        facts = json.loads(there.stdout)
        assert facts["runtime"] == "tflite-runtime 2.14.0"
        assert facts["score"]["value"] == pytest.approx(here["score"]["value"], abs=0.002)


def test_tflite_runtime_tells_signature_names_and_is_timed(alone, tflite_runtime, models):
    python = str(tflite_runtime / "numpy1" / "bin" / "python")
    facts = json.loads(alone("info", models / "pair.tflite", "--json", python=python).stdout)
    assert {tensor["name"] for tensor in facts["inputs"]} == {"left", "right", "index"}
    done = alone("bench", models / "fsdd_int8.tflite", "--runs", 5, "--json", python=python)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n"] == 5


def test_int4_under_tflite_runtime_names_the_runtime_it_needs(alone, tflite_runtime, repository):
    # Given a file with int4 kernels, which came after tflite-runtime 2.14
    python = str(tflite_runtime / "numpy1" / "bin" / "python")
    path = repository / "quantized" / "turbofan" / "int4.tflite"

    # When it is loaded there as it is stored
    done = alone("info", path, "--no-expand", python=python)

    # Then the cause is the runtime, not the file, and the hint loads it
    assert (done.returncode, done.stdout) == (3, "")
    assert "CONV_2D" in done.stderr
    assert "damaged" not in done.stderr
    hint = done.stderr.splitlines()[-1]
    assert hint.startswith("The file needs ai-edge-litert. Install with: ")
    assert hint.endswith("-m pip install ai-edge-litert")
    assert alone("info", path, "--no-expand").returncode == 0


LOAD_EACH = """
import pathlib, sys
from tflite_runtime.interpreter import Interpreter
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        Interpreter(model_content=path.read_bytes())
    except (RuntimeError, ValueError):
        print(path.name)
"""


def test_the_newest_versions_of_operators_are_those_that_load(tflite_runtime, tmp_path):
    # Given a file for each operator that LiteRT knows, at the newest version that is told of
    # tflite-runtime and at the next one
    for name, number in vars(schema.BuiltinOperator).items():
        if name.startswith("_") or name == "CUSTOM":
            continue
        newest = NEWEST.get(name, 0)
        for version in (newest, newest + 1):
            code = schema.OperatorCodeT(
                deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=version
            )
            tensor = schema.TensorT(shape=[1], buffer=0, name="x")
            graph = schema.SubGraphT(tensors=[tensor], inputs=[0], outputs=[0], operators=[])
            model = schema.ModelT(
                version=3, operatorCodes=[code], subgraphs=[graph], buffers=[schema.BufferT()]
            )
            if version:
                (tmp_path / f"{name} {version - newest}").write_bytes(write(model))

    # When they are loaded there
    python = tflite_runtime / "numpy1" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", LOAD_EACH, tmp_path], capture_output=True, text=True, check=True
    )

    # Then it refuses the next versions and no others.
    names = {path.name for path in tmp_path.iterdir()}
    assert set(done.stdout.split("\n")) - {""} == {name for name in names if name.endswith(" 1")}


@pytest.mark.parametrize(
    ("machine", "version"), [("armv7l", (3, 11)), ("aarch64", (3, 9)), ("x86_64", (3, 8))]
)
def test_where_litert_has_no_wheel_another_variant_is_named(machine, version, monkeypatch):
    install = edgekit_runner._runtime_hint(None, machine, version, narrow=False)
    monkeypatch.setattr(edgekit_runner, "_runtime_hint", lambda _: install)

    hint = edgekit_runner._newer_runtime_hint("tflite")

    assert "pip" not in hint
    assert "another variant of the model, such as dynamic or int8" in hint


def test_numpy_2_under_tflite_runtime_is_named_with_its_cure(alone, tflite_runtime, models):
    python = str(tflite_runtime / "numpy2" / "bin" / "python")
    done = alone("bench", models / "fsdd_int8.tflite", python=python)
    assert (done.returncode, done.stdout) == (7, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0] == "tflite-runtime 2.14.0 does not work with numpy 2.2.6."
    assert lines[2].endswith('-m pip install "numpy<2"')

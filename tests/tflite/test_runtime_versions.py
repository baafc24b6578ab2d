"""The oldest runtimes, against the converter's own stamp and what runtimes were seen to load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.modes import MODES, TFLITE_RUNTIME
from edgekit.schema import inspection_to_json
from edgekit.tflite import read, write
from edgekit.tflite.graph import as_text, code_name
from edgekit.tflite.inspect import inspect
from edgekit.tflite.runtime_limits import NEWEST
from edgekit.tflite.runtime_versions import _BROUGHT_BY, oldest_runtimes

REPOSITORY = Path(__file__).resolve().parents[2]
# As TensorFlow's converter wrote them: it stamps each with the release that its operators need.
CONVERTED = [
    path
    for room in ("evaluate", "fidelity", "inspect", "quantize")
    for path in sorted((REPOSITORY / "tests" / "golden" / room).glob("*.tflite"))
    if b"min_runtime_version" in path.read_bytes()
]


def test_the_stamped_files_are_of_every_kind() -> None:
    kinds = {path.stem.rpartition("_")[2] for path in CONVERTED}

    assert {"float32", "float16", "dynamic", "int8"} <= kinds


@pytest.mark.parametrize("path", CONVERTED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_agrees_with_the_stamp_of_the_converter(path: Path) -> None:
    model = read(path)
    (entry,) = (e for e in model.metadata if as_text(e.name) == "min_runtime_version")
    stamp = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()

    found = oldest_runtimes(model)

    assert f"{found['tensorflow']}.0" == stamp
    assert found["tflite"] == found["tensorflow"]
    assert found["litert"] == "1.0.1"


def test_int4_needs_a_newer_runtime_than_the_last_tflite_runtime() -> None:
    found = oldest_runtimes(read(REPOSITORY / "quantized" / "turbofan" / "int4.tflite"))

    assert found == {"litert": "1.0.1", "tflite": None, "tensorflow": "2.17"}


def test_dense_int4_with_int8_activations_is_refused_by_the_first_litert() -> None:
    # 1.0.1: "filter->type == kTfLiteInt8 ... was not true"; 1.1.2 loads it
    found = oldest_runtimes(read(REPOSITORY / "quantized" / "turbofan-small" / "small.tflite"))

    assert found["litert"] == "1.1.2"


def test_an_operator_from_the_future_has_no_release() -> None:
    model = read(REPOSITORY / "quantized" / "turbofan" / "int8.tflite")
    model.operatorCodes[0].version = 99

    assert set(oldest_runtimes(model).values()) == {None}


def test_a_custom_operator_is_no_statement() -> None:
    model = read(REPOSITORY / "quantized" / "turbofan" / "int8.tflite")
    before = oldest_runtimes(model)
    model.operatorCodes[0].customCode = b"Mine"
    model.operatorCodes[0].builtinCode = 32

    after = oldest_runtimes(model)

    assert before["tensorflow"] is not None
    assert after["tensorflow"] is not None
    assert after["litert"] == "1.0.1"


def test_what_tflite_runtime_2_14_was_seen_to_load_is_not_said_to_be_newer() -> None:
    # runtime_limits was found by loading; the table of releases is TensorFlow's own
    newer = {
        name: version
        for name, version in NEWEST.items()
        if name in _BROUGHT_BY
        and len(_BROUGHT_BY[name]) >= version
        and _BROUGHT_BY[name][version - 1] > (2, 14)
    }

    assert newer == {}


def test_what_the_runner_unpacks_is_told_apart_from_what_is_lacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a file of int4 weights, and one with an operator that came after tflite-runtime 2.14
    source = REPOSITORY / "quantized" / "turbofan"
    model = read(source / "int8.tflite")
    dense = next(code for code in model.operatorCodes if code_name(code) == "FULLY_CONNECTED")
    dense.version = 12
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(write(model))

    # When they are inspected, and read again from JSON
    found = [inspect(path, targets=()) for path in (source / "int4.tflite", newer)]

    # Then tflite-runtime loads the first as the runner unpacks it, and lacks one of the other
    assert [one.runtimes[TFLITE_RUNTIME] for one in found] == [None, None]
    assert [dict(one.lacking) for one in found] == [
        {TFLITE_RUNTIME: ()},
        {TFLITE_RUNTIME: ("FULLY_CONNECTED of version 12",)},
    ]
    assert inspection_to_json(found[1])["lacking"] == {
        TFLITE_RUNTIME: ["FULLY_CONNECTED of version 12"]
    }
    for path, said in (
        (source / "int4.tflite", "tflite-runtime 2.14 as the runner unpacks it"),
        (newer, "tflite-runtime does not load it: it lacks FULLY_CONNECTED of version 12"),
    ):
        assert run(["inspect", str(path)]) == 0
        assert said in " ".join(capsys.readouterr().out.split())


def test_doctor_names_the_kernels_of_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["kernels"]
    assert list(table) == [
        *("ai-edge-litert, 64-bit", "tflite-runtime, 64-bit", "tflite-runtime, 32-bit")
    ]
    assert all(list(modes) == list(MODES) for modes in table.values())
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines[-len(MODES) - 2 :])
    assert any(line.startswith("int4") and "XNNPACK (as int8)" in line for line in lines)

"""The oldest runtimes, against the converter's own stamp and what runtimes were seen to load."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.tflite import read
from edgekit.tflite.graph import as_text
from edgekit.tflite.runtime_limits import NEWEST
from edgekit.tflite.runtime_versions import _BROUGHT_BY, oldest_runtimes

REPOSITORY = Path(__file__).resolve().parents[2]
# As TensorFlow's converter wrote them: it stamps each with the release that its operators need.
CONVERTED = sorted(REPOSITORY.glob("quantized/*/float32.tflite")) + sorted(
    REPOSITORY.glob("quantized/*/int8.tflite")
)


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

"""What `quantize` keeps beside a file: its tensors' ranges, and what its samples were like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.recipe import default_plan
from edgekit.records import Report

WINDOW, SENSORS = 30, 14


@pytest.fixture(scope="module")
def made(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """int8 files of the published turbofan model, with inputs and outputs in float and in int8."""
    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    x = random.random((60, WINDOW, SENSORS), dtype=np.float32)
    data = {"x_train": x[:40], "x_test": x[40:] * 3}  # so that test values are cut off
    report = edgekit.quantize(
        repository / "quantized" / "turbofan" / "float32.tflite",
        data=data,
        modes=["float16"],
        plans=[default_plan("int8", ranges="minmax")],
        latency=False,
        output=folder,
    )
    return report, folder


def manifest(folder: Path, variant: str) -> dict:
    told: dict = json.loads((folder / f"{variant}.json").read_text())
    return told


def test_the_tensors_of_the_integer_file_are_told(made):
    report, folder = made
    shown = {row.artifact.variant: row.tensors for row in report.rows if row.tensors}

    assert list(shown) == ["int8-minmax"]
    found = shown["int8-minmax"]
    assert (found.first, found.second, found.n) == ("float32", "int8-minmax", 20)
    assert all(one.limits and one.limits[0] <= one.limits[1] for one in found.operators)
    assert any(one.saturated > 0.01 for one in found.operators)
    # the manifest travels to devices, without them
    assert manifest(folder, "int8-minmax")["rows"][0]["tensors"] is None


def test_manifests_keep_what_each_input_held_of_the_calibration_samples(made):
    _, folder = made
    told = {name: manifest(folder, name)["calibration"] for name in ("float32", "float16")}
    told["int8"] = manifest(folder, "int8-minmax")["calibration"]

    assert told["float16"] == told["float32"]
    assert {one["n"] for one in told.values()} == {40}
    (floats,), (integers,) = (told[name]["inputs"].values() for name in ("float32", "int8"))
    assert len(floats["mean"]) == SENSORS
    np.testing.assert_allclose(floats["mean"], 0.5, atol=0.05)
    np.testing.assert_allclose(floats["std"], 12**-0.5, atol=0.05)
    # as the input holds them: in steps of a 255th, or as they were
    np.testing.assert_allclose(integers["mean"], floats["mean"], atol=0.005)
    assert 0 < min(floats["low"]) < 0.01


def test_without_training_samples_nothing_is_kept(repository, tmp_path):
    edgekit.quantize(
        repository / "quantized" / "turbofan" / "float32.tflite",
        modes=["float16"],
        latency=False,
        output=tmp_path,
    )

    assert manifest(tmp_path, "float16")["calibration"] is None

"""Two models compared operator by operator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from uneven import QUANTIZED, rescaled

import edgekit
from edgekit.cli import run
from edgekit.data import bind, open_data
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation import predict
from edgekit.evaluation.layerwise import Tally
from edgekit.quantization import make, observe, read_float_graph
from edgekit.recipe import default_plan
from edgekit.records import Dataset, LayerDifferences
from edgekit.reports.differences_text import difference_lines, model_explorer_data
from edgekit.tflite import read, signature, write
from edgekit.tflite.graph import constant, operator_name
from edgekit.tflite.matching import Match

DATA = "spoken-digits"
FLOAT = QUANTIZED / DATA / "float32.tflite"
INT8 = QUANTIZED / DATA / "int8.tflite"


@pytest.fixture(scope="module")
def digits(shared_data: Path) -> Dataset:
    return bind(open_data(DATA), *signature(read(FLOAT.read_bytes())))


@pytest.fixture(scope="module")
def uneven(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> LayerDifferences:
    """A graph with one channel 2,000 times as large, and its int8 file."""
    folder = tmp_path_factory.mktemp("uneven")
    content = rescaled(DATA)
    (folder / "float.tflite").write_bytes(content)
    assert digits.calibrate is not None
    samples = digits.calibrate
    made = make(
        default_plan("int8", ranges="minmax"),
        read_float_graph(content),
        observe=lambda m: observe(m, samples),
    )
    (folder / "int8.tflite").write_bytes(made.data)
    return edgekit.compare(folder / "float.tflite", folder / "int8.tflite", data=DATA, samples=20)


def test_a_model_is_equal_to_itself(shared_data: Path) -> None:
    found = edgekit.compare(FLOAT, FLOAT, data=DATA, samples=4)

    assert found.parts_at is None
    assert len(found.operators) == 10
    assert {one.sqnr_db for one in (*found.operators, *found.outputs)} == {None}
    assert all(one.cosine == pytest.approx(1) for one in found.operators)


def test_every_operator_of_an_int8_file_has_its_float_one(shared_data: Path) -> None:
    found = edgekit.compare(FLOAT, INT8, data=DATA, samples=20)

    assert found.unmatched == ()
    assert [one.operator for one in found.operators] == [
        operator_name(model, op)
        for model in [read(FLOAT.read_bytes())]
        for op in model.subgraphs[0].operators
    ]
    assert all(one.sqnr_db > 20 and one.types == ("float32", "int8") for one in found.operators)
    assert found.parts_at is None


def test_they_part_where_the_channels_die(uneven: LayerDifferences) -> None:
    assert uneven.parts_at is not None
    first = uneven.operators[uneven.parts_at]
    # the tensor itself is near: one channel is nearly all of it, and its noise is small
    assert uneven.operators[0].sqnr_db > 20
    assert uneven.operators[0].dead > 10
    assert first.layer == "block1_depthwise"


def test_a_changed_weight_is_found_at_its_operator(tmp_path: Path, shared_data: Path) -> None:
    # given a file in which a kernel in the middle was damaged
    model = read(FLOAT.read_bytes())
    kernels = [op for op in model.subgraphs[0].operators if operator_name(model, op) == "CONV_2D"]
    tensor = model.subgraphs[0].tensors[kernels[2].inputs[1]]
    values = constant(model, tensor).astype(np.float32)
    model.buffers[tensor.buffer].data = (-values).reshape(-1).view(np.uint8)
    path = tmp_path / "damaged.tflite"
    path.write_bytes(write(model))

    found = edgekit.compare(FLOAT, path, data=DATA, samples=8)

    assert found.parts_at is not None
    assert found.operators[found.parts_at].layer == "block2_pointwise"
    assert {one.sqnr_db for one in found.operators[: found.parts_at]} == {None}


def test_outputs_of_a_device_are_compared_with_a_file(digits: Dataset, tmp_path: Path) -> None:
    assert digits.test is not None
    outputs = predict(INT8, digits.test)
    np.savez(tmp_path / "device.npz", **outputs)

    same = edgekit.compare(INT8, tmp_path / "device.npz", data=DATA)
    near = edgekit.compare(FLOAT, tmp_path / "device.npz", data=DATA)

    assert [one.sqnr_db for one in same.outputs] == [None]
    assert 20 < near.outputs[0].sqnr_db < 100
    assert near.operators == ()
    assert "Only outputs are compared" in near.notes[0]


def test_outputs_of_other_samples_are_refused(digits: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "device.npz", output=np.zeros((7, 10), np.float32))

    with pytest.raises(DataError, match="of 7 samples, and the test split has 300"):
        edgekit.compare(INT8, tmp_path / "device.npz", data=DATA)


def test_two_files_of_outputs_need_no_data(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.float32).reshape(3, 10)
    np.savez(tmp_path / "a.npz", y=values)
    np.savez(tmp_path / "b.npz", y=values * 1.1)

    found = edgekit.compare(tmp_path / "a.npz", tmp_path / "b.npz")

    assert found.outputs[0].sqnr_db == pytest.approx(20, abs=1e-3)
    assert found.outputs[0].cosine == pytest.approx(1)


def test_models_of_nothing_in_common_are_refused(tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises((ModelError, DataError)):
        edgekit.compare(FLOAT, QUANTIZED / "turbofan" / "float32.tflite", data=DATA)


def test_models_need_data() -> None:
    with pytest.raises(UsageError, match="No data was given"):
        edgekit.compare(FLOAT, INT8)


def test_saturated_values_are_those_no_code_holds() -> None:
    # given int8 codes from 0 to 2.55, and values up to 4
    tally = Tally(limits=(0.0, 2.55, 0.01))
    values = np.array([[0.0, 1.0], [2.0, 4.0], [2.555, 3.0]])

    tally.add(values, np.minimum(values, 2.55))

    match = Match(operator="ADD", layer="a", tensor="a", indices=(0, 0))
    assert tally.difference(match, ("float32", "int8"), 3).saturated == pytest.approx(2 / 6)


def test_the_table_has_80_columns_and_marks_where_they_part(uneven: LayerDifferences) -> None:
    lines = list(difference_lines(uneven, 80))

    assert max(map(len, lines[2:])) <= 80  # below the paths of both
    assert [line.split()[0] for line in lines if line.endswith(" <")] == ["block1_depthwise"]
    assert any("They part at block1_depthwise" in line for line in lines)


def test_an_error_too_large_for_its_column_does_not_run_into_the_next(
    uneven: LayerDifferences,
) -> None:
    huge = tuple(replace(one, largest_error=1e9 * one.largest_value) for one in uneven.operators)
    rows = list(difference_lines(replace(uneven, operators=huge)))[5 : 5 + len(huge)]

    assert all(" >9x " in row for row in rows)
    assert max(map(len, rows)) <= 80


def test_figures_for_a_graph_go_by_the_tensors_of_the_second(uneven: LayerDifferences) -> None:
    data = model_explorer_data(uneven)

    assert set(data) == {"results", "thresholds"}
    assert {one.tensor for one in uneven.operators} == set(data["results"])
    assert all(isinstance(one["value"], float) for one in data["results"].values())
    assert [one["value"] for one in data["thresholds"]] == [10.0, 20.0, 30.0]


def test_the_command_writes_figures_for_a_graph(
    tmp_path: Path, shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = tmp_path / "graph.json"
    command = ["compare", str(FLOAT), str(INT8), "--data", DATA, "--samples", "4", "-q"]

    assert run([*command, "--json", "--graph", str(graph)]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["schema"] == 1
    assert told["operators"][0]["types"] == ["float32", "int8"]
    assert json.loads(graph.read_text(encoding="utf-8"))["results"]
    assert run([*command, "--graph", str(graph)]) == 2  # it is there already


def test_keras_models_are_compared_and_measured(demo_model: Path) -> None:
    found = edgekit.compare(demo_model, demo_model, data="digits", samples=4)
    costs = edgekit.sensitivity(demo_model, data="digits", calibration_samples=8)

    assert {one.sqnr_db for one in found.operators} == {None}
    assert len(found.operators) > 3
    assert costs.costs

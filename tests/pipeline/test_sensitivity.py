"""What each operator costs, and the recipe that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from uneven import QUANTIZED, rescaled

import edgekit
from edgekit.cli import run
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.noise import all_outputs_db, noise_ratio
from edgekit.quantization.rules import modes_of, pattern_of
from edgekit.recipe import load_recipe
from edgekit.records import Plan, Progress, Rule, Sensitivity
from edgekit.reports.sensitivity_text import sensitivity_lines
from edgekit.tflite import read, signature
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes

DATA = "spoken-digits"
FEW = 40


@pytest.fixture(scope="module")
def uneven(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of which int8 loses most: one channel is 2,000 times as large."""
    path = tmp_path_factory.mktemp("uneven") / "model.tflite"
    path.write_bytes(rescaled(DATA))
    return path


@pytest.fixture(scope="module")
def found(uneven: Path) -> Sensitivity:
    return edgekit.sensitivity(uneven, data=DATA, calibration_samples=FEW, search=True)


def test_the_operators_around_a_wide_channel_cost_most(found: Sensitivity) -> None:
    # the convolution that computes it, and the one that reads it
    assert {cost.layer for cost in found.costs[:2]} == {"stem", "block1_depthwise"}
    assert found.costs[0].only_db < 15 < found.costs[2].only_db


def test_without_any_other_operator_the_outputs_are_no_better(found: Sensitivity) -> None:
    assert found.all_db is not None
    for cost in found.costs[2:]:
        assert cost.without_db == pytest.approx(found.all_db, abs=3)


def test_the_metric_is_that_of_the_calibration_samples(found: Sensitivity) -> None:
    assert found.metric == "accuracy"
    assert found.n == FEW
    assert found.float_value * FEW == pytest.approx(round(found.float_value * FEW))
    assert found.all_value < found.float_value


def test_a_rule_names_one_operator_of_a_layer_by_its_tensor(golden: Path) -> None:
    # given a layer of two operators: a rule for the layer would be for both
    model = read((golden / "fidelity" / "head_float32.tflite").read_bytes())
    operators = nodes(model)
    layers = name_layers(operators)
    chosen = next(node for node in operators if node.name == "CONCATENATION")
    assert layers.count(layers[operators.index(chosen)]) > 1

    pattern = pattern_of(chosen, operators, layers)

    assert pattern is not None
    rule = Rule(layers=pattern, mode="float32")
    modes = modes_of(Plan(variant="a", mode="int8", rules=(rule,)), model)
    assert [name for name, mode in modes.items() if mode == "float32"] == [chosen.outputs[0].name]


def test_what_joins_scales_at_the_end_costs_nothing(golden: Path) -> None:
    # given boxes in pixels and scores in one output: the writer joins them in float
    head = golden / "fidelity" / "head_float32.tflite"
    shape = signature(read(head.read_bytes()))[0][0].shape
    values = np.random.default_rng(0).standard_normal((30, *shape[1:])).astype(np.float32)

    found = edgekit.sensitivity(head, data={"x_train": values})

    assert found.all_db > 30
    assert all(cost.only_db > 30 for cost in found.costs)


@pytest.mark.parametrize("name", ["inspect/loop_float32", "stateful/lstm", "stateful/stream"])
def test_loops_and_models_that_remember_are_measured(golden: Path, name: str) -> None:
    path = golden / f"{name}.tflite"
    (given,) = signature(read(path.read_bytes()))[0]
    values = np.random.default_rng(0).standard_normal((12, *given.shape[1:])).astype(np.float32)

    found = edgekit.sensitivity(path, data={"x_train": values})

    assert found.costs
    assert all(not cost.broken for cost in found.costs)
    assert 20 < found.all_db <= min(cost.only_db for cost in found.costs)


@pytest.mark.parametrize("mode", ["int16x8", "int4", "dynamic", "float16"])
def test_other_modes_are_measured_likewise(shared_data: Path, mode: str) -> None:
    found = edgekit.sensitivity(
        QUANTIZED / DATA / "float32.tflite", data=DATA, mode=mode, calibration_samples=8
    )

    costs = [cost.only_db for cost in found.costs]
    assert found.model == DATA
    assert costs
    assert costs == sorted(costs)
    assert all(cost.only_db >= found.all_db - 3 for cost in found.costs)


def test_several_outputs_count_alike() -> None:
    # given one output with a hundredth of noise and one with none
    assert all_outputs_db([0.01, 0.0]) == pytest.approx(23.01, abs=0.01)
    assert all_outputs_db([0.0, 0.0]) is None


def test_columns_of_different_units_count_alike() -> None:
    # given coordinates in pixels, and a score that the file loses
    reference = np.array([[640.0, 320.0, 0.9], [100.0, 500.0, 0.2]])
    lost = reference * [1.0, 1.0, 0.0]

    assert noise_ratio(reference, lost) == pytest.approx(1 / 3)
    # of the scores of classes, which have one unit, all values count together
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert noise_ratio(scores, scores * [1.0, 0.0]) < 0.05
    assert noise_ratio(scores, scores) == 0


def test_the_table_has_80_columns(found: Sensitivity) -> None:
    lines = list(sensitivity_lines(found, 80))

    assert max(map(len, lines)) <= 80
    assert any("block1_depthwise" in line and "DEPTHWISE_CONV_2D" in line for line in lines)


def test_the_command_writes_a_page_and_a_recipe_that_runs(
    uneven: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page, recipe = tmp_path / "costs.html", tmp_path / "mixed.toml"
    few = ["--calibration-samples", "20"]
    outputs = ["-o", str(page), "-o", str(recipe)]
    code = run(["sensitivity", str(uneven), "--data", DATA, *few, "--json", *outputs])

    assert code == 0
    told = json.loads(capfd.readouterr().out)
    assert told["schema"] == 1
    assert told["costs"][0]["layer"] in {"stem", "block1_depthwise"}
    assert "<svg" in page.read_text(encoding="utf-8")
    plan = load_recipe(recipe).plan
    assert plan.variant == "mixed"
    assert {rule.layers for rule in plan.rules} <= {"^stem$", "^block1_depthwise$"}
    # what the comment says to run keeps on the test split what int8 loses
    command = next(line for line in recipe.read_text().splitlines() if line.startswith("# Run: "))
    words = command.removeprefix("# Run: edgekit ").split()
    assert words[words.index("--calibration-samples") + 1] == "20"
    made = tmp_path / "made"
    assert (
        run([*words, "--mode", "int8", "--ranges", "minmax", "--no-bench", "-q", "-o", str(made)])
        == 0
    )
    rows = json.loads((made / "report.json").read_text(encoding="utf-8"))["rows"]
    scores = {row["variant"]: row["score"]["value"] for row in rows}
    lost = scores["float32"] - scores["int8-minmax"]
    assert lost > 0.05
    assert scores["float32"] - scores["mixed"] < 0.1 * lost


def test_without_data_the_error_says_what_to_give(capfd: pytest.CaptureFixture[str]) -> None:
    code = run(["sensitivity", str(QUANTIZED / DATA / "float32.tflite")])

    assert code == 4
    said = capfd.readouterr().err
    assert "No data was given." in said
    assert "Give --data with a train split." in said


def test_a_test_split_alone_is_not_used(tmp_path: Path, shared_data: Path) -> None:
    x = np.zeros((8, 61, 40, 1), np.float32)
    np.savez(tmp_path / "data.npz", x_test=x, y_test=np.arange(8) % 10)

    with pytest.raises(DataError, match="measured on training samples"):
        edgekit.sensitivity(
            QUANTIZED / DATA / "float32.tflite", data=str(tmp_path / "data.npz"), mode="dynamic"
        )


def test_float32_costs_nothing_and_is_refused() -> None:
    with pytest.raises(UsageError, match="no operator costs"):
        edgekit.sensitivity(QUANTIZED / DATA / "float32.tflite", data=DATA, mode="float32")


def test_samples_without_targets_are_compared_by_their_outputs(uneven: Path) -> None:
    values = np.random.default_rng(0).standard_normal((30, 61, 40, 1)).astype(np.float32)

    found = edgekit.sensitivity(uneven, data={"x_train": values}, search=True)

    assert found.metric is None
    assert found.plan is not None
    assert {rule.layers for rule in found.plan.rules} <= {"^stem$", "^block1_depthwise$"}


def test_progress_counts_every_file(uneven: Path) -> None:
    heard: list[Progress] = []
    edgekit.sensitivity(uneven, data=DATA, calibration_samples=8, listener=heard.append)

    last = {one.stage: one for one in heard if one.total}
    assert last["measuring operators"].done == last["measuring operators"].total

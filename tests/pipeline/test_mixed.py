"""`--mode mixed`: the fewest operators in a higher precision that keep the accepted loss."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console
from uneven import QUANTIZED, rescaled

import edgekit
from edgekit.errors import ConversionError
from edgekit.evaluation.trial_runs import TrialRun, TrialRuns
from edgekit.pipeline.precision_search import Found, higher_mode, least_set
from edgekit.quantization.trials import Trials, Unit
from edgekit.recipe import default_plan
from edgekit.records import MixedPlan, Report
from edgekit.reports import print_report

DATA = "spoken-digits"


@pytest.fixture(scope="module")
def uneven(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "model.tflite"
    path.write_bytes(rescaled(DATA))
    return path


@pytest.fixture(scope="module")
def report(uneven: Path) -> Report:
    return edgekit.quantize(
        uneven,
        data=DATA,
        plans=[default_plan(mode, ranges="minmax") for mode in ("int8", "mixed")],
        output=uneven.parent / "out",
        calibration_samples=40,
        latency=False,
    )


def test_mixed_recovers_what_int8_loses(report: Report) -> None:
    scores = {row.artifact.variant: row.score.value for row in report.rows}

    lost = scores["float32"] - scores["int8-minmax"]
    assert lost > 0.05
    assert scores["float32"] - scores["mixed-minmax"] < 0.1 * lost


def test_the_report_names_the_operators_why_and_their_cost(report: Report) -> None:
    said = report.files[-1].artifact.manifest["precisions"]
    console = Console(file=io.StringIO(), width=2000)
    print_report(report, console)

    # It is a remark, no warning.
    assert not [text for text in report.warnings if text.startswith("mixed-minmax: ")]
    assert f"\n{said}\n" in console.file.getvalue()
    assert said.startswith("mixed-minmax: ")
    assert " of 10 operators are in float32: " in said
    assert "stem (CONV_2D, " in said
    assert " dB alone)" in said
    assert "conversions" in said


def test_the_manifest_holds_the_rules_that_were_found(report: Report) -> None:
    folder = report.files[0].artifact.path.parent
    described = json.loads((folder / "mixed-minmax.json").read_text(encoding="utf-8"))

    rules = described["plan"]["rules"]
    assert {rule["layers"] for rule in rules} <= {"^stem$", "^block1_depthwise$"}
    left = {one["layer"] for one in described["left_in_float"]}
    assert left == {rule["layers"].strip("^$") for rule in rules}


def test_the_file_is_made_again_from_its_manifest(report: Report) -> None:
    # without a search: the plan in the manifest is an ordinary one
    manifest = report.files[0].artifact.path.with_name("mixed-minmax.json")

    assert edgekit.rebuild(manifest, data=DATA).sha256 == report.files[-1].artifact.sha256


def test_what_int8_keeps_needs_no_operator(shared_data: Path, tmp_path: Path) -> None:
    graph = tmp_path / "model.tflite"
    shutil.copy(QUANTIZED / DATA / "float32.tflite", graph)

    found = edgekit.sensitivity(graph, data=DATA, calibration_samples=20, search=True)

    assert found.plan is not None
    assert found.plan.rules == ()
    assert any("no operator needs a higher precision" in note for note in found.notes)


def test_for_a_microcontroller_the_higher_precision_is_int16(uneven: Path) -> None:
    found = edgekit.sensitivity(
        uneven, data=DATA, calibration_samples=20, search=True, target="micro"
    )

    assert found.plan is not None
    assert {rule.mode for rule in found.plan.rules} == {"int16x8"}
    assert higher_mode(["coral", "ethos-u55-128"]) == "int16x8"
    assert higher_mode(["coral"]) == "float32"


class Known:
    """Files and runs whose losses are known: those of some operators count, others are idle."""

    plan = default_plan("mixed")
    max_drop = 0.5
    metric: str | None = "accuracy"

    def __init__(self, needed: set[int], *, of: int = 40, spoils: int | None = None) -> None:
        self.needed = needed
        self.spoils = spoils
        self.units = tuple(
            Unit(operator="CONV_2D", layer=f"layer{i}", tensors=(f"t{i}",), index=i)
            for i in range(of)
        )
        self.files = 0

    def with_modes(self, units: Sequence[Unit], mode: str) -> bytes:
        assert mode == "float32"
        return bytes(unit.index for unit in units)

    def conversions(self, units: Sequence[Unit], mode: str) -> int:
        assert mode == "float32"
        return 2 * len(units)

    def run(self, contents: Sequence[Callable[[], bytes]], **_: object) -> list[TrialRun]:
        self.files += len(contents)
        sets = [set(content()) for content in contents]
        missing = [len(self.needed - units) + 9 * (self.spoils in units) for units in sets]
        return [TrialRun(sqnr_db=10.0, loss=3.0 * count) for count in missing]

    def least(self) -> Found:
        costs = {unit: TrialRun(sqnr_db=float(unit.index)) for unit in self.units}
        return least_set(cast("Trials", self), cast("TrialRuns", self), costs, "float32")


@pytest.mark.parametrize("needed", [{0}, {0, 1, 2}, {1, 5}, {3, 17}, {19}])
def test_the_least_set_is_found_in_few_files(needed: set[int]) -> None:
    known = Known(needed)

    found = known.least()

    assert {unit.index for unit in found.units} == needed
    assert found.conversions == 2 * len(needed)
    assert known.files < 60  # of 2 ** 40 sets


@pytest.mark.parametrize(("needed", "spoils"), [({0, 1}, 4), ({1, 5}, 12), ({0}, 1)])
def test_an_operator_that_spoils_the_file_hides_no_smaller_set(
    needed: set[int], spoils: int
) -> None:
    assert {unit.index for unit in Known(needed, spoils=spoils).least().units} == needed


def test_what_half_of_the_operators_do_not_keep_is_refused_with_what_they_would() -> None:
    # given three operators that are needed, and one of them beyond half
    with pytest.raises(ConversionError, match="half of the operators in float32") as refused:
        Known({0, 1, 30}).least()

    assert refused.value.found == "With 2 of them it is 3.0 times as large."
    assert "--max-drop 1.6" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        ("dynamic", "Choose float16."),
        ("float16", "Choose float32."),
        ("int4", "Choose dynamic, or float16 where that loses too much as well."),
    ],
)
def test_without_a_score_no_loss_can_be_accepted(mode: str, hint: str) -> None:
    known = Known({0, 1, 30})
    known.metric, known.plan = None, default_plan(mode)

    with pytest.raises(ConversionError, match="half of the operators") as refused:
        known.least()

    assert refused.value.hint == hint


def test_inputs_and_outputs_stay_float_unless_asked() -> None:
    plan, asked = default_plan("mixed"), default_plan("mixed", io="int8")

    assert isinstance(plan, MixedPlan)
    assert (plan.variant, plan.mode, plan.output_type) == ("mixed", "int8", "float32")
    assert (asked.variant, asked.output_type) == ("mixed-int8io", "int8")

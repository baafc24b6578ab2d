"""Ranges that edgekit chooses, from the command to the report."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from float_nets import outlier_net
from rich.console import Console

from edgekit import api
from edgekit.pipeline.rebuild import rebuild
from edgekit.quantization import Calibration
from edgekit.recipe import default_plan
from edgekit.records import Report
from edgekit.reports.chosen_ranges import choice_card, choice_line
from edgekit.reports.terminal_table import print_report
from edgekit.tflite import write

SPOILED = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with one wide channel, and samples of which one was not scaled."""
    place = tmp_path_factory.mktemp("automatic")
    (place / "wide.tflite").write_bytes(write(outlier_net()))
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (240, 8, 8, 1)).astype(np.float32)
    samples[SPOILED] *= 255
    labels = rng.integers(0, 10, 240)
    np.savez(
        place / "data.npz",
        x_train=samples[:200],
        y_train=labels[:200],
        x_test=samples[200:],
        y_test=labels[200:],
    )
    return place


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    plans = [default_plan("dynamic"), default_plan("int8"), default_plan("int8", ranges="minmax")]
    return api.quantize(
        folder / "wide.tflite",
        data=str(folder / "data.npz"),
        plans=plans,
        output=folder / "out",
        calibration_samples=199,
        latency=False,
    )


def test_the_default_is_nearer_to_float_than_the_extremes(report: Report) -> None:
    by_name = {row.artifact.variant: row for row in report.rows}
    near, far = (by_name[name].fidelity[0].sqnr_db for name in ("int8", "int8-minmax"))
    assert near is not None
    assert far is not None
    assert near > far + 6
    assert by_name["int8"].artifact.size_bytes < by_name["int8-minmax"].artifact.size_bytes


def test_the_manifest_says_what_was_tried(folder: Path, report: Report) -> None:
    told = json.loads((folder / "out" / "int8.json").read_text())
    assert told["plan"]["ranges"] == "auto"
    assert told["ranges"]["passes"] == ["fold_normalization", "equalize"]
    # One of the samples drawn was dropped, and half of the others judge.
    assert told["ranges"]["held_back"] in (99, 98)
    first, *others = told["ranges"]["trials"]
    assert (first["method"], first["passes"]) == ("minmax", [])
    assert others[-1]["sqnr_db"].keys() == first["sqnr_db"].keys()
    assert json.loads((folder / "out" / "int8-minmax.json").read_text())["ranges"] is None


def test_the_report_names_the_sample_and_the_choice(folder: Path, report: Report) -> None:
    (dropped,) = [text for text in report.warnings if "left out of calibration" in text]
    assert dropped.startswith(f"Sample {SPOILED} of the training split")
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=200))
    assert "int8: normalization folded, channels equalized" in stream.getvalue()
    lines = {row.artifact.variant: choice_line(row) for row in report.rows}
    assert [name for name, line in lines.items() if line] == ["dynamic", "int8"]
    page = (folder / "out" / "report.html").read_text()
    assert "calibration samples that its ranges were not taken from" in page


def test_a_file_is_built_again_with_the_same_bytes(folder: Path, report: Report) -> None:
    rebuilt = api.rebuild(folder / "out" / "int8.json")
    made = next(row for row in report.rows if row.artifact.variant == "int8")
    assert rebuilt.sha256 == made.artifact.sha256


@pytest.mark.parametrize(
    "told", [None, 3, {}, {"trials": 4}, {"trials": [5, {"passes": "x", "sqnr_db": {"y": None}}]}]
)
def test_a_damaged_manifest_tells_nothing(report: Report, told: object) -> None:
    row = report.rows[0]
    damaged = replace(row, artifact=replace(row.artifact, manifest={"ranges": told}))
    assert choice_line(damaged) is None
    assert isinstance(choice_card(damaged), str)


@pytest.mark.parametrize("variant", ["int8", "dynamic"])
def test_a_file_is_rebuilt_without_another_search(
    folder: Path, report: Report, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a candidate was tried")

    monkeypatch.setattr(Calibration, "outputs", refused)
    again = rebuild(folder / "out" / f"{variant}.json")
    assert again.sha256 == next(
        row.artifact.sha256 for row in report.rows if row.artifact.variant == variant
    )

"""Measuring: what becomes of files on a device that scores some, and fails on others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from edgekit.artifacts import open_artifact
from edgekit.cli import run
from edgekit.devices import RunSettings
from edgekit.errors import DeviceError, ModelError
from edgekit.evaluation import Evaluation, aggregate
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.pipeline.recommendation import recommend
from edgekit.pipeline.report import Outcome, build_report
from edgekit.pipeline.request import Request
from edgekit.records import Batch, Dataset, Inspection, Row, Samples, TargetFit, Timing

TARGETS = np.ones(1000, int)
RIGHT = {"float32": 1000, "same": 1000, "worse": 980}


def evaluation_of(right: int, metric: str | None = None) -> Evaluation:
    outputs = np.eye(2)[(np.arange(1000) < right).astype(int)]
    columns = CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=TARGETS))
    return aggregate(columns, CLASSIFICATION, metric=metric)


class Board:
    """A device that knows how many samples each file gets right, and what fails on it."""

    name = "board"
    place = "board: a made-up one"

    def __init__(self, failures: Mapping[tuple[str, str], Exception] | None = None) -> None:
        self.failures = failures or {}
        self.asked: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def describe(self) -> Mapping[str, str]:
        return {"device": "a made-up one"}

    def evaluate(self, path, *_: object, metric=None, **__: object) -> Evaluation:
        self._called("evaluate", path)
        return evaluation_of(RIGHT[path.stem], metric)

    def bench(self, path: Path, settings: RunSettings) -> Timing:
        self._called("bench", path)
        return Timing(
            values_ns=(1, 2, 3),
            warmup_ns=(),
            threads=settings.threads or 1,
            device=self.place,
            runtime="none",
            delegate=None,
            peak_rss_bytes=1,
            warning="The board is hot." if path.stem == "worse" else None,
        )

    def _called(self, what: str, path: Path) -> None:
        self.asked.append((what, path.stem))
        if error := self.failures.get((what, path.stem)):
            raise error


@pytest.fixture
def subjects(golden, tmp_path) -> list[Subject]:
    samples = Samples(split="test", n=1000, sha256="", read=lambda _: Batch(inputs={}))
    dataset = Dataset(name="given", task="classification", train=None, calibrate=None, test=samples)
    made = []
    for name in RIGHT:
        path = Path(shutil.copy(golden / "runner" / "pair.tflite", tmp_path / f"{name}.tflite"))
        artifact = replace(open_artifact(path), mode=name)
        made.append(Subject(artifact=artifact, model="pair", dataset=dataset))
    return made


def test_the_first_file_is_the_baseline_of_the_others(subjects):
    settings = MeasureSettings(max_drop=0.5, run=RunSettings(threads=3))
    first, same, worse = measure(subjects, Board(), settings)
    assert (first.drop, first.agreement) == (None, None)
    assert (same.drop.value, same.drop.verdict) == (0, "kept")
    assert (worse.drop.value, worse.drop.verdict) == (pytest.approx(0.02), "lost")
    assert worse.agreement == pytest.approx(0.98)
    assert worse.timing.threads == 3
    assert worse.place == "board: a made-up one"


def test_a_baseline_from_elsewhere_is_held_against_the_first_file_too(subjects):
    rows = list(measure(subjects, Board(), MeasureSettings(), baseline=evaluation_of(990)))
    assert [row.drop.value for row in rows] == pytest.approx([-0.01, -0.01, 0.01])


def test_the_budget_decides_the_verdict(subjects):
    verdicts = [
        list(measure(subjects, Board(), MeasureSettings(max_drop=allowed)))[2].drop.verdict
        for allowed in (0.5, 2.0, 9.0)
    ]
    assert verdicts == ["lost", "unproven", "kept"]


def test_the_metric_is_the_one_that_is_named(subjects):
    rows = measure(subjects, Board(), MeasureSettings(metric="balanced_accuracy"))
    assert {row.score.metric for row in rows} == {"balanced_accuracy"}


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (MeasureSettings(latency=False), {"evaluate"}),
        (MeasureSettings(score=False), {"bench"}),
        (MeasureSettings(), {"evaluate", "bench"}),
    ],
)
def test_only_what_is_wanted_is_measured(subjects, settings, asked):
    board = Board()
    rows = list(measure(subjects, board, settings))
    assert {what for what, _ in board.asked} == asked
    assert all(row.place == board.place for row in rows)
    assert all((row.score is None) is not settings.score for row in rows)
    assert all((row.timing is None) is not settings.latency for row in rows)


def test_rows_before_a_failure_are_not_lost(subjects):
    # Given a device that goes away while it times the second file
    board = Board({("bench", "same"): DeviceError("board is gone.")})
    rows = []
    # When files are measured
    with pytest.raises(DeviceError, match="gone"):
        rows.extend(measure(subjects, board, MeasureSettings()))
    # Then the first row is there, and no third file was tried.
    assert [row.artifact.variant for row in rows] == ["float32"]
    assert ("evaluate", "worse") not in board.asked


@pytest.mark.parametrize("step", ["evaluate", "bench"])
def test_a_file_that_cannot_be_run_has_a_row_without_figures(subjects, step):
    refused = ModelError("It cannot be loaded.")
    board = Board({(step, "same"): refused})
    told = []
    rows = list(
        measure(
            subjects,
            board,
            MeasureSettings(),
            on_failure=lambda row, error: told.append((row.artifact.variant, error)),
        )
    )
    assert told == [("same", refused)]
    assert [(row.score is None, row.timing is None) for row in rows] == [
        (False, False),
        (True, True),
        (False, False),
    ]
    assert rows[1].place == "board: a made-up one"
    assert [row.failure for row in rows] == [None, "It cannot be loaded.", None]
    # Without someone to tell, it is an error.
    with pytest.raises(ModelError, match="cannot be loaded"):
        list(measure(subjects, board, MeasureSettings()))


def test_no_other_file_becomes_the_baseline_where_the_first_fails(subjects):
    # Given a float32 file that computes, and crashes where it is timed
    board = Board({("bench", "float32"): ModelError("It crashes.")})
    rows = list(measure(subjects, board, MeasureSettings(), on_failure=lambda *_: None))
    # Then the others are held against what it computed.
    assert [row.drop and row.drop.verdict for row in rows] == [None, "kept", "lost"]
    # Where it computes nothing there is nothing to hold them against.
    board = Board({("evaluate", "float32"): ModelError("It crashes.")})
    rows = list(measure(subjects, board, MeasureSettings(), on_failure=lambda *_: None))
    assert [row.drop for row in rows] == [None, None, None]


def test_what_cannot_be_run_is_not_recommended(subjects, tmp_path):
    rows = list(measure(subjects, Board(), MeasureSettings()))
    request = Request(source=tmp_path, plans=(), folder=tmp_path)
    chosen, _ = recommend(rows, request)
    best = next(row for row in chosen if row.recommended).artifact.variant
    failed = [
        replace(row, failure="too new" if row.artifact.variant == best else None) for row in rows
    ]
    others, reason = recommend(failed, request)
    assert best not in {row.artifact.variant for row in others if row.recommended}
    assert [row.artifact.variant for row in others] == list(RIGHT)
    assert f"Ship {best}" not in reason
    # Not even the float32 file, which nothing else is needed for.
    nothing, reason = recommend([replace(row, failure="too new") for row in rows], request)
    assert not any(row.recommended for row in nothing)
    assert reason.startswith("No file is recommended")


def runs_on(target: str, row: Row) -> Inspection:
    """The inspection of a file all of whose operators run on a target."""
    assert row.inspection is not None
    fits = {target: TargetFit(mapped=True, reason=None)}
    ops = tuple(replace(op, targets=fits) for op in row.inspection.ops)
    return replace(row.inspection, ops=ops, memory={})


@pytest.mark.parametrize(
    ("target", "device", "expected"),
    [("micro", None, "same"), ("pi4", None, "float32"), ("micro", "board", "float32")],
)
def test_latencies_of_this_machine_do_not_choose_for_another_processor(
    target, device, expected, subjects, tmp_path
):
    # Given a file of half the size, which runs on the target and is twice as slow here
    measured = measure(subjects, Board(), MeasureSettings(targets=(target,)))
    baseline, half, _ = (replace(row, inspection=runs_on(target, row)) for row in measured)
    small = replace(half.artifact, size_bytes=half.artifact.size_bytes // 2)
    kept = replace(half.drop, verdict="kept")
    slow = replace(half.timing, values_ns=(2, 4, 6))
    rows = [baseline, replace(half, artifact=small, drop=kept, timing=slow)]
    request = Request(source=tmp_path, plans=(), folder=tmp_path, target=target, device=device)

    chosen, reason = recommend(rows, request)

    assert [row.artifact.variant for row in chosen if row.recommended] == [expected]
    assert ("latencies of this machine are not those of micro" in reason) == (expected == "same")
    assert all(row.timing for row in chosen)


def test_a_report_says_what_was_measured_where(subjects):
    rows = list(measure(subjects, Board(), MeasureSettings()))
    board = Outcome(
        device="board", place=Board.place, rows=rows, description={"device": "a made-up one"}
    )
    alone = build_report([board], asked={}, data={}, notes=["An axis was added."])
    assert (alone.title, dict(alone.device)) == ("pair", {"device": "a made-up one"})
    assert alone.warnings == ("An axis was added.", "worse on board: The board is hot.")
    gone = Outcome(device="attic", error=DeviceError("attic cannot be reached."))
    both = build_report([board, gone], asked={}, data={})
    assert dict(both.devices) == {Board.place: {"device": "a made-up one"}}
    assert both.warnings[-1] == "attic failed: attic cannot be reached."
    here = build_report([Outcome(rows=rows)], asked={}, data={})
    assert here.warnings == ("worse: The board is hot.",)


def test_the_metric_is_judged_by_from_the_command_line_to_the_report(
    repository, shared_data, tmp_path, capsys
):
    # Given a classifier and a metric of its task
    folder = repository / "quantized" / "fashion-mnist-small"
    words = ["--data", "fashion-mnist", "--metric", "balanced_accuracy", "--json", "-q"]
    # When files are scored, and when they are made
    files = [str(folder / f"{name}.tflite") for name in ("float32", "small")]
    assert run(["eval", *files, *words, "--max-drop", "5"]) == 0
    scored = json.loads(capsys.readouterr().out)
    made = ["quantize", files[0], *words, "--mode", "dynamic", "--no-bench"]
    assert run([*made, "-o", str(tmp_path / "out")]) == 0
    # Then scores, drops and the reason are of that metric, and the budget is in its unit.
    built = json.loads(capsys.readouterr().out)
    for report in (scored, built):
        assert {row["score"]["metric"] for row in report["rows"]} == {"balanced_accuracy"}
        assert report["rows"][1]["verdict"] in {"kept", "unproven"}
    assert scored["asked"]["accepted loss"] == "5 points"
    assert "alanced accuracy" in built["reason"]


def test_a_metric_of_another_task_is_refused_before_anything_is_made(
    repository, shared_data, tmp_path, capsys
):
    source = repository / "quantized" / "turbofan" / "float32.tflite"
    words = ["--data", "turbofan", "--metric", "accuracy", "--mode", "dynamic"]
    assert run(["quantize", str(source), *words, "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "no metric 'accuracy' of a regression" in said
    assert "quantizing" not in said
    assert not (tmp_path / "out").exists()


def test_test_samples_that_were_trained_on_are_a_warning(repository, tmp_path, capsys):
    # Given data whose test samples are all in train
    random = np.random.default_rng(0)
    x = random.random((40, 28, 28, 1), np.float32)
    y = np.arange(40) % 10
    data = tmp_path / "d.npz"
    np.savez(data, x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    file = str(repository / "quantized" / "fashion-mnist-small" / "float32.tflite")
    words = ["--data", str(data), "--json", "-q"]
    # When a file is scored on it, and when files are made of it
    assert run(["eval", file, *words]) == 0
    scored = json.loads(capsys.readouterr().out)
    made = [*words, "--mode", "dynamic", "--no-bench", "-o", str(tmp_path / "out")]
    assert run(["quantize", file, *made]) == 0
    built = json.loads(capsys.readouterr().out)
    # Then it is done, and said.
    for report in (scored, built):
        assert any("30 of 30 test samples" in warning for warning in report["warnings"])

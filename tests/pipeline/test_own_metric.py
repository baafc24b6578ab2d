"""Metrics of the user's own, and several metrics, from the command line and from Python."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import fbeta_score

import edgekit
from edgekit.cli import run
from edgekit.errors import DataError, UsageError
from edgekit.evaluation.metrics import own
from edgekit.reports import render
from edgekit.schema import report_from_json

CODE = '''
import numpy as np
from sklearn.metrics import fbeta_score

def f2(outputs, targets):
    """Misses count twice."""
    import half_of_mine
    return fbeta_score(targets, outputs[:, 0] > half_of_mine.HALF, beta=2, zero_division=0)

def cost(outputs, targets):
    return float(np.mean(np.abs(outputs[:, 0] - targets)))

cost.higher_is_better = False
cost.unit = "fraction"

def share(outputs, targets):
    return np.mean((outputs[:, 0] > 0.5) == targets[:, 0, 0, 0].astype(bool))

def needs_both(outputs, targets):
    if len(np.unique(targets)) < 2:
        raise ValueError("one class only")
    return np.float32(outputs[targets == 1].mean())

def broken(outputs, targets):
    return outputs["x"]

def lonely(outputs):
    return 0.5

elsewhere = np.dot

def text(outputs, targets):
    return "0.5"

def nothing(outputs, targets):
    return np.nan

def changes(outputs, targets):
    outputs += 1
    return 0

def accuracy(outputs, targets):
    return float(np.mean((outputs[:, 0] > 0.5) == targets))

def rows(outputs, targets):
    return outputs[:, 0]

def odd_unit(outputs, targets):
    return 0.0

odd_unit.unit = "litres"
value = 3
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with metrics and data: eights, and the rest."""
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "half_of_mine.py").write_text("HALF = 0.5\n")
    monkeypatch.chdir(tmp_path)
    pixels, shown = load_digits(return_X_y=True)
    eights = (shown[1200:] == 8).astype(np.int64)
    np.savez("eights.npz", x_test=(pixels[1200:] / 16).astype(np.float32), y_test=eights)
    np.savez(
        "cubes.npz",
        x_test=(pixels[1200:] / 16).astype(np.float32),
        y_test=np.tile(eights[:, None, None, None] * 0.5, (1, 2, 3, 4)),
    )
    return tmp_path


@pytest.fixture
def model(golden):
    return golden / "evaluate" / "is_eight_sigmoid.tflite"


@pytest.fixture(autouse=True)
def time_enough(monkeypatch):
    """Resamples are drawn however slow the machine is: a fifth of them, which tells the same."""
    monkeypatch.setattr(own, "SECONDS", 1e9)
    monkeypatch.setattr(own, "RESAMPLES", own.FEWEST)


def evaluated(capsys, *words):
    assert run(["eval", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys, code, *words):
    assert run(["eval", *map(str, words)]) == code
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(said) <= 3
    return said


def test_a_function_scores_all_outputs_and_its_interval_is_a_bootstrap(here, model, capsys):
    # Given one file twice
    document = evaluated(capsys, model, model, "--data", "eights.npz", "--metric", "mine.py:f2")
    # When both are judged by F2
    first, second = document["rows"]
    score = first["score"]
    # Then it is the library's, and the task's own metrics come along
    assert score["metric"] == "f2"
    assert score["metric_facts"]["meaning"] == "Misses count twice."
    assert score["ci95"][0] < score["value"] < score["ci95"][1]
    assert "roc_auc" in score["extras"]
    stored = np.load("eights.npz")
    own_outputs = edgekit.evaluate(
        [model], "eights.npz", metric=lambda o, t: fbeta_score(t, o[:, 0] > 0.5, beta=2)
    )
    assert own_outputs.rows[0].score.value == score["value"]
    assert own_outputs.rows[0].score.n == len(stored["y_test"])
    # Nothing differs, and 597 samples prove no loss of half a percent.
    low, high = second["drop_ci95"]
    assert second["drop"] == 0
    assert low < 0 < high < 0.01
    assert second["verdict"] == "unproven"
    assert second["drop_allowed"] == pytest.approx(0.005 * score["value"])


@pytest.mark.parametrize(("words", "higher"), [("", False), (":higher", True), (":lower", False)])
def test_the_direction_is_declared_by_the_function_or_the_user(here, model, capsys, words, higher):
    document = evaluated(capsys, model, "--data", "eights.npz", "--metric", f"mine.py:cost{words}")

    facts = document["rows"][0]["score"]["metric_facts"]
    assert facts["higher_is_better"] is higher
    assert facts["unit"] == "fraction"


def test_of_several_metrics_the_first_is_judged_and_all_are_shown(here, model, capsys):
    words = ["--metric", "f1", "--metric", "mine.py:cost", "--metric", "ece"]
    document = evaluated(capsys, model, model, "--data", "eights.npz", *words)
    score = document["rows"][0]["score"]
    assert (score["metric"], score["shown"]) == ("f1", ["cost", "ece"])
    assert list(score["shown_facts"]) == ["cost"]
    # It is read again where the function is not known, and shown in every form
    again = report_from_json(document)
    assert json.loads(render(again, "json")) == document
    markdown, page, table = (render(again, form) for form in ("md", "html", "csv"))
    for text in (markdown, page):
        assert "cost" in text.lower()
        assert "calibration error" in text.lower()
    assert f"cost {score['extras']['cost']!r}" in table
    assert run(["eval", str(model), "--data", "eights.npz", *words]) == 0
    shown = capsys.readouterr().out
    assert "cost" in shown
    assert f"{score['extras']['ece']:.4f}" in shown


def test_targets_that_fit_no_task_are_scored_by_a_metric_of_ones_own(here, model, capsys):
    # Given targets [n, 2, 3, 4]
    said = complaint(capsys, 4, model, "--data", "cubes.npz")
    assert "fit no task" in said[0]
    # When the first metric is the user's own
    document = evaluated(capsys, model, "--data", "cubes.npz", "--metric", "mine.py:share")
    # Then it is scored, and the task is none
    score = document["rows"][0]["score"]
    assert 0.8 < score["value"] <= 1
    assert score["extras"] == {}
    assert document["data"]["task"] == "none"
    assert any("fit no task" in warning for warning in document["warnings"])


def test_task_none_leaves_targets_as_they_are_and_needs_a_metric(here, model, capsys):
    document = evaluated(
        capsys, model, "--data", "eights.npz", "--task", "none", "--metric", "mine.py:cost"
    )
    assert document["data"]["task"] == "none"

    said = complaint(capsys, 4, model, "--data", "eights.npz", "--task", "none")
    assert said[-1] == "Give --metric file.py:function, or --task."


@pytest.mark.parametrize(
    ("spec", "code", "says"),
    [
        ("mine.py:broken", 4, "IndexError: only integers"),
        ("mine.py:broken", 4, '(mine.py, line 25: return outputs["x"])'),
        ("mine.py:lonely", 4, "It is lonely(outputs)."),
        ("mine.py:lonely", 4, "Define lonely(outputs, targets), which returns a number."),
        ("mine.py:elsewhere", 4, "Correct it; --debug"),
        ("mine.py:text", 4, "returned no finite number"),
        ("mine.py:nothing", 4, "It is nan."),
        ("mine.py:rows", 4, "It is ndarray."),
        ("mine.py:changes", 4, "read-only"),
        ("mine.py:absent", 4, "has no function 'absent'"),
        ("mine.py:value", 4, "has no function 'value'"),
        ("other.py:f2", 4, "other.py"),
        ("mine.py:odd_unit", 2, "its unit is 'litres'"),
        ("mine:", 2, "names no function"),
        ("mine", 2, "Unknown metric: 'mine'"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_metric_that_fails_shows_its_own_line(model, capsys, spec, code, says):
    said = complaint(capsys, code, model, "--data", "eights.npz", "--metric", spec)

    assert says in "\n".join(said)


def test_a_function_named_as_a_metric_of_edgekit_s_is_called_by_its_file(here, model, capsys):
    words = ["--metric", "mine.py:accuracy", "--metric", "accuracy"]
    score = evaluated(capsys, model, "--data", "eights.npz", *words)["rows"][0]["score"]

    assert score["metric"] == "mine.accuracy"
    assert score["value"] == score["extras"]["accuracy"]


def test_a_metric_asked_for_twice_is_refused(here, model, capsys):
    said = complaint(capsys, 2, model, "--data", "eights.npz", "--metric", "f1", "--metric", "f1")

    assert said[0] == "The metric 'f1' is asked for twice."


def test_a_slow_function_has_no_interval_and_proves_nothing(here, model, monkeypatch, capsys):
    # Given a limit that not even the fewest resamples keep
    monkeypatch.setattr(own, "SECONDS", 1e-9)
    # When
    document = evaluated(capsys, model, model, "--data", "eights.npz", "--metric", "mine.py:cost")
    first, second = document["rows"]
    # Then no interval is claimed, in no form of the report
    assert first["score"]["ci95"] == second["drop_ci95"] == [None, None]
    assert second["verdict"] == "unproven"
    again = report_from_json(document)
    assert all(map(math.isnan, again.rows[0].score.ci95))
    for form in ("md", "html"):
        # Without the chart library, in whose code there may be anything.
        shown = re.sub(r"<script.*?</script>", "", render(again, form), flags=re.DOTALL)
        assert shown.count("not measured") > 0
        assert re.findall(r"\bnan\b", shown.lower()) == []


def test_resamples_that_a_function_refuses_are_left_out(here, model):
    # Given so few eights that some resamples hold none
    stored = np.load("eights.npz")
    few = np.concatenate([np.flatnonzero(stored["y_test"] == 1)[:5], np.arange(40)])
    data = {"x_test": stored["x_test"][few], "y_test": stored["y_test"][few]}
    (row,) = edgekit.evaluate([model], data, metric="mine.py:needs_both").rows
    assert row.score.ci95[0] < row.score.value < row.score.ci95[1]
    # And where many do, there is no interval
    (row,) = edgekit.evaluate(
        [model],
        {key: values[4:40] for key, values in data.items()},
        metric=["mine.py:needs_both"],
    ).rows
    assert row.score.n == 36


def test_the_interval_of_a_function_holds_the_truth() -> None:
    # Given the mean of an exponential, whose truth is 1, and a variant that loses a tenth
    generator = np.random.default_rng(0)
    alone, paired = [], []
    for _ in range(120):
        metric = own.own_metric("mean", lambda outputs, _: float(outputs.mean()))
        first = generator.exponential(size=80)
        second = first - 0.1 + 0.2 * generator.normal(size=80)
        before, after = (own.with_outputs({}, values, np.zeros(80)) for values in (first, second))
        low, high = metric.interval(before)
        alone.append(low <= 1 <= high)
        low, high = metric.paired_interval(before, after)
        paired.append(low <= 0.1 <= high)

    # A binomial of 120 draws at 0.95 is above 0.88 in 99.8 of 100 cases.
    assert np.mean(alone) >= 0.88
    assert np.mean(paired) >= 0.88


def test_python_takes_functions_names_and_both(here, model):
    def cost(outputs, targets):
        return float(np.abs(outputs[:, 0] - targets).mean())

    cost.higher_is_better = False

    report = edgekit.evaluate([model], "eights.npz", metric=[cost, "recall"])

    assert report.rows[0].score.shown == ("recall",)
    with pytest.raises(UsageError, match="not int"):
        edgekit.evaluate([model], "eights.npz", metric=3)
    with pytest.raises(DataError, match="failed"):
        edgekit.evaluate([model], "eights.npz", metric=lambda outputs, _: outputs["x"])

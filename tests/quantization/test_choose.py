"""Ranges and passes chosen by what comes out, and the samples that judge them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from float_nets import RELU, Net, noise, outlier_net, samples_with

from edgekit.data import bind, open_data
from edgekit.errors import ConversionError
from edgekit.quantization import (
    Calibration,
    QuantizedModel,
    make,
    observe,
    out_of_line,
    read_float_graph,
    recorded_choice,
)
from edgekit.quantization import choose as choosing
from edgekit.quantization.calibration import FEWEST_TO_JUDGE, HELD_BACK, widening
from edgekit.quantization.float_graph import FloatGraph
from edgekit.quantization.judgement import ENOUGH_DB, Trial
from edgekit.records import Plan, Samples
from edgekit.tflite import signature, write

INT8 = Plan(variant="int8", mode="int8", ranges="auto", input_type="int8", output_type="int8")
PUBLISHED = Path(__file__).parents[2] / "quantized"
BOTH = ["fold_normalization", "equalize"]


def made(plan: Plan, graph: FloatGraph, samples: Samples) -> QuantizedModel:
    calibration = Calibration(samples)
    return make(plan, graph, observe=calibration.observe, calibration=calibration)


@pytest.fixture(scope="module")
def wide() -> FloatGraph:
    """A network with one wide channel after a ReLU."""
    model = outlier_net()
    return FloatGraph(write(model), model)


@pytest.fixture(scope="module")
def healthy() -> FloatGraph:
    net = Net(1, 8, 8, 1)
    model = net.done(net.dense(net.flat(net.conv("x", 6, act=RELU)), 4))
    return FloatGraph(write(model), model)


@pytest.mark.parametrize("mode", ["dynamic", "int8", "int16x8", "int4"])
def test_a_wide_channel_is_equalized_in_every_mode(wide: FloatGraph, mode: str) -> None:
    plan = replace(INT8, mode=mode, input_type="float32", output_type="float32")
    found = made(plan, wide, noise(60, 8, 8, 1))
    plain = make(
        replace(plan, ranges="minmax"), wide, observe=Calibration(noise(60, 8, 8, 1)).observe
    )
    assert found.choice is not None
    first, *_, last = found.choice.trials
    assert list(found.choice.passes) == BOTH
    assert last.score > first.score + 3
    assert len(found.data) < len(plain.data)
    assert plain.choice is None


def test_the_samples_that_judge_are_others_than_those_that_set_ranges(wide: FloatGraph) -> None:
    samples = noise(60, 8, 8, 1)
    calibration = Calibration(samples)
    assert calibration.held is not None
    given, judged = (
        part.read(np.arange(30)).inputs["x"] for part in (calibration.fit, calibration.held)
    )
    both = np.concatenate([given, judged])
    np.testing.assert_array_equal(both, samples.read(np.arange(60)).inputs["x"])
    # The file has the ranges of all of them.
    found = make(INT8, wide, observe=calibration.observe, calibration=calibration)
    assert found.choice is not None
    assert found.choice.ranges is not None
    whole = observe(found.choice.model, samples)
    assert found.choice.ranges.n == 60
    if found.choice.ranges.method == "minmax":
        assert found.choice.ranges.low == whole.low
    assert found.choice.ranges.high["x"] == whole.high["x"]


@pytest.mark.parametrize(
    ("n", "held"),
    [(1, None), (FEWEST_TO_JUDGE - 1, None), (8, 4), (60, 30), (200, 100), (900, HELD_BACK)],
)
def test_how_many_samples_judge(n: int, held: int | None) -> None:
    part = Calibration(noise(n, 2)).held
    assert (part.n if part else None) == held


def test_few_samples_clip_nothing_and_may_equalize(wide: FloatGraph) -> None:
    choice = made(INT8, wide, noise(12, 8, 8, 1)).choice
    assert choice is not None
    assert {trial.ranges for trial in choice.trials} == {"minmax"}
    assert list(choice.passes) == BOTH


def test_too_few_samples_to_judge_are_said(wide: FloatGraph) -> None:
    choice = made(INT8, wide, noise(3, 8, 8, 1)).choice
    assert choice is not None
    assert (choice.passes, choice.trials) == ((), ())
    assert choice.described()["reason"] == "Nothing was compared: 3 samples are too few."


def test_a_published_file_is_near_enough_as_it_is(shared_data: object) -> None:
    # Given a published network and its data
    graph = read_float_graph(PUBLISHED / "spoken-digits" / "float32.tflite")
    samples = bind(open_data("spoken-digits"), *signature(graph.model)).calibrate
    assert samples is not None
    # When edgekit chooses, then a single file is tried, and it has the extremes of all samples.
    found = made(INT8, graph, samples)
    assert found.choice is not None
    (only,) = found.choice.trials
    assert only.enough
    assert only.score > ENOUGH_DB
    minmax = made(replace(INT8, ranges="minmax"), graph, samples)
    assert found.data == minmax.data


def test_one_extreme_value_does_not_set_a_range(healthy: FloatGraph) -> None:
    # Given samples of which one in line with the others reaches 30 times further inside
    net = Net(1, 8, 8, 1)
    kernel = np.zeros((4, 3, 3, 1), np.float32)
    kernel[:, 1, 1] = 1
    hidden = net.scale(net.relu(net.conv("x", 4, weights=kernel)), name="h")
    model = net.done(net.dense(net.flat(net.relu(hidden)), 4))
    values = np.random.default_rng(2).normal(0, 0.05, (80, 8, 8, 1)).astype(np.float32)
    values[:, 0, 0] = 3.0  # the input's range
    values[3] = 3.0
    graph = FloatGraph(write(model), model)
    choice = made(INT8, graph, samples_with(values)).choice
    # Then what is chosen is the best of what was tried.
    assert choice is not None
    assert choice.ranges is not None
    best = max(choice.trials, key=lambda trial: trial.score)
    tried = next(
        t for t in choice.trials if t.passes == choice.passes and t.ranges == choice.ranges.method
    )
    assert tried.score >= best.score - 1


def test_a_method_that_was_named_is_kept(wide: FloatGraph) -> None:
    calibration = Calibration(noise(60, 8, 8, 1))
    plan = replace(INT8, ranges="mse")
    seen = calibration.observe(wide.model, histograms=True)
    found = make(plan, wide, observe=lambda _: seen, calibration=calibration)
    assert found.choice is None


def test_plans_that_differ_in_types_alone_share_a_choice(
    wide: FloatGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Plan] = []
    search = choosing._Search

    def counted(plan: Plan, *rest: object) -> object:
        calls.append(plan)
        return search(plan, *rest)

    monkeypatch.setattr(choosing, "_Search", counted)
    calibration = Calibration(noise(16, 8, 8, 1))
    for kind in ("int8", "float32"):
        plan = replace(INT8, variant=kind, input_type=kind, output_type=kind)
        make(plan, wide, observe=calibration.observe, calibration=calibration)
    assert len(calls) == 1


def test_a_candidate_that_cannot_be_run_is_not_chosen(
    wide: FloatGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ConversionError("It cannot be run.")

    monkeypatch.setattr(Calibration, "outputs", refused)
    found = made(INT8, wide, noise(16, 8, 8, 1))
    assert found.choice is not None
    assert found.choice.passes == ()


def trial(score: float, *, second: float = 40.0, agreement: float = 0.9, size: int = 1000) -> Trial:
    return Trial(
        passes=(),
        ranges="minmax",
        sqnr_db={"first": score, "second": second},
        agreement=agreement,
        size=size,
    )


@pytest.mark.parametrize(
    ("candidate", "better"),
    [
        (trial(22), True),
        (trial(20.5), False),
        (trial(22, size=1011), False),
        (trial(22, agreement=0.87), False),
        (trial(22, agreement=0.89), True),
        (trial(30, second=28), False),
        (trial(30, second=36), True),
    ],
    ids=["gain", "chance", "larger", "disagrees", "two samples", "costs another", "still enough"],
)
def test_what_counts_as_better(candidate: Trial, better: bool) -> None:
    assert candidate.better(trial(20), 0.5, held=100) == better


def test_a_sample_far_beyond_the_others_is_found() -> None:
    values = np.random.default_rng(0).uniform(0, 1, (50, 4, 4, 1)).astype(np.float32)
    assert out_of_line(samples_with(values)) == []
    values[[7, 31]] *= 255
    assert out_of_line(samples_with(values)) == [7, 31]
    # Of few samples none is out of line, nor is a part of a sequence.
    assert out_of_line(samples_with(values).at(np.arange(9))) == []
    assert out_of_line(replace(samples_with(values), sequences=np.zeros(50, np.int64))) == []


@pytest.mark.parametrize("name", ["fashion-mnist", "spoken-digits", "turbofan"])
def test_no_published_sample_is_out_of_line(name: str, shared_data: object) -> None:
    samples = open_data(name, calibration_samples=500).calibrate
    assert samples is not None
    assert out_of_line(samples) == []


def test_how_far_more_samples_move_the_ranges(healthy: FloatGraph) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (20, 8, 8, 1)).astype(np.float32)
    first = observe(healthy.model, samples_with(values))
    same = observe(healthy.model, samples_with(values[::-1].copy()))
    assert widening(first, same) == (0.0, 0.0)
    wider = observe(healthy.model, samples_with(values * 2))
    median, most = widening(first, wider)
    assert 0.5 < median <= most


@pytest.mark.parametrize("mode", ["dynamic", "int8"])
def test_a_recorded_choice_is_repeated_without_a_search(
    wide: FloatGraph, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given what a manifest tells of a choice
    plan = replace(INT8, mode=mode, input_type="float32", output_type="float32")
    samples = noise(60, 8, 8, 1)
    found = made(plan, wide, samples)
    assert found.choice is not None
    told = json.loads(json.dumps(found.choice.described()))
    recorded = recorded_choice(told)
    # When the file is made again where nothing can be tried
    monkeypatch.setattr(Calibration, "outputs", None)
    calibration = Calibration(samples, recorded=recorded)
    again = make(plan, wide, observe=calibration.observe, calibration=calibration)
    # Then it is the same.
    assert again.data == found.data
    assert again.choice is not None
    assert again.choice.trials == ()


def test_every_method_and_form_is_repeated(wide: FloatGraph) -> None:
    samples = noise(60, 8, 8, 1)
    files = []
    for by in ("activations", "weights"):
        for method in ("minmax", "mse"):
            told = {"method": method, "passes": BOTH, "equalized_by": by}
            calibration = Calibration(samples, recorded=recorded_choice(told))
            file = make(INT8, wide, observe=calibration.observe, calibration=calibration)
            assert file.choice is not None
            assert file.choice.ranges is not None
            described = file.choice.described()
            assert {name: described[name] for name in told} == told
            files.append(file.data)
    assert len(set(files)) == 4


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"method": "auto", "passes": []},
        {"method": ["mse"], "passes": []},
        {"method": "mse", "passes": "equalize"},
        {"method": "mse", "passes": ["drop_unused"]},
        {"method": "mse", "passes": [["equalize"]]},
        {"method": "mse", "passes": BOTH},  # a manifest that does not yet tell by what
        {"method": "mse", "passes": BOTH, "equalized_by": "luck"},
        {"method": "mse", "passes": [], "equalized_by": "weights"},
    ],
)
def test_what_does_not_tell_a_choice_is_searched_for(told: object) -> None:
    assert recorded_choice(told) is None


def test_a_choice_of_another_kind_of_mode_is_searched_for(healthy: FloatGraph) -> None:
    recorded = recorded_choice({"method": None, "passes": []})
    assert recorded is not None
    calibration = Calibration(noise(20, 8, 8, 1), recorded=recorded)
    file = make(INT8, healthy, observe=calibration.observe, calibration=calibration)
    assert file.choice is not None
    assert file.choice.trials

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.evaluation import Evaluation, agreement, budget, evaluate, paired_drop
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import CLASSIFICATION, REGRESSION
from edgekit.evaluation.tasks.regression import COLUMNS
from edgekit.records import Batch, Dataset


def classifier(right: np.ndarray, metric: str | None = None) -> Evaluation:
    """Evaluate a two-class model that is right where `right` says so, on targets all 1."""
    outputs = np.eye(2)[right.astype(int)]
    targets = np.ones(len(right), int)
    columns = CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=targets))
    return aggregate(columns, CLASSIFICATION, metric=metric)


def regressor(errors: np.ndarray, targets: np.ndarray | None = None) -> Evaluation:
    truth = np.zeros(errors.shape) if targets is None else targets
    columns = REGRESSION.per_sample(truth + errors, Batch(inputs={}, targets=truth))
    return aggregate(columns, REGRESSION)


def test_budget_is_points_of_a_share_and_percent_of_an_error() -> None:
    assert budget(classifier(np.ones(10)), 0.5) == pytest.approx(0.005)
    assert budget(classifier(np.arange(10) % 2, "balanced_accuracy"), 0.5) == pytest.approx(0.005)
    assert budget(regressor(np.full(10, 16.0)), 0.5) == pytest.approx(0.08)


def test_an_error_near_zero_leaves_room_in_proportion_to_the_targets() -> None:
    # Given targets with a standard deviation of 3, and a model that is all but perfect on them
    generator = np.random.default_rng(0)
    targets = 1000 + 3 * np.tile([-1.0, 1.0], 200)
    perfect = regressor(np.zeros(400), targets)
    quantized = regressor(generator.normal(scale=0.002, size=400), targets)

    # When it is compared with a variant whose error is a thousandth of that
    drop = paired_drop(perfect, quantized, max_drop=5)

    # Then 5 % of a tenth of the deviation may be lost, and more than that is lost
    assert drop.allowed == budget(perfect, 5) == pytest.approx(0.05 * 0.1 * 3)
    assert drop.verdict == "kept"
    worse = regressor(generator.normal(scale=0.2, size=400), targets)
    assert paired_drop(perfect, worse, max_drop=5).verdict == "lost"


def test_outputs_about_different_values_do_not_make_the_budget_larger() -> None:
    # Given two outputs, one about 0 and one about 100,000, each with a deviation of 1
    targets = np.tile([[-1.0, 99_999.0], [1.0, 100_001.0]], (50, 1))

    # Then the distance of the two outputs is no part of the spread
    assert budget(regressor(np.zeros((100, 2)), targets), 5) == pytest.approx(0.05 * 0.1)


def test_a_real_variant_keeps_its_accuracy(models: Path, fashion: Dataset) -> None:
    reference = evaluate(models / "fashion_dynamic.tflite", fashion)
    variant = evaluate(models / "fashion_int8.tflite", fashion)

    drop = paired_drop(reference, variant, max_drop=0.5)

    assert drop.verdict == "kept"
    assert drop.value == pytest.approx(reference.score.value - variant.score.value)
    # Paired, two files are told apart about four times finer than either score is known.
    width = drop.ci95[1] - drop.ci95[0]
    assert 4 * width < 2 * (reference.score.ci95[1] - reference.score.ci95[0])
    assert 0.98 < agreement(reference, variant) < 1


def test_a_real_variant_loses_in_rmse_and_a_hundred_engines_tell(
    models: Path, turbofan: Dataset
) -> None:
    reference = evaluate(models / "turbofan_float16.tflite", turbofan)
    variant = evaluate(models / "turbofan_int8.tflite", turbofan)

    drop = paired_drop(reference, variant, max_drop=50)

    assert drop.value == pytest.approx(variant.score.value - reference.score.value)
    assert drop.ci95[0] <= drop.value <= drop.ci95[1]
    assert drop.verdict == "kept"
    assert paired_drop(reference, variant, max_drop=0).verdict != "kept"
    assert agreement(reference, variant) is None


def test_a_real_autoencoder_keeps_its_area(models: Path, fours: Dataset) -> None:
    reference = evaluate(models / "autoencoder_float32.tflite", fours)
    variant = evaluate(models / "autoencoder_int8.tflite", fours)

    drop = paired_drop(reference, variant, max_drop=2)

    assert drop.value == pytest.approx(reference.score.value - variant.score.value)
    assert drop.ci95[0] <= drop.value <= drop.ci95[1]
    paired = drop.ci95[1] - drop.ci95[0]
    assert paired < (reference.score.ci95[1] - reference.score.ci95[0]) / 2


@pytest.mark.parametrize("n", [300, 10_000])
def test_identical_predictions_are_proven_as_far_as_samples_go(n: int) -> None:
    same = classifier(np.arange(n) % 10 > 0)

    drop = paired_drop(same, same, max_drop=0.5)

    assert drop.value == 0
    assert drop.ci95 == pytest.approx((-3.84 / (n + 3.84), 3.84 / (n + 3.84)), rel=1e-3)
    assert drop.verdict == ("kept" if n == 10_000 else "unproven")


def test_identical_errors_have_no_drop() -> None:
    same = regressor(np.linspace(-1, 1, 50))

    assert paired_drop(same, same, max_drop=0.5).ci95 == (0, 0)


@pytest.mark.parametrize(
    ("flipped", "max_drop", "verdict"),
    [(0, 0.5, "kept"), (40, 0.5, "unproven"), (90, 0.5, "lost"), (90, 2, "kept")],
)
def test_verdict_follows_the_interval(flipped: int, max_drop: float, verdict: str) -> None:
    n = 10_000
    right = np.arange(n) >= 800
    variant = right & ~((np.arange(n) >= 800) & (np.arange(n) < 800 + flipped))

    drop = paired_drop(classifier(right), classifier(variant), max_drop=max_drop)

    assert drop.value == pytest.approx(flipped / n)
    assert drop.verdict == verdict


def test_worse_is_positive_for_errors_too() -> None:
    errors = np.random.default_rng(0).normal(size=400)

    worse = paired_drop(regressor(errors), regressor(errors * 1.1), max_drop=1)
    better = paired_drop(regressor(errors), regressor(errors * 0.9), max_drop=1)

    assert (worse.verdict, better.verdict) == ("lost", "kept")
    assert 0 < worse.ci95[0] < worse.value < worse.ci95[1]
    assert better.ci95[1] < 0


def test_a_dead_column_is_lost_whatever_the_others_say() -> None:
    # Given three outputs of very different spread, and a variant in which the small ones are
    # constant
    generator = np.random.default_rng(0)
    targets = generator.normal(size=(600, 3)) * [1, 300, 0.01] + [0, 1000, 0]
    errors = generator.normal(size=(600, 3)) * [0.01, 60, 0.0001]
    dead = errors.copy()
    dead[:, [0, 2]] = -targets[:, [0, 2]]

    before, after = regressor(errors, targets), regressor(dead, targets)
    drop = paired_drop(before, after, max_drop=5)

    # Then the error of all together has not changed, and the verdict is that of the worst
    assert drop.ci95[1] < drop.allowed
    assert drop.verdict == "lost"
    assert [(one.label, one.verdict) for one in drop.per_column] == [
        ("0", "lost"),
        ("1", "kept"),
        ("2", "lost"),
    ]
    scores = [one.value for one in before.score.per_column]
    assert scores == pytest.approx(np.sqrt(np.mean(errors**2, axis=0)))
    assert drop.per_column[0].value == pytest.approx(np.std(targets[:, 0]) - 0.01, rel=0.05)
    # An error that is small for the spread of a column counts as a tenth of that, as ever
    spreads = np.std(targets, axis=0)
    for one, error, spread in zip(drop.per_column, scores, spreads, strict=True):
        assert one.allowed == pytest.approx(0.05 * max(error, 0.1 * spread))
        assert one.ci95[0] <= one.value <= one.ci95[1]
    assert paired_drop(before, before, max_drop=5).verdict == "kept"


@pytest.mark.parametrize(
    ("targets", "judged"),
    [
        (np.arange(20.0), 0),
        (np.arange(40.0).reshape(20, 2), 2),
        # Nothing to predict in a column whose targets are all alike
        (np.stack([np.arange(20.0), np.full(20, 3.0)], axis=1), 1),
        (np.arange(20.0 * COLUMNS).reshape(20, COLUMNS), COLUMNS),
        (np.arange(20.0 * (COLUMNS + 1)).reshape(20, COLUMNS + 1), 0),
    ],
)
def test_columns_are_judged_where_there_are_several_and_not_too_many(
    targets: np.ndarray, judged: int
) -> None:
    found = regressor(np.full(targets.shape, 0.1), targets)

    drop = paired_drop(found, found, max_drop=5)

    assert len(found.score.per_column) == len(drop.per_column) == judged
    assert drop.verdict == "kept"


def test_only_the_same_samples_compare() -> None:
    with pytest.raises(DataError, match="same samples"):
        paired_drop(classifier(np.ones(10)), classifier(np.ones(11)), max_drop=1)
    with pytest.raises(DataError, match="same samples"):
        paired_drop(regressor(np.ones(10)), regressor(np.ones(11)), max_drop=1)
    with pytest.raises(DataError, match="one metric"):
        paired_drop(classifier(np.ones(10)), regressor(np.ones(10)), max_drop=1)


def test_a_file_that_answers_elsewhere_as_here_has_lost_nothing() -> None:
    # Given 50 samples, too few to prove anything of two files
    right = np.arange(50) % 10 > 0
    here, there = classifier(right), classifier(right)

    # When it is one file, run in two places, nothing is left open
    drop = paired_drop(here, there, max_drop=0.5, same_file=True)
    assert (drop.verdict, drop.ci95) == ("kept", (0, 0))
    assert paired_drop(here, there, max_drop=0.5).verdict == "unproven"

    # Unless an answer is another.
    other = classifier(np.roll(right, 1))
    low, high = paired_drop(here, other, max_drop=0.5, same_file=True).ci95
    assert low < 0 < high

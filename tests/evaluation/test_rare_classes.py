"""Metrics for rare classes: F1, precision and average precision, and which one is the default."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from edgekit.errors import DataError, UsageError
from edgekit.evaluation import paired_drop
from edgekit.evaluation.metrics import (
    ACCURACY,
    AVERAGE_PRECISION,
    BALANCED_ACCURACY,
    F1,
    PRECISION,
)
from edgekit.evaluation.scores import Evaluation, aggregate, metric_of
from edgekit.evaluation.tasks import CLASSIFICATION, RECONSTRUCTION
from edgekit.records import Array, Batch

MACRO = {F1: sklearn_metrics.f1_score, PRECISION: sklearn_metrics.precision_score}


def told(outputs: Array, target: Array, metric: str | None = None) -> Evaluation:
    columns = CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=target))
    return aggregate(columns, CLASSIFICATION, metric=metric)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_macro_metrics_agree_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    # Also where a class is never predicted, or predicted but without samples
    target, predicted = np.array(rows).T
    columns = {"target": target, "predicted": predicted}

    for metric, of_library in MACRO.items():
        expected = of_library(
            target, predicted, labels=np.unique(target), average="macro", zero_division=0
        )
        assert metric.value(columns) == pytest.approx(expected)
        low, high = metric.interval(columns)
        assert 0 <= low <= expected + 1e-12
        assert expected - 1e-12 <= high <= 1


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=4, max_size=60).filter(
        lambda rows: 2 <= sum(flag for flag, _ in rows) <= len(rows) - 2
    )
)
def test_average_precision_agrees_with_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    # Ties are one step
    target, score = np.array(rows, np.int64).T
    columns = {"target": target, "score": score / 6}

    value = AVERAGE_PRECISION.value(columns)

    assert value == pytest.approx(sklearn_metrics.average_precision_score(target, score))
    low, high = AVERAGE_PRECISION.interval(columns)
    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1


@pytest.mark.parametrize("units", ["sigmoid", "logit", "softmax", "two logits"])
def test_two_classes_have_a_score_of_the_second(units: str) -> None:
    # Given one model whose answers are written in four ways
    generator = np.random.default_rng(0)
    target = (generator.random(300) < 0.2).astype(np.int64)
    logit = generator.normal(size=300) + 3 * target - 2
    share = 1 / (1 + np.exp(-logit))
    outputs = {
        "sigmoid": share[:, None],
        "logit": logit[:, None],
        "softmax": np.stack([1 - share, share], axis=1),
        # What both have in common says nothing of the class.
        "two logits": np.stack([7.0 + target, logit + 7.0 + target], axis=1),
    }[units]
    # When
    found = told(outputs, target).score
    # Then all of its figures are the library's
    assert found.extras["average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(target, logit)
    )
    assert found.extras["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(target, logit))
    assert found.extras["f1"] == pytest.approx(
        sklearn_metrics.f1_score(target, logit > 0, average="macro")
    )


def test_an_anomaly_detector_has_an_average_precision_too() -> None:
    flags, inputs = np.arange(40) % 4 == 0, np.linspace(-1, 2, 40)[:, None]
    columns = RECONSTRUCTION.per_sample(
        np.zeros((40, 1)), Batch(inputs={"x": inputs}, targets=flags)
    )

    found = aggregate(columns, RECONSTRUCTION).score

    assert found.metric == "roc_auc"
    assert found.extras["average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(flags, np.square(inputs[:, 0]))
    )


def test_more_than_two_classes_have_no_score_of_the_second() -> None:
    target = np.arange(60) % 3

    found = told(np.eye(3)[target], target).score

    assert {"average_precision", "roc_auc"}.isdisjoint(found.extras)
    with pytest.raises(UsageError, match="no metric 'roc_auc' of these classes"):
        told(np.eye(3)[target], target, "roc_auc")
    # Nor before the model has been run, if the targets tell
    with pytest.raises(UsageError, match="these classes"):
        metric_of(CLASSIFICATION, "average_precision", {"target": target})


def test_a_single_sample_of_a_class_allows_no_area() -> None:
    target = np.array([0, 0, 0, 1])

    with pytest.raises(DataError, match="at least two test samples of either class") as refused:
        told(np.eye(2)[target], target, "average_precision")

    assert "3 of class 0 and 1 of class 1" in str(refused.value)
    assert "roc_auc" not in told(np.eye(2)[target], target).score.extras


SIZES, RECALLS = np.array([200, 12, 40]), np.array([0.95, 0.7, 0.85])


def predictions(target: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """What a model says, and a variant that says otherwise for one sample in twenty."""
    right = generator.random(len(target)) < RECALLS[target]
    wrong = (target + 1 + (generator.random(len(target)) < 0.3)) % 3
    first = np.where(right, target, wrong)
    return first, np.where(generator.random(len(target)) < 0.05, (first + 1) % 3, first)


@pytest.mark.parametrize("metric", MACRO, ids=lambda metric: metric.name)
def test_intervals_of_macro_metrics_cover_the_truth(metric) -> None:
    # Given the truth, from four thousand times as many samples
    generator = np.random.default_rng(0)
    target = np.repeat(np.arange(3), SIZES * 4000)
    first, second = predictions(target, generator)
    value = metric.value({"target": target, "predicted": first})
    drop = value - metric.value({"target": target, "predicted": second})
    # When 200 samples of it are scored, one class with 12 samples
    target = np.repeat(np.arange(3), SIZES)
    single, paired = [], []
    for _ in range(200):
        pair = [{"target": target, "predicted": p} for p in predictions(target, generator)]
        low, high = metric.interval(pair[0])
        single.append(low <= value <= high)
        low, high = metric.paired_interval(*pair)
        paired.append(low <= drop <= high)
    # Then
    assert np.mean(single) >= 0.92
    assert np.mean(paired) >= 0.92


@pytest.mark.parametrize(("ones", "trials"), [(12, 200), (100, 60)])
def test_intervals_of_average_precision_cover_the_truth(ones: int, trials: int) -> None:
    def scores(target: Array) -> tuple[Array, Array]:
        first = generator.normal(size=len(target)) + 1.5 * target
        return first, first + 0.4 * generator.normal(size=len(target))

    generator = np.random.default_rng(0)
    target = np.repeat([1, 0], [ones * 2000, (200 - ones) * 2000])
    value, other = (AVERAGE_PRECISION.value({"target": target, "score": s}) for s in scores(target))
    target = np.repeat([1, 0], [ones, 200 - ones])
    single, paired = [], []
    for _ in range(trials):
        pair = [{"target": target, "score": score} for score in scores(target)]
        low, high = AVERAGE_PRECISION.interval(pair[0])
        single.append(low <= value <= high)
        low, high = AVERAGE_PRECISION.paired_interval(*pair)
        paired.append(low <= value - other <= high)
    # The bootstrap of a curve's area by a dozen samples falls a little short of 95 %.
    assert np.mean(single) >= 0.9
    assert np.mean(paired) >= 0.89


def test_what_no_sample_shows_is_left_open() -> None:
    # Given a perfect model, and a variant that says the same
    target = np.repeat([0, 1], [300, 8])
    same = told(np.eye(2)[target], target, "f1")

    drop = paired_drop(same, same, max_drop=0.5)

    # Then with eight samples of a class, a third of its recall may be gone
    assert (drop.value, drop.verdict) == (0, "unproven")
    assert drop.ci95[1] > 0.1
    assert same.score.ci95[0] < 0.9
    assert same.score.ci95[1] == 1


@pytest.mark.parametrize("metric", [None, "f1", "average_precision", "balanced_accuracy"])
def test_a_dead_detector_is_lost(metric: str | None) -> None:
    # Given a detector of faults, 0.4 % of the samples, and a variant that never fires again
    target = np.zeros(5000, np.int64)
    target[:20] = 1
    alive = told(np.where(target == 1, 0.9, 0.01)[:, None], target, metric)
    dead = told(np.full((5000, 1), 0.004), target, metric)

    drop = paired_drop(alive, dead, max_drop=0.5)

    # Then by every metric but accuracy it is lost, by the default too
    assert alive.score.metric == (metric or "balanced_accuracy")
    assert drop.value > 0.3
    assert drop.verdict == "lost"
    by_accuracy = (told(np.full((5000, 1), s), target, "accuracy") for s in (0.0, 0.004))
    assert paired_drop(*by_accuracy, max_drop=0.5).verdict == "kept"


@pytest.mark.parametrize(
    ("counts", "metric", "reason"),
    [
        ([950, 50], ACCURACY, ""),
        ([951, 49], BALANCED_ACCURACY, "'fault' is 4.9 % of the samples"),
        ([979, 21], BALANCED_ACCURACY, "'fault' is 2.1 % of the samples"),
        ([10, 990], BALANCED_ACCURACY, "'fine' is 1 % of the samples"),
        # No sample, no class
        ([100, 0], ACCURACY, ""),
        # One of a hundred like classes is not rare
        ([10] * 100, ACCURACY, ""),
        ([10] * 99 + [4], BALANCED_ACCURACY, "'99' is 0.4 % of the samples"),
    ],
)
def test_a_rare_class_chooses_the_default(counts: list[int], metric, reason: str) -> None:
    target = np.repeat(np.arange(len(counts)), counts)

    assert CLASSIFICATION.default_metric({"target": target}, ("fine", "fault")) == (metric, reason)
    assert metric_of(CLASSIFICATION, None, {"target": target}) is metric
    assert metric_of(CLASSIFICATION, "accuracy", {"target": target}) is ACCURACY


def test_the_confusion_matrix_counts_every_sample() -> None:
    generator = np.random.default_rng(0)
    target, predicted = generator.integers(0, 5, (2, 400))

    found = told(np.eye(5)[predicted], target).score.confusion

    assert np.array_equal(found, sklearn_metrics.confusion_matrix(target, predicted))
    assert told(np.eye(101)[predicted], target).score.confusion != ()
    assert told(np.eye(101)[[100]], np.array([100])).score.confusion == ()

"""Every metric by the same rules, and each against a library."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from edgekit.errors import UsageError
from edgekit.evaluation import metrics, paired_drop
from edgekit.evaluation.metrics import (
    ACCURACY,
    BALANCED_ACCURACY,
    ECE,
    METRICS,
    RMSE,
    ROC_AUC,
    Metric,
    metric_named,
)
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import CLASSIFICATION, REGRESSION, TASKS
from edgekit.evaluation.tasks.regression import COLUMNS
from edgekit.evaluation.trust import is_guessing
from edgekit.records import Batch


def columns(target: np.ndarray, predicted: np.ndarray, classes: int = 3) -> dict[str, np.ndarray]:
    outputs = np.eye(classes)[predicted]
    return CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=target))


def test_every_metric_belongs_to_a_task_and_names_are_unique() -> None:
    used = {metric.name for task in TASKS.values() for metric in task.metrics}

    assert used == set(METRICS)
    assert all(METRICS[name].name == name for name in METRICS)


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="Unknown metric: 'f3'") as refused:
        metric_named("f3")

    assert "balanced_accuracy" in str(refused.value)


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    target = generator.choice(3, 500, p=[0.9, 0.07, 0.03])
    predicted = np.where(generator.random(500) < 0.8, target, generator.integers(0, 3, 500))

    found = aggregate(columns(target, predicted), CLASSIFICATION, metric="balanced_accuracy")

    assert found.score.metric == "balanced_accuracy"
    assert found.score.value == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(target, predicted)
    )
    assert found.score.extras["accuracy"] == np.mean(target == predicted)
    assert 0 <= found.score.ci95[0] < found.score.value < found.score.ci95[1] <= 1


def test_a_dead_rare_class_costs_accuracy_little_and_balanced_accuracy_half() -> None:
    target = np.array([0] * 980 + [1] * 20)
    alive, dead = columns(target, target, 2), columns(target, np.zeros_like(target), 2)

    by_accuracy, balanced = (
        paired_drop(
            aggregate(alive, CLASSIFICATION, metric=metric),
            aggregate(dead, CLASSIFICATION, metric=metric),
            max_drop=5,
        )
        for metric in ("accuracy", "balanced_accuracy")
    )

    assert by_accuracy.value == pytest.approx(0.02)
    assert by_accuracy.verdict == "kept"
    assert balanced.value == pytest.approx(0.5)
    assert balanced.verdict == "lost"


def test_the_interval_of_balanced_accuracy_covers_the_truth_19_times_in_20() -> None:
    generator = np.random.default_rng(1)
    recalls, sizes = np.array([0.95, 0.6, 0.8]), np.array([200, 20, 40])
    target = np.repeat(np.arange(3), sizes)
    covered = []
    for _ in range(400):
        right = generator.random(len(target)) < recalls[target]
        predicted = np.where(right, target, (target + 1) % 3)
        low, high = BALANCED_ACCURACY.interval({"target": target, "predicted": predicted})
        covered.append(low <= recalls.mean() <= high)

    # A binomial of 400 draws at 0.95 is within 0.92 and 0.98 in 99 of 100 cases.
    assert 0.92 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_guessing_classes_is_worth_what_scikit_learn_s_dummy_scores(share: float) -> None:
    # Given 400 samples of which some are of class 1, and predictions that ignore the input
    target = (np.arange(400) < 400 * share).astype(np.int64)
    dummy = DummyClassifier(strategy="most_frequent").fit(target[:, None], target)
    predicted = dummy.predict(target[:, None])
    # When every metric of a classifier tells what guessing is worth
    guessed = columns(target, predicted, 2)
    # Then it is what the dummy scores (that of ROC AUC ranks nothing), and none is better than that
    for metric in CLASSIFICATION.metrics_of(aggregate(guessed, CLASSIFICATION).columns):
        if metric is ECE:
            continue  # the shares of the classes are well calibrated
        found = aggregate(guessed, CLASSIFICATION, metric=metric)
        assert metric.guess is not None
        assert metric.guess(found.columns) == pytest.approx(found.score.value)
        assert is_guessing(found.score)
        right = aggregate(columns(target, target, 2), CLASSIFICATION, metric=metric)
        assert not is_guessing(right.score)


@pytest.mark.parametrize("width", [1, 3, 100])
def test_guessing_quantities_is_worth_what_scikit_learn_s_dummy_scores(width: int) -> None:
    # Given targets whose columns have spreads of their own, or more columns than are kept apart
    generator = np.random.default_rng(0)
    target = 5 + generator.normal(size=(300, width)) * (1 + np.arange(width) % 3)
    if width > COLUMNS:
        dummy = np.full_like(target, target.mean())
    else:
        dummy = DummyRegressor().fit(target, target).predict(target).reshape(target.shape)
    batch = Batch(inputs={}, targets=target)
    # When
    guessed = aggregate(REGRESSION.per_sample(dummy, batch), REGRESSION)
    better = aggregate(REGRESSION.per_sample((dummy + target) / 2, batch), REGRESSION)
    # Then
    assert RMSE.guess is not None
    assert RMSE.guess(guessed.columns) == pytest.approx(guessed.score.value)
    assert is_guessing(guessed.score)
    assert not is_guessing(better.score)


def test_guessing_anomalies_is_worth_a_half_and_other_metrics_do_not_tell() -> None:
    generator = np.random.default_rng(0)
    flags = np.arange(200) % 2 == 1
    noise, told = generator.random(200), generator.random(200) + flags

    assert ROC_AUC.guess is not None
    assert ROC_AUC.guess({"target": flags}) == 0.5
    for score, better in ((noise, False), (told, True)):
        scored = {"score": score, "target": flags}
        assert (ROC_AUC.interval(scored)[0] > 0.5) is better
    assert error_rate().guess is None


def error_rate(name: str = "error_rate") -> Metric:
    """A metric that no task of edgekit knows."""
    return Metric(
        name=name,
        title="error rate",
        unit="percent",
        higher_is_better=False,
        value=lambda columns: 1 - ACCURACY.value(columns),
        interval=lambda columns: tuple(1 - end for end in reversed(ACCURACY.interval(columns))),
        paired_interval=ACCURACY.paired_interval,
    )


def test_a_metric_of_the_user_s_own_is_scored_dropped_and_found_by_name(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "_ADDED", {})
    generator = np.random.default_rng(0)
    target = generator.integers(0, 3, 300)
    right, worse = columns(target, target), columns(target, np.where(target == 2, 0, target))
    metric = error_rate()

    before, after = (aggregate(each, CLASSIFICATION, metric=metric) for each in (right, worse))
    drop = paired_drop(before, after, max_drop=1)

    assert (before.score.metric, before.score.value) == ("error_rate", 0)
    assert drop.value == pytest.approx(np.mean(target == 2))
    assert drop.verdict == "lost"
    assert after.score.extras["accuracy"] == pytest.approx(1 - after.score.value)
    assert metric_named("error_rate") is metric


def test_a_metric_of_the_user_s_own_takes_no_name_of_edgekit_s() -> None:
    target = np.array([0, 1, 2])

    with pytest.raises(UsageError, match="a metric named 'accuracy' already"):
        aggregate(columns(target, target), CLASSIFICATION, metric=error_rate("accuracy"))

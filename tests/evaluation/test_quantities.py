"""MAE, R2, recall and top-5 accuracy: values of scikit-learn, intervals that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from edgekit.errors import DataError
from edgekit.evaluation import paired_drop
from edgekit.evaluation.metrics import MAE, R2, RECALL, TOP5_ACCURACY, Metric
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION
from edgekit.records import Array, Batch


def quantities(outputs: Array, target: Array) -> dict[str, Array]:
    return REGRESSION.per_sample(outputs, Batch(inputs={}, targets=target))


@pytest.mark.parametrize("width", [1, 4])
def test_quantities_have_the_values_of_scikit_learn(width: int) -> None:
    generator = np.random.default_rng(0)
    target = 1000 + generator.normal(size=(200, width)) * (1 + np.arange(width))
    outputs = target + generator.normal(size=target.shape)

    r2 = aggregate(quantities(outputs, target), REGRESSION, metric=R2).score

    assert r2.value == pytest.approx(sklearn_metrics.r2_score(target, outputs), rel=1e-9)
    assert r2.extras["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(target, outputs))
    each = sklearn_metrics.r2_score(target, outputs, multioutput="raw_values")
    assert [one.value for one in r2.per_column] == pytest.approx(each if width > 1 else [])
    assert r2.guess == 0


def test_many_values_of_a_sample_are_one_column() -> None:
    generator = np.random.default_rng(0)
    target = 5 + generator.normal(size=(50, 100))
    outputs = target + generator.normal(size=target.shape)

    r2 = aggregate(quantities(outputs, target), REGRESSION, metric=R2).score

    assert r2.value == pytest.approx(sklearn_metrics.r2_score(target.ravel(), outputs.ravel()))


def test_the_guess_of_the_mae_is_the_median() -> None:
    target = np.random.default_rng(0).exponential(size=(101, 2))

    found = aggregate(
        quantities(np.tile(np.median(target, axis=0), (101, 1)), target), REGRESSION, metric=MAE
    ).score

    assert found.guess == pytest.approx(found.value)


@pytest.mark.parametrize(("metric", "truth", "loss"), [(R2, 0.8, 0.05), (MAE, 0.3568, 0.0421)])
def test_intervals_of_quantities_hold_the_truth(metric: Metric, truth: float, loss: float) -> None:
    # Given errors of a fifth of the targets' variance, and of a quarter in the variant
    generator = np.random.default_rng(3)
    alone, paired = [], []
    for _ in range(300):
        target = generator.normal(size=(120, 1))
        error = 0.2**0.5 * generator.normal(size=target.shape)
        more = error + 0.05**0.5 * generator.normal(size=target.shape)
        before, after = (quantities(target + e, target) for e in (error, more))
        low, high = metric.interval(before)
        alone.append(low <= truth <= high)
        low, high = metric.paired_interval(before, after)
        paired.append(low <= loss <= high)

    # A binomial of 300 draws at 0.95 is within 0.915 and 0.98 in 99 of 100 cases.
    assert 0.915 <= np.mean(alone) <= 0.985
    assert 0.915 <= np.mean(paired) <= 0.985


def test_targets_that_are_all_alike_have_no_r2() -> None:
    columns = quantities(np.arange(9.0)[:, None], np.ones((9, 1)))

    with pytest.raises(DataError, match="R2 needs targets that differ"):
        aggregate(columns, REGRESSION, metric="r2")
    assert "r2" not in aggregate(columns, REGRESSION).score.extras


def test_recall_of_classes_is_balanced_accuracy_and_of_labels_a_mean_over_labels() -> None:
    generator = np.random.default_rng(0)
    target = generator.choice(4, 300, p=[0.6, 0.2, 0.15, 0.05])
    outputs = np.eye(4)[target] + generator.normal(size=(300, 4))
    flags = (generator.random((300, 4)) < [0.5, 0.2, 0.1, 0.3]).astype(int)
    scores = 2 * flags - 1 + generator.normal(size=flags.shape)

    classes = aggregate(
        CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=target)),
        CLASSIFICATION,
        metric=RECALL,
    ).score
    labels = aggregate(
        MULTI_LABEL.per_sample(scores, Batch(inputs={}, targets=flags)), MULTI_LABEL, metric=RECALL
    ).score

    predicted = outputs.argmax(axis=1)
    expected = sklearn_metrics.recall_score(target, predicted, average="macro")
    assert classes.value == classes.extras["balanced_accuracy"] == pytest.approx(expected)
    assert classes.guess == 0.25
    assert labels.value == pytest.approx(
        sklearn_metrics.recall_score(flags, scores > 0, average="macro")
    )
    assert labels.guess is None  # all labels for all samples miss nothing
    assert labels.ci95[0] < labels.value < labels.ci95[1]


def test_recall_of_labels_has_intervals_that_hold_the_truth() -> None:
    generator = np.random.default_rng(5)
    recalls, lost = np.array([0.95, 0.7, 0.8]), np.array([0.05, 0.1, 0.0])
    alone, paired = [], []
    for _ in range(200):
        flags = (generator.random((150, 3)) < 0.4).astype(int)
        draw = generator.random(flags.shape)
        before, after = (
            aggregate(
                {
                    "sound": np.ones(150, bool),
                    "target": flags,
                    "score": flags * np.where(draw < share, 1.0, -1.0) - (1 - flags),
                },
                MULTI_LABEL,
            ).columns
            for share in (recalls, recalls - lost)
        )
        low, high = RECALL.interval(before)
        alone.append(low <= recalls.mean() <= high)
        low, high = RECALL.paired_interval(before, after)
        paired.append(low <= lost.mean() <= high)

    assert np.mean(alone) >= 0.91
    assert np.mean(paired) >= 0.91


def test_top_5_accuracy_agrees_with_scikit_learn_and_has_tango_s_interval() -> None:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 8, 400)
    outputs = np.eye(8)[target] + generator.normal(size=(400, 8))
    worse = outputs + generator.normal(size=outputs.shape)
    before, after = (
        aggregate(
            CLASSIFICATION.per_sample(scores, Batch(inputs={}, targets=target)),
            CLASSIFICATION,
            metric=TOP5_ACCURACY,
        )
        for scores in (outputs, worse)
    )

    drop = paired_drop(before, after, max_drop=1)

    for found, scores in ((before, outputs), (after, worse)):
        expected = sklearn_metrics.top_k_accuracy_score(target, scores, k=5)
        assert found.score.value == pytest.approx(expected)
    assert drop.ci95[0] < drop.value < drop.ci95[1]
    assert before.score.guess == pytest.approx(np.sort(np.bincount(target))[-5:].sum() / 400)

"""Any number of labels a sample: recognized, scored as libraries score, collapses named."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from edgekit.errors import DataError
from edgekit.evaluation import paired_drop
from edgekit.evaluation.metrics import AVERAGE_PRECISION, BINARY_ACCURACY, F1, RECALL
from edgekit.evaluation.scores import Evaluation, aggregate
from edgekit.evaluation.tasks import (
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    Evidence,
    Task,
    infer_task,
)
from edgekit.records import Array, Batch, TensorSpec
from edgekit_runner import CELL_LIMIT


def output(*shape: int) -> TensorSpec:
    return TensorSpec(name="out", shape=(1, *shape), dtype="float32")


def draw(generator: np.random.Generator, n: int, shares: list[float]) -> tuple[Array, Array]:
    """Targets `[n, k]`, and logits that tell them rather well; labels of a sample go together."""
    common = generator.normal(size=(n, 1))
    target = (generator.normal(size=(n, len(shares))) + common) / 2**0.5
    target = (target > np.quantile(target, 1 - np.array(shares), axis=0)[0]).astype(np.int64)
    return target, 3 * target - 1.5 + generator.normal(size=target.shape) * 1.5


def scored(target: Array, outputs: Array, metric: str | None = None) -> Evaluation:
    batch = Batch(inputs={}, targets=target)
    return aggregate(MULTI_LABEL.per_sample(outputs, batch), MULTI_LABEL, metric=metric)


@pytest.mark.parametrize(
    ("targets", "shape", "task"),
    [
        ([[0, 1, 1], [1, 0, 0]], (3,), MULTI_LABEL),
        ([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], (3,), MULTI_LABEL),
        ([[0, 1, 0], [1, 0, 0]], (3,), CLASSIFICATION),  # one-hot
        ([[0, 1, 2], [1, 0, 0]], (3,), REGRESSION),
        ([[0.1, 1, 1], [1, 0, 0]], (3,), REGRESSION),
        ([[[0], [1], [1]], [[1], [0], [0]]], (3, 1), REGRESSION),  # a sequence of flags
        ([[1], [0]], (1,), CLASSIFICATION),
    ],
)
def test_flags_of_any_number_are_labels(targets, shape: tuple[int, ...], task: Task) -> None:
    evidence = Evidence(
        targets=np.array(targets), unlabelled_train=False, inputs=(), output=output(*shape)
    )

    assert infer_task(evidence) is task


@pytest.mark.parametrize("logits", [True, False])
def test_every_figure_agrees_with_scikit_learn(logits) -> None:
    # Given three labels, one of them rare, and one that no sample has
    target, outputs = draw(np.random.default_rng(0), 400, [0.5, 0.3, 0.03])
    target = np.concatenate([target, np.zeros((400, 1), np.int64)], axis=1)
    outputs = np.concatenate([outputs, outputs[:, :1]], axis=1)
    outputs = outputs if logits else 1 / (1 + np.exp(-outputs))
    # When it is scored
    score = scored(target, outputs).score
    # Then the means are over the labels that occur
    predicted = outputs > (0 if logits else 0.5)
    there = {"labels": [0, 1, 2], "average": "macro"}
    assert score.metric == "f1"
    assert score.value == pytest.approx(sklearn_metrics.f1_score(target, predicted, **there))
    assert score.extras == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(target, predicted),
            "binary_accuracy": 1 - sklearn_metrics.hamming_loss(target, predicted),
            "precision": sklearn_metrics.precision_score(target, predicted, **there),
            "recall": sklearn_metrics.recall_score(target, predicted, **there),
            "average_precision": sklearn_metrics.average_precision_score(
                target[:, :3], outputs[:, :3], average="macro"
            ),
        }
    )
    assert [one.n for one in score.per_class] == target.sum(axis=0).tolist()
    assert [one.recall for one in score.per_class] == pytest.approx(
        sklearn_metrics.recall_score(target, predicted, average=None, zero_division=0)
    )


@pytest.mark.parametrize("metric", MULTI_LABEL.metrics, ids=lambda metric: metric.name)
def test_guessing_is_worth_the_best_constant_answer(metric) -> None:
    target, _ = draw(np.random.default_rng(1), 500, [0.6, 0.2])
    constant = [
        scored(target, np.tile(np.array(answer, float), (500, 1)), metric.name).score
        for answer in ([0, 0], [0, 1], [1, 0], [1, 1])
    ]

    best = max(score.value for score in constant)
    # All labels for all samples miss nothing, which says nothing.
    assert constant[0].guess == (None if metric is RECALL else pytest.approx(best))


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("metric", [F1, BINARY_ACCURACY, AVERAGE_PRECISION], ids=lambda m: m.name)
def test_intervals_cover_the_truth_19_times_in_20(metric, n, monkeypatch) -> None:
    # Given many small test sets of one population, and two models
    for module in ("edgekit.evaluation.intervals", "edgekit_runner"):
        monkeypatch.setattr(f"{module}.RESAMPLES", 400)
    generator = np.random.default_rng(5)
    big, outputs = draw(generator, 50_000, [0.5, 0.2, 0.1])
    worse = outputs + generator.normal(size=outputs.shape)
    sides = [
        MULTI_LABEL.complete(MULTI_LABEL.per_sample(side, Batch(inputs={}, targets=big)))
        for side in (outputs, worse)
    ]
    truths = [metric.value(side) for side in sides]
    inside = []
    for _ in range(150):
        # When the score and the drop of each are measured
        rows = generator.integers(0, len(big), n)
        columns = [{name: values[rows] for name, values in side.items()} for side in sides]
        low, high = metric.interval(columns[0])
        below, above = metric.paired_interval(*columns)
        inside.append((low <= truths[0] <= high, below <= truths[0] - truths[1] <= above))
    # Then about 95 % of their intervals hold the truth
    assert np.all(np.mean(inside, axis=0) >= 0.9)


@pytest.mark.parametrize("metric", MULTI_LABEL.metrics, ids=lambda metric: metric.name)
def test_identical_answers_leave_room_for_what_was_not_seen(metric) -> None:
    target, outputs = draw(np.random.default_rng(2), 300, [0.5, 0.2])
    same = scored(target, outputs, metric.name)

    drop = paired_drop(same, same, max_drop=0.01)

    assert drop.value == 0
    assert drop.verdict == ("kept" if metric is AVERAGE_PRECISION else "unproven")


def test_average_precision_of_many_labels_takes_the_normal_interval() -> None:
    # Given so many samples and labels that resampling takes long
    n, k = CELL_LIMIT // 40 + 1, 10
    target, outputs = draw(np.random.default_rng(3), n, [0.3] * k)
    worse = outputs + np.random.default_rng(4).normal(size=outputs.shape)
    all_of_it, half = (
        AVERAGE_PRECISION.paired_interval(
            scored(target[rows], outputs[rows]).columns, scored(target[rows], worse[rows]).columns
        )
        for rows in (slice(None), slice(n // 2))
    )
    # Then it is as wide as that of half of them, resampled, divided by the root of 2
    width = (half[1] - half[0]) / 2**0.5
    assert all_of_it[1] - all_of_it[0] == pytest.approx(width, rel=0.15)


def test_a_label_that_is_never_found_again_is_a_collapse() -> None:
    target, outputs = draw(np.random.default_rng(6), 300, [0.5, 0.1, 0.3])
    dead = outputs.copy()
    dead[:, 1] = -5

    lost = MULTI_LABEL.collapses(
        scored(target, outputs).columns, scored(target, dead).columns, ["even", "rare", "odd"]
    )

    (one,) = lost
    assert (one.kind, one.where) == ("class", "label 'rare'")
    assert one.detail.endswith(f"became 0 % on {target[:, 1].sum()} samples")


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        (np.array([[0, 2, 1]]), "d, test: the targets are not 0 or 1 for each label."),
        (np.array([[np.nan, 1, 1]]), "d, test: the targets are not 0 or 1 for each label."),
        (np.zeros((4, 3), int), "d, test: no sample has any label."),
        (np.array([[0, 1]]), "d, test: the targets do not fit the model's output 'out'."),
    ],
)
def test_targets_that_are_no_labels_are_refused(targets, what) -> None:
    with pytest.raises(DataError) as refused:
        MULTI_LABEL.bind(targets, output(3), split="test", labels=None, place="d, test")

    assert str(refused.value).splitlines()[0] == what


def test_the_target_that_is_neither_0_nor_1_is_named() -> None:
    targets = np.array([[0, 1, 1], [1, np.nan, 0]])
    with pytest.raises(DataError) as refused:
        MULTI_LABEL.bind(targets, output(3), split="test", labels=None, place="d, test")
    assert str(refused.value).splitlines()[1] == "Sample 1 has nan for label 1."
    assert refused.value.sample == 1

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation import evaluate, predict, score
from edgekit.evaluation.tasks import CLASSIFICATION, RECONSTRUCTION, REGRESSION, task_named
from edgekit.records import Array, Batch, Dataset, Samples


def batch(targets: Array, inputs: Array | None = None) -> Batch:
    return Batch(inputs={"x": targets if inputs is None else inputs}, targets=targets)


def test_published_classifier_scores_as_published(models: Path, fashion: Dataset) -> None:
    found = evaluate(models / "fashion_int8.tflite", fashion).score

    assert found.metric == "accuracy"
    assert found.n == 10_000
    assert found.value == pytest.approx(0.9167, abs=0.001)
    assert found.ci95[0] < found.value < found.ci95[1]
    assert found.ci95[1] - found.ci95[0] == pytest.approx(2 * 1.96 * 0.00276, rel=0.02)


def test_class_table_and_top5_agree_with_scikit_learn(models: Path, fashion: Dataset) -> None:
    path, everything = models / "fashion_int8.tflite", fashion.test.read(np.arange(10_000))
    (outputs,) = predict(path, fashion.test).values()
    truth, predicted = everything.targets, outputs.argmax(axis=1)

    found = evaluate(path, replace(fashion, labels=tuple("abcdefghij"))).score

    assert [row.label for row in found.per_class] == list("abcdefghij")
    assert [row.n for row in found.per_class] == [1000] * 10
    assert [row.recall for row in found.per_class] == pytest.approx(
        metrics.recall_score(truth, predicted, average=None)
    )
    assert [row.precision for row in found.per_class] == pytest.approx(
        metrics.precision_score(truth, predicted, average=None)
    )
    # Quantized outputs tie; those with the true class's score and a lower index come before it.
    order = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    assert found.extras["top5_accuracy"] == np.mean((order == truth[:, None]).any(axis=1))


def test_turbofan_scores_as_published(models: Path, turbofan: Dataset) -> None:
    found = evaluate(models / "turbofan_float16.tflite", turbofan).score

    assert found.metric == "rmse"
    assert found.value * 125 == pytest.approx(16.11, abs=0.02)
    assert found.extras["mae"] * 125 == pytest.approx(12.27, abs=0.05)
    assert found.ci95[0] < found.value < found.ci95[1]


def test_autoencoder_tells_unseen_digits(models: Path, fours: Dataset) -> None:
    everything = fours.test.read(np.arange(fours.test.n))
    path = models / "autoencoder_float32.tflite"
    (outputs,) = predict(path, fours.test).values()
    errors = np.mean((outputs - everything.inputs["x"]) ** 2, axis=1)

    found = evaluate(path, fours).score

    assert found.metric == "roc_auc"
    assert found.value == pytest.approx(metrics.roc_auc_score(everything.targets, errors))
    assert 0.7 < found.ci95[0] < found.value < found.ci95[1] <= 1


def test_sigmoid_unit_is_split_at_a_half(models: Path) -> None:
    from sklearn.datasets import load_digits

    pixels, digit = load_digits(return_X_y=True)
    inputs, eight = (pixels[1200:] / 16).astype(np.float32), (digit[1200:] == 8).astype(int)
    samples = Samples(
        split="test",
        n=len(inputs),
        sha256="",
        read=lambda rows: Batch(inputs={"x": inputs[rows]}, targets=eight[rows]),
    )
    data = Dataset(name="d", task="classification", train=None, calibrate=None, test=samples)
    path = models / "is_eight_sigmoid.tflite"
    (outputs,) = predict(path, samples).values()

    found = evaluate(path, data).score

    assert found.value == np.mean((outputs[:, 0] > 0.5) == eight)
    assert found.value > max(np.mean(eight), 1 - np.mean(eight))
    assert len(found.per_class) == 2


def test_logit_unit_is_split_at_zero() -> None:
    targets = np.array([0, 1, 1, 0])
    logits = np.array([[-3.0], [0.2], [4.0], [0.3]])

    assert score(logits, batch(targets), task=CLASSIFICATION).value == 0.75


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=4, max_size=60).filter(
        lambda rows: 2 <= sum(flag for flag, _ in rows) <= len(rows) - 2
    )
)
def test_area_counts_ties_half(rows: list[tuple[bool, int]]) -> None:
    flags = np.array([flag for flag, _ in rows])
    inputs = np.sqrt([[error] for _, error in rows]) - 0.0

    found = score(np.zeros_like(inputs), batch(flags, inputs), task=RECONSTRUCTION)

    squared = np.square(inputs[:, 0])
    assert found.value == pytest.approx(metrics.roc_auc_score(flags, squared))
    assert 0 <= found.ci95[0] <= found.value <= found.ci95[1] <= 1


def test_targets_of_several_values_are_scored_together() -> None:
    targets = np.arange(12.0).reshape(3, 2, 2)

    found = score(targets + np.array([[3.0, 0.0], [0.0, 4.0]]), batch(targets), task=REGRESSION)

    assert found.value == pytest.approx(np.sqrt(25 / 4))
    assert found.extras["mae"] == pytest.approx(7 / 4)


def test_absent_and_never_named_classes_have_zeros() -> None:
    outputs = np.eye(4)[[0, 0, 1]]

    found = score(outputs, batch(np.array([0, 2, 1])), task=CLASSIFICATION).per_class

    assert [(row.n, row.recall, row.precision) for row in found] == [
        (1, 1.0, 0.5),
        (1, 1.0, 1.0),
        (1, 0.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "says"),
    [
        ("classification", np.zeros((3, 4)), np.array([0, 1, 4]), "4 classes"),
        ("classification", np.zeros((3, 4)), np.array([0, -1, 3]), "4 classes"),
        ("classification", np.zeros((3, 1)), np.array([0, 1, 2]), "2 classes"),
        ("classification", np.zeros((3, 4)), np.zeros((3, 4)), "do not fit"),
        ("regression", np.zeros((3, 2)), np.zeros(3), "do not fit"),
        ("reconstruction", np.zeros((3, 2)), np.zeros(3), "do not fit"),
        ("reconstruction", np.zeros((3, 1)), np.array([0, 1, 2]), "0 .normal. or 1"),
        ("reconstruction", np.zeros((3, 1)), np.array([0, 0, 1]), "at least two"),
    ],
)
def test_targets_that_do_not_fit_are_refused(
    task: str, outputs: Array, targets: Array, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        score(outputs, batch(targets, np.zeros(3)), task=task_named(task))


def test_nan_has_no_score(models: Path) -> None:
    inputs = np.ones((50, 3), np.float32)
    inputs[[7, 30]] = -1
    samples = Samples(
        split="test",
        n=50,
        sha256="",
        read=lambda rows: Batch(inputs={"a": inputs[rows]}, targets=np.zeros(len(rows), int)),
    )
    data = Dataset(name="d", task="classification", train=None, calibrate=None, test=samples)

    with pytest.raises(ModelError) as refused:
        evaluate(models / "logarithm.tflite", data)

    assert "2 of 50 test samples" in str(refused.value)
    assert "logarithm.tflite" in str(refused.value)


def test_of_several_outputs_the_first_is_scored_unless_one_is_named(models: Path) -> None:
    ones = np.ones((4, 3), np.float32)
    samples = Samples(
        split="test",
        n=4,
        sha256="",
        read=lambda rows: Batch(inputs={"a": ones[rows], "b": ones[rows]}, targets=ones[rows]),
    )
    data = Dataset(name="d", task="regression", train=None, calibrate=None, test=samples)
    path = models / "two_in_two_out.tflite"

    with pytest.raises(UsageError, match="product"):
        evaluate(path, data, output="sum")

    assert evaluate(path, data, output="total").score.value == 1
    first = next(iter(predict(path, samples)))
    unnamed, named = (evaluate(path, data, output=name).score for name in (None, first))
    assert unnamed == named
    assert evaluate(path, data, output="product").score.value == 0


def test_without_test_split_task_or_targets_there_is_no_score(models: Path, fours: Dataset) -> None:
    path, test = models / "autoencoder_float32.tflite", fours.test
    blind = replace(test, read=lambda rows: replace(test.read(rows), targets=None))

    with pytest.raises(DataError, match="no test split"):
        evaluate(path, replace(fours, test=None))
    with pytest.raises(DataError, match="no task"):
        evaluate(path, replace(fours, task=None))
    with pytest.raises(DataError, match="no targets"):
        evaluate(path, replace(fours, test=blind))

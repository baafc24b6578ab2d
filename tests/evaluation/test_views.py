"""What is drawn of a score: curves as scikit-learn's, histograms, scatters, the worst samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from edgekit.evaluation import evaluate, predict
from edgekit.evaluation.found_boxes import box_answers, box_curves, box_quality
from edgekit.evaluation.metrics import Columns
from edgekit.evaluation.scores import Evaluation, aggregate
from edgekit.evaluation.tasks import CLASSIFICATION, MULTI_LABEL, SEGMENTATION, Task
from edgekit.evaluation.views import CURVE_POINTS, POINTS_EACH, histograms, precision_recall
from edgekit.evaluation.worst_samples import worst_samples
from edgekit.records import TRUTH, Array, Batch, Dataset
from edgekit_runner import match_boxes


@pytest.mark.parametrize("decimals", [8, 1])
def test_a_curve_is_that_of_scikit_learn(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    hit = random.random(3000) < 0.05
    score = (hit * 1.5 + random.normal(size=3000)).round(decimals)

    found = precision_recall(hit, score, label="rare")

    assert found.area == pytest.approx(average_precision_score(hit, score), rel=1e-3)
    assert found.share == pytest.approx(hit.mean(), rel=1e-3)
    assert 10 < len(found.recall) <= CURVE_POINTS
    assert list(found.recall) == sorted(found.recall)
    precision, recall, _ = precision_recall_curve(hit, score)
    known = np.stack([recall, precision], axis=1)
    for point in zip(found.recall, found.precision, strict=True):
        assert np.abs(known - point).max(axis=1).min() < 1e-3


def test_histograms_of_two_files_have_the_same_bins() -> None:
    random = np.random.default_rng(0)
    anomaly = random.random(500) < 0.1
    error = 10 ** random.normal(-2, 0.5, 500) * np.where(anomaly, 4, 1)
    error[0] = 0.0  # has no logarithm

    normal, odd = histograms(error, anomaly, ("normal", "anomaly"))
    again, _ = histograms(error * 1.1, anomaly, ("normal", "anomaly"))

    assert (normal.label, odd.label) == ("normal", "anomaly")
    assert (sum(normal.counts), sum(odd.counts)) == (np.sum(~anomaly), np.sum(anomaly))
    edges = np.array(odd.edges)
    limits = np.maximum(error[anomaly], edges[0])
    assert np.array_equal(np.histogram(limits, edges)[0], odd.counts)
    assert set(normal.edges[5:-5]) <= set(again.edges)


def test_an_autoencoder_has_errors_of_both_kinds(models: Path, fours: Dataset) -> None:
    found = evaluate(models / "autoencoder_int8.tflite", fours).score.views

    normal, odd = found.errors
    middle = [np.average(one.edges[1:], weights=one.counts) for one in (normal, odd)]
    assert middle[0] < middle[1]
    assert sum(odd.counts) == fours.test.read(np.arange(fours.test.n)).targets.sum()
    (curve,) = found.curves
    assert 2 * curve.share < curve.area < 1


def test_a_regression_has_the_predictions_of_some_samples(models: Path, turbofan: Dataset) -> None:
    path = models / "turbofan_int8.tflite"
    (outputs,) = predict(path, turbofan.test).values()
    truth = turbofan.test.read(np.arange(turbofan.test.n)).targets

    (scatter,) = evaluate(path, turbofan).score.views.scatters

    assert len(scatter.true) == len(scatter.predicted) == min(POINTS_EACH, turbofan.test.n)
    assert np.allclose(scatter.true, truth.ravel(), rtol=1e-3)
    assert np.allclose(scatter.predicted, outputs.ravel(), rtol=1e-3)


def test_of_two_classes_the_rarer_one_has_a_curve() -> None:
    random = np.random.default_rng(0)
    target = (random.random(1000) < 0.95).astype(int)  # class 0 is rare
    score = np.clip(target * 0.3 + random.random(1000) * 0.7, 0, 1)
    batch = Batch(inputs={}, targets=target)

    found = aggregate(
        CLASSIFICATION.per_sample(score[:, None], batch), CLASSIFICATION, labels=("fault", "fine")
    )

    (curve,) = found.score.views.curves
    assert curve.label == "fault"
    assert curve.area == pytest.approx(average_precision_score(target == 0, -score), rel=1e-3)


def judged(task: Task, outputs: Array, targets: Array) -> Evaluation:
    return aggregate(task.per_sample(outputs, Batch(inputs={}, targets=targets)), task)


def test_what_float32_gets_right_and_the_variant_wrong_comes_first() -> None:
    target = np.zeros(8, int)
    reference = judged(CLASSIFICATION, np.eye(2)[[0, 0, 1, 0, 0, 0, 0, 0]], target)
    variant = judged(CLASSIFICATION, np.eye(2)[[0, 0, 1, 0, 0, 1, 0, 1]], target)

    assert worst_samples(reference, variant) == (5, 7, 2)
    assert worst_samples(reference, reference) == (2,)
    assert worst_samples(reference, variant, most=1) == (5,)


def test_masks_that_lost_most_come_before_those_that_are_worst() -> None:
    masks = np.zeros((4, 16, 16), int)
    masks[:, 2:14, 2:14] = 1
    found = np.stack([masks] * 2).astype(float)
    found[1, 1, 2:8] = 0  # the variant loses half of the object
    found[:, 3] = 0  # both lose all of it
    found[1, 2, 2, 2] = 0  # a pixel

    reference, variant = (judged(SEGMENTATION, one[..., None], masks) for one in found)

    assert worst_samples(reference, variant) == (1, 3, 2)


def test_the_answers_of_a_segmenter_are_its_masks() -> None:
    masks = np.zeros((1, 4, 4), int)
    masks[0, :2] = 1
    masks[0, 0, 0] = -1  # does not count
    logits = np.where(masks == 1, 3.0, -3.0)[..., None]
    lost = logits.copy()
    lost[0, 1] = -3.0
    batch = Batch(inputs={}, targets=masks)

    ((truth, first, second),) = SEGMENTATION.answers({"a": logits, "b": lost}, batch, None)

    assert (truth.name, first.text) == (TRUTH, "IoU 1.00")
    assert np.array_equal(first.mask, masks[0])
    # Of 7 pixels 3 are found; of the 12 that are told to be background, 8 are.
    assert second.text == f"IoU {(3 / 7 + 8 / 12) / 2:.2f}"
    assert second.mask[0, 0] == -1


def test_answers_of_labels_and_of_one_unit_are_in_words() -> None:
    batch = Batch(inputs={}, targets=np.array([[1, 0], [0, 0]]))
    outputs = {"f": np.array([[2.0, -1.0], [-1.0, 0.5]])}

    labels = MULTI_LABEL.answers(outputs, batch, ("cat", "dog"), 0.0)

    assert [one.text for sample in labels for one in sample] == ["cat", "cat", "no label", "dog"]
    assert [sample[1].right for sample in labels] == [True, False]
    flags = Batch(inputs={}, targets=np.array([1, 1]))
    units = CLASSIFICATION.answers({"f": np.array([[0.9], [0.2]])}, flags, ("off", "on"), 0.5)
    assert [sample[1].text for sample in units] == ["on, 90 %", "off, 80 %"]
    assert [sample[1].right for sample in units] == [True, False]
    # The same numbers as logits, which the few samples do not tell.
    units = CLASSIFICATION.answers({"f": np.array([[0.9], [0.2]])}, flags, ("off", "on"), 0.0)
    assert [sample[1].text for sample in units] == ["on, score 0.9", "on, score 0.2"]


# --- Boxes ---
CAT = [0.1, 0.1, 0.5, 0.5]
DOG = [0.5, 0.5, 0.9, 0.9]
TARGETS = np.array(
    [
        [[*CAT, 0, 0], [*DOG, 1, 0], [0.6, 0.0, 0.9, 0.2, 1, 1]],
        [[*CAT, 0, 0], [0, 0, 0, 0, -1, 0], [0, 0, 0, 0, -1, 0]],
    ],
    np.float32,
)
NOTHING = [0, 0, 0, 0, -1, -1]
FOUND = np.array(
    [
        [[*CAT, 0.9, 0], [*DOG, 0.8, 0], [0.6, 0.0, 0.9, 0.2, 0.7, 1], [*DOG, 0.2, 1]],
        [[*CAT, 0.6, 0], NOTHING, NOTHING, NOTHING],
    ],
    np.float32,
)  # the cat; a dog taken for a cat; what is ignored; the dog, too unlikely to be shown


def columns_of(found: Array, targets: Array) -> Columns:
    hit, void = match_boxes(found, targets)
    return {
        "detections": found,
        "hit": hit,
        "void": void,
        "target": targets,
    }


def test_boxes_are_shown_with_what_they_match() -> None:
    first, second = box_answers({"int8": FOUND}, TARGETS, ("cat", "dog"), 0.3)

    truth, said = first
    assert [(box.label, box.matched) for box in truth.boxes] == [("cat", True), ("dog", False)]
    assert [(box.label, box.matched) for box in said.boxes] == [
        ("cat", True), ("cat", False), ("dog", True),
    ]  # fmt: skip
    assert said.boxes[0].score == pytest.approx(0.9)
    assert said.boxes[0].corners == pytest.approx(CAT)
    assert said.text == "1 of 2 found, 1 wrong, F1 0.50"
    assert second[1].text == "1 of 1 found, 0 wrong, F1 1.00"
    assert second[1].quality == 1


def test_a_picture_is_as_good_as_the_f1_of_its_boxes() -> None:
    quality = box_quality(columns_of(FOUND, TARGETS), 0.3)

    assert quality == pytest.approx([2 * 1 / (2 + 2), 1])
    moved = FOUND.copy()
    moved[1, 0, 2] = 0.43  # overlaps by 0.825: right at 7 of the 10 thresholds
    assert box_quality(columns_of(moved, TARGETS), 0.3)[1] == pytest.approx(0.7)
    answers = box_answers({"int8": FOUND}, TARGETS, None, 0.3)
    assert [said.quality for _, said in answers] == pytest.approx(quality)


def test_a_detectors_curves_count_what_it_never_saw() -> None:
    dog, cat = box_curves(columns_of(FOUND, TARGETS), ("cat", "dog"))

    assert (dog.label, dog.area, dog.share) == ("dog", 1.0, None)
    # Hit, wrong, hit: two cats in all.
    assert cat.label == "cat"
    assert cat.area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, rel=1e-3)
    unseen = np.concatenate([TARGETS, TARGETS[1:]])
    missed = np.concatenate([FOUND, np.full_like(FOUND[1:], -1)])
    _, cat = box_curves(columns_of(missed, unseen), ("cat", "dog"))
    assert cat.recall[-1] == pytest.approx(2 / 3, rel=1e-3)

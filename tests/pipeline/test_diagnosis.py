"""What is said of a model that is no better than guessing, and whether it helps when followed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgekit.evaluation.scores import Evaluation, aggregate
from edgekit.evaluation.tasks import CLASSIFICATION, DETECTION, REGRESSION
from edgekit.evaluation.trust import difference_alert, guessing_alert, is_guessing
from edgekit.pipeline.diagnosis import explanations, label_order
from edgekit.records import Array, Batch

COLOURS = np.array([(60, 60, 200), (60, 200, 60), (200, 60, 60)], np.float32)


def judged(outputs: Array, targets: Array) -> Evaluation:
    """Score outputs `[n, k]` against classes."""
    batch = Batch(inputs={}, targets=targets)
    return aggregate(CLASSIFICATION.per_sample(outputs, batch), CLASSIFICATION)


def test_order_of_classes_is_found_from_the_confusion() -> None:
    """Given classes that the model numbers 2, 0, 1, then that order is returned."""
    # Rows are the data's classes, columns the model's.
    counts = np.array([[0, 30, 1], [1, 0, 29], [28, 1, 0]])

    order = label_order(counts)

    assert order == (2, 0, 1)
    assert sum(counts[true, model] for model, true in enumerate(order)) == 87


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([[30, 1], [2, 27]], id="the order is right"),
        pytest.param([[14, 16], [15, 15]], id="no order is right"),
        pytest.param([[3, 1], [0, 0]], id="too few samples"),
        pytest.param([[0, 60], [0, 0]], id="one class only"),
    ],
)
def test_no_order_is_named_where_none_explains_the_score(counts: list[list[int]]) -> None:
    """Given counts that another order does not explain, then none is named."""
    assert label_order(np.array(counts)) is None


def test_random_predictions_are_not_explained_by_an_order() -> None:
    """Given predictions without any relation to the targets, then no order fits."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        counts = np.zeros((5, 5), np.int64)
        np.add.at(counts, (generator.integers(0, 5, 60), generator.integers(0, 5, 60)), 1)

        assert label_order(counts) is None


def test_single_unit_that_separates_elsewhere_is_named_with_its_threshold() -> None:
    """Given one output that separates the classes at 0.9, then that value is in the sentence."""
    generator = np.random.default_rng(0)
    target = generator.integers(0, 2, 200)
    outputs = (0.88 + 0.04 * target + generator.uniform(0, 0.02, 200))[:, None]
    found = judged(outputs, target)

    (sentence,) = explanations(
        found,
        labels=None,
        batch=Batch(inputs={"x": np.zeros((200, 3))}, targets=target),
        predict=lambda _: {},
        output=None,
        preprocessing={"kind": "none"},
    )

    assert is_guessing(found.score)
    threshold = float(sentence.split("at ", 1)[1].split(",", 1)[0])
    assert np.mean((outputs[:, 0] > threshold) == target) == 1.0


def colours_model(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Tell three colours apart by their distance, in pixels from 0 to 255, in RGB."""
    means = inputs["x"].mean(axis=(1, 2))
    return {"y": -np.abs(means[:, None, :] - COLOURS).sum(axis=2)}


def pictures() -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 3, 60)
    noise = generator.normal(0, 20, (60, 8, 8, 3))
    return (COLOURS[target][:, None, None] + noise).clip(0, 255).astype(np.float32), target


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        pytest.param(lambda x: x / 255, {"kind": "image", "scale": 1 / 255}, id="0 to 1"),
        pytest.param(lambda x: x / 127.5 - 1, {"kind": "none"}, id="-1 to 1"),
    ],
)
def test_scaling_that_fits_is_named_with_a_declaration_that_restores_the_score(
    given: object, spec: dict[str, object]
) -> None:
    """Given pixels in a range that the model does not take, then the declaration mends it."""
    pixels, target = pictures()
    assert callable(given)
    inputs = given(pixels)
    found = judged(colours_model({"x": inputs})["y"], target)
    assert is_guessing(found.score)

    sentences = explanations(
        found,
        labels=None,
        batch=Batch(inputs={"x": inputs}, targets=target),
        predict=colours_model,
        output=None,
        preprocessing=spec,
    )

    (sentence,) = [one for one in sentences if "Other pixels" in one]
    scale, mean = (
        float(sentence.split(f"{name} = ", 1)[1].split(",")[0].rstrip(".}'"))
        for name in ("scale", "mean")
    )
    # What is declared replaces the scaling that was there: it applies to the raw samples.
    raw = pixels if spec["kind"] == "image" else inputs
    assert judged(colours_model({"x": raw * scale - mean})["y"], target).score.value == 1.0


def test_reversed_channels_are_named() -> None:
    """Given pixels in BGR, then the order of the channels is in the sentence."""
    pixels, target = pictures()
    found = judged(colours_model({"x": pixels[..., ::-1]})["y"], target)

    sentences = explanations(
        found,
        labels=None,
        batch=Batch(inputs={"x": pixels[..., ::-1]}, targets=target),
        predict=colours_model,
        output=None,
        preprocessing={"kind": "image", "scale": 1.0},
    )

    (sentence,) = [one for one in sentences if "BGR" in one]
    assert 'order = "bgr"' in sentence


def test_model_without_skill_gets_no_explanation() -> None:
    """Given a model that no change of the input helps, then nothing is claimed."""
    pixels, target = pictures()
    generator = np.random.default_rng(1)

    def random(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return {"y": generator.normal(size=(len(inputs["x"]), 3))}

    sentences = explanations(
        judged(random({"x": pixels})["y"], target),
        labels=None,
        batch=Batch(inputs={"x": pixels}, targets=target),
        predict=random,
        output=None,
        preprocessing={"kind": "image", "scale": 1.0},
    )

    assert sentences == []


@pytest.mark.parametrize(
    ("right", "guessing"),
    [
        pytest.param(0.9, False, id="most are right"),
        pytest.param(0.5, True, id="half are right"),
        pytest.param(0.02, True, id="next to none is right"),
    ],
)
def test_source_is_compared_with_guessing(right: float, *, guessing: bool) -> None:
    """Given two equal classes, then a share of right answers about one half is guessing."""
    target = np.tile([0, 1], 100)
    predicted = np.where(np.arange(200) < right * 200, target, 1 - target)
    found = judged(np.eye(2)[predicted], target)

    assert is_guessing(found.score) == guessing
    if guessing:
        assert "guess" in guessing_alert("The source m", found.score)


def test_regression_no_better_than_the_mean_is_guessing() -> None:
    """Given predictions of the mean, then the alert says what the mean alone reaches."""
    generator = np.random.default_rng(0)
    target = generator.normal(5, 2, (100, 1)).astype(np.float32)
    mean = np.full((100, 1), target.mean())

    def score(outputs: Array) -> Evaluation:
        columns = REGRESSION.per_sample(outputs, Batch(inputs={}, targets=target))
        return aggregate(columns, REGRESSION)

    assert is_guessing(score(mean).score)
    assert not is_guessing(score(target + 0.1).score)


def test_float_file_with_another_score_is_an_alert_and_rounding_is_not() -> None:
    """Given a float32 file, then a difference beyond the budget is told, one below is not."""
    target = np.tile([0, 1], 500)
    source = judged(np.eye(2)[target], target)

    def converted(wrong: int) -> Evaluation:
        predicted = np.where(np.arange(1000) < wrong, 1 - target, target)
        return judged(np.eye(2)[predicted], target)

    alert = difference_alert(source, converted(100).score, 0.5)

    assert alert is not None
    assert "90.0%" in alert
    assert difference_alert(source, converted(1).score, 0.5) is None
    assert difference_alert(source, converted(1).score, 0.0) is None


def test_order_of_classes_of_boxes_is_found_by_the_boxes_that_are_matched() -> None:
    """Given a detector that numbers three classes 2, 0, 1, then its order is declared."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 0.5, (40, 3, 2))
    boxes = np.concatenate([corners, corners + 0.3], axis=2)
    kinds = generator.integers(0, 3, (40, 3))
    target = np.concatenate([boxes, kinds[..., None], np.zeros((40, 3, 1))], 2).astype(np.float32)
    target[0, 2] = (0, 0, 0, 0, -1, 0)
    moved = boxes + generator.normal(0, 0.005, boxes.shape)
    scores = np.sort(generator.uniform(0.5, 1, (40, 3)), axis=1)[:, ::-1]
    named = np.array([1, 2, 0])[kinds]  # the model's class 0 is the data's class 2
    found = np.concatenate([moved, scores[..., None], named[..., None]], 2).astype(np.float32)
    batch = Batch(inputs={}, targets=target)
    judged_boxes = aggregate(DETECTION.per_sample(found, batch), DETECTION)
    given = {"predict": lambda _: {}, "output": None, "preprocessing": {"kind": "none"}}

    (sentence,) = explanations(judged_boxes, labels=("a", "b", "c"), batch=batch, **given)

    assert judged_boxes.score.value < 0.3
    assert sentence.endswith(
        "of the boxes that are found have the right class. "
        "Declare the model's order: --classes c,a,b"
    )
    right = aggregate(
        DETECTION.per_sample(np.where(np.arange(6) == 5, kinds[..., None], found), batch), DETECTION
    )
    assert explanations(right, labels=("a", "b", "c"), batch=batch, **given) == []

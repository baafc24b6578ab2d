"""Training of labels, masks and boxes, on pictures drawn here, in one process with TensorFlow."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("training_tasks")]


@pytest.fixture(scope="module")
def tasks(run_session) -> dict[str, Any]:
    return run_session("tasks")


def test_labels_are_learned_each_by_itself(tasks):
    found = tasks["labels"]
    assert found["metric"] == "binary_accuracy"
    assert found["value"] > 0.95
    assert found["test"] > 0.95


@pytest.mark.parametrize(("name", "units"), [("masks", 1), ("masks of three", 3)])
def test_masks_are_learned_and_judged_without_ignored_pixels(tasks, name, units):
    found = tasks[name]
    assert (found["metric"], found["units"]) == ("mean_iou", units)
    assert found["value"] > 0.8
    assert found["test"] > 0.8
    before, after = found["pruned"]
    # The samples held out are the same, so that the pass begins where training ended.
    assert before["mean_iou"] == pytest.approx(found["value"], abs=1e-4)
    assert set(before) == set(after) == {"loss", "mean_iou"}


def test_boxes_are_learned_and_their_head_lies_beside_the_model(tasks):
    found = tasks["boxes"]
    assert (found["metric"], found["head"]) == ("map", "boxes.head.toml")
    assert found["shapes"] == {"boxes": [60, 4], "scores": [60, 2]}
    assert found["value"] > 0.15
    assert found["found"] > 0.4
    assert found["wrong"] < 0.5


@pytest.mark.parametrize("name", ["shrink", "prune", "cluster", "qat"])
def test_passes_train_a_detector_by_the_same_loss(tasks, name):
    before, after, outputs, figures = tasks["boxes"]["passes"][name]
    assert figures == ["loss", "map"]
    assert before == pytest.approx(tasks["boxes"]["loss"], rel=1e-3)
    assert 0 < after < 3 * before
    assert outputs == ["boxes", "scores"]


def test_anchors_are_the_sizes_of_the_training_boxes(tasks):
    (small,), (large,) = tasks["boxes"]["sizes"]
    assert small == pytest.approx([12 / 64, 12 / 48], abs=0.02)
    assert large == pytest.approx([21.5 / 64, 21.5 / 48], abs=0.03)


@pytest.mark.parametrize("kind", ["classes", "unit"])
def test_the_loss_of_masks_is_cross_entropy_and_overlap(tasks, kind):
    computed, by_hand = tasks["dice"][kind]
    assert computed == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("kind", ["focal", "softmax"])
def test_the_loss_of_boxes_is_that_of_the_papers(tasks, kind):
    computed, by_hand = tasks["multibox"][kind]
    assert computed == pytest.approx(by_hand, rel=1e-4)


def test_a_picture_without_boxes_teaches_what_is_background(tasks):
    assert 0 < tasks["multibox"]["no boxes"] < float("inf")


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("a U-Net of labels", "unet does not do multi-label, but segmentation."),
        ("masks of a classifier", "For segmentation: unet."),
        ("odd sides", "multiples of 4"),
    ],
)
def test_an_architecture_does_its_own_tasks(tasks, label, says):
    error = tasks["refusals"][label]
    assert error.startswith("UsageError")
    assert says in error
    assert len(error.splitlines()) <= 3


def test_how_pixels_were_scaled_is_stored_in_the_file(tasks):
    scaled = tasks["stored"]["trained"]["preprocessing"]
    assert scaled["kind"] == "affine"
    assert scaled["scale"] == pytest.approx(1 / 255)
    assert tasks["stored"]["pruned"]["preprocessing"] == scaled
    assert "preprocessing" not in tasks["stored"]["floats"]


@pytest.mark.parametrize("name", ["prune", "cluster", "qat"])
def test_passes_train_every_output_that_has_targets(tasks, name):
    """Given a model that knows nothing of two outputs, then a pass teaches it both."""
    found = tasks["several"][name]
    assert set(found["before"]) == set(found["after"])
    assert {"loss", "kind_loss", "level_loss", "kind_accuracy"} <= set(found["after"])
    before = found["before"]
    weighted = before["kind_loss"] + 0.5 * before["level_loss"]
    assert before["loss"] == pytest.approx(weighted, rel=1e-2)
    assert found["after"]["kind_accuracy"] > 0.6 > before["kind_accuracy"]
    assert found["right"] > 0.7
    assert found["off"] < 0.2

"""A class a pixel: masks in all forms, scored as libraries score, collapses named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, jaccard_score

from edgekit.errors import DataError
from edgekit.evaluation import paired_drop
from edgekit.evaluation.metrics import MEAN_IOU, PIXEL_ACCURACY
from edgekit.evaluation.scores import Evaluation, aggregate
from edgekit.evaluation.tasks import REGRESSION, SEGMENTATION, Evidence, Task, infer_task
from edgekit.records import Array, Batch, TensorSpec


def output(*shape: int) -> TensorSpec:
    return TensorSpec(name="out", shape=(1, *shape), dtype="float32")


def bound(targets: Array, out: TensorSpec) -> tuple[Array, str | None]:
    found = SEGMENTATION.bind(targets, out, split="test", labels=None, place="d, test")
    assert found.targets is not None
    return found.targets, found.note


def scored(masks: Array, outputs: Array, metric: str | None = None) -> Evaluation:
    batch = Batch(inputs={}, targets=masks)
    return aggregate(SEGMENTATION.per_sample(outputs, batch), SEGMENTATION, metric=metric)


def scenes(n: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    """Masks `[n, 8, 8]` with a rare last class, and scores that tell most of them."""
    generator = np.random.default_rng(seed)
    shares = np.arange(classes, 0, -1.0) ** 2
    # Pictures differ in how hard they are.
    noise = generator.gamma(4, 0.4, (n, 1, 1, 1))
    masks = generator.choice(classes, (n, 8, 8), p=shares / shares.sum())
    return masks, 2 * np.eye(classes)[masks] + noise * generator.normal(size=(n, 8, 8, classes))


MASK = np.array([[[0, 1], [1, 0]], [[0, 0], [1, 1]]])


@pytest.mark.parametrize(
    ("targets", "shape", "task"),
    [
        (MASK, (2, 2, 3), SEGMENTATION),
        (MASK[..., None].astype(np.uint8), (2, 2, 3), SEGMENTATION),
        (MASK.astype(np.float32), (2, 2, 1), SEGMENTATION),
        (MASK == 1, (2, 2, 1), SEGMENTATION),
        (MASK * 255, (2, 2, 1), SEGMENTATION),
        (MASK - 1, (2, 2, 1), SEGMENTATION),
        (np.eye(3, dtype=np.float32)[MASK], (2, 2, 3), SEGMENTATION),
        (MASK, (4, 4, 3), SEGMENTATION),  # of another size: refused when it is bound
        (MASK * 9, (2, 2, 3), SEGMENTATION),  # of other classes: likewise
        (MASK * 9, (2, 2, 1), REGRESSION),  # a picture
        (MASK[..., None] * 0.5, (2, 2, 1), REGRESSION),
        (np.eye(3)[MASK] * 0.5, (2, 2, 3), REGRESSION),
        (np.ones((2, 2, 2, 3)), (2, 2, 3), REGRESSION),
    ],
)
def test_masks_in_all_forms_are_recognized(targets, shape: tuple[int, ...], task: Task) -> None:
    evidence = Evidence(
        targets=targets, unlabelled_train=False, inputs=(output(*shape),), output=output(*shape)
    )

    assert infer_task(evidence) is task


@pytest.mark.parametrize(
    ("targets", "shape", "wanted", "note"),
    [
        (MASK.astype(np.float32), (2, 2, 3), MASK, None),
        (np.eye(2)[MASK], (2, 2, 2), MASK, None),
        (MASK[..., None] == 1, (2, 2, 1), MASK, None),
        (
            (MASK * 255).astype(np.uint8),
            (2, 2, 1),
            MASK,
            "The masks hold 0 and 255; 255 was read as 1.",
        ),
        (
            (MASK * 255).astype(np.uint8),
            (2, 2, 3),
            -MASK,
            "Pixels of 255 in the masks are ignored.",
        ),
        (MASK * 3 - 2, (2, 2, 1), MASK * 2 - 1, "Pixels of -2 in the masks are ignored."),
    ],
)
def test_masks_are_bound_to_class_numbers(targets, shape, wanted, note) -> None:
    assert bound(targets, output(*shape))[1] == note
    np.testing.assert_array_equal(bound(targets, output(*shape))[0], wanted)


@pytest.mark.parametrize(
    ("targets", "what", "found"),
    [
        (
            np.zeros((3, 4, 4), int),
            "d, test: the masks are of another size than the model's.",
            "Masks are 4x4, the output is 2x2.",
        ),
        (
            MASK * 3,
            "d, test: the mask of sample 0 has class 3, the model has 3 classes.",
            "They hold 0, 3.",
        ),
        (
            MASK * 0.5,
            "d, test: the masks hold other values than whole numbers.",
            "Give the number of a class for each pixel.",
        ),
        (
            np.zeros((2, 3)),
            "d, test: the targets are no masks.",
            "They are float64 of shape [2, 3].",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(targets, what, found) -> None:
    with pytest.raises(DataError) as refused:
        bound(targets, output(2, 2, 3))

    assert str(refused.value).splitlines()[:2] == [what, found]


def test_masks_of_which_nothing_counts_are_refused() -> None:
    with pytest.raises(DataError, match="all pixels are ignored"):
        bound(MASK * 257 - 2, output(2, 2, 3))


def test_figures_agree_with_scikit_learn_and_leave_out_ignored_pixels() -> None:
    # Given four classes of which one does not occur, and pixels that do not count
    masks, scores = scenes(40, 3)
    scores = np.concatenate([scores, scores[..., :1] - 1], axis=3)
    masks[:, :2] = 255
    numbers, _ = bound(masks.astype(np.uint8), output(8, 8, 4))
    # When they are scored
    score = scored(numbers, scores).score
    # Then
    truth, told = masks[:, 2:].ravel(), scores[:, 2:].argmax(axis=3).ravel()
    assert score.metric == "mean_iou"
    assert score.value == pytest.approx(
        jaccard_score(truth, told, labels=[0, 1, 2], average="macro"), rel=1e-12
    )
    assert score.extras == {"pixel_accuracy": pytest.approx(accuracy_score(truth, told))}
    assert score.guess == pytest.approx(np.mean(truth == 0) / 3)
    assert [one.n for one in score.per_class] == [40, 40, 39, 0]


@pytest.mark.parametrize("logits", [True, False])
def test_one_unit_is_split_by_the_values_of_all_pixels(logits) -> None:
    masks = (np.random.default_rng(0).random((6, 8, 8)) < 0.3).astype(np.int64)
    scores = 2 * masks - 1 + np.random.default_rng(1).normal(size=masks.shape)
    # The first picture's logits look like probabilities
    scores[0] = np.abs(scores[0]).clip(max=1)
    scores = scores if logits else 1 / (1 + np.exp(-scores))

    found = scored(masks, scores[..., None])

    told = scores > (0 if logits else 0.5)
    assert found.score.value == pytest.approx(
        jaccard_score(masks.ravel(), told.ravel(), average="macro")
    )
    assert set(found.columns) == {"sound", "confusion"}
    assert found.columns["confusion"].shape == (6, 2, 2)


@pytest.mark.parametrize("metric", [MEAN_IOU, PIXEL_ACCURACY], ids=lambda metric: metric.name)
def test_intervals_cover_the_truth_19_times_in_20(metric, monkeypatch) -> None:
    # Given many small sets of one population of pictures, and two models
    for module in ("edgekit.evaluation.intervals", "edgekit_runner"):
        monkeypatch.setattr(f"{module}.RESAMPLES", 400)
    masks, scores = scenes(20_000, 3)
    worse = scores + np.random.default_rng(1).normal(size=scores.shape) * 0.5
    sides = [scored(masks, side).columns["confusion"] for side in (scores, worse)]
    truths = [metric.value({"confusion": side}) for side in sides]
    generator, inside = np.random.default_rng(2), []
    for _ in range(300):
        # When score and drop are measured on each
        rows = generator.integers(0, len(masks), 40)
        columns = [{"confusion": side[rows]} for side in sides]
        low, high = metric.interval(columns[0])
        below, above = metric.paired_interval(*columns)
        inside.append((low <= truths[0] <= high, below <= truths[0] - truths[1] <= above))
    # Then about 95 % of their intervals hold the truth
    assert np.all((np.mean(inside, axis=0) >= 0.91) & (np.mean(inside, axis=0) <= 0.99))


def test_a_class_that_is_told_nowhere_is_a_collapse() -> None:
    masks, scores = scenes(30, 3)
    dead = scores.copy()
    dead[..., 2] = -9
    before, after = scored(masks, scores), scored(masks, dead)

    (one,) = SEGMENTATION.collapses(before.columns, after.columns, ["sky", "road", "sign"])

    assert (one.kind, one.where) == ("class", "class 'sign'")
    assert one.detail.endswith("became 0.00 on 29 pictures")
    assert paired_drop(before, after, max_drop=0.5).verdict == "lost"
    assert SEGMENTATION.collapses(before.columns, before.columns, None) == ()


def test_a_loss_on_three_pictures_is_no_proof() -> None:
    masks, scores = scenes(30, 3)
    masks[3:][masks[3:] == 2] = 0
    dead = scores.copy()
    dead[..., 2] = -9

    assert (
        SEGMENTATION.collapses(scored(masks, scores).columns, scored(masks, dead).columns, None)
        == ()
    )


def test_a_threshold_on_real_pictures_scores_as_scikit_learn_says(shared_data: Path) -> None:
    # Given photographs of nuclei, their masks as 0 and 255, and a brightness that tells them
    folder = shared_data / "nuclei"
    names = sorted(path.name for path in (folder / "images").glob("*.png"))[-20:]
    pictures, masks = (
        np.stack([np.asarray(Image.open(folder / kind / name).convert("L")) for name in names])
        for kind in ("images", "masks")
    )
    numbers, note = bound(masks * np.uint8(255), output(256, 256, 1))
    # When it is scored
    found = scored(numbers, (pictures / 100).clip(max=1)[..., None])
    # Then
    assert note == "The masks hold 0 and 255; 255 was read as 1."
    told = pictures > 50
    assert found.score.value == pytest.approx(
        jaccard_score(masks.ravel(), told.ravel(), average="macro")
    )
    assert found.score.guess < found.score.ci95[0] < found.score.value < found.score.ci95[1] < 1

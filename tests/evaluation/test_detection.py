"""The task of boxes: what a class lost is, when two models agree, and what guessing gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekit.data import bind
from edgekit.data.formats.images import ImageStore
from edgekit.data.store import array_store, whole
from edgekit.evaluation import agreement, paired_drop
from edgekit.evaluation.metrics import MAP, MAP50
from edgekit.evaluation.scores import Evaluation, aggregate
from edgekit.evaluation.tasks import DETECTION
from edgekit.evaluation.tasks.detection import best_score
from edgekit.records import Batch, Dataset, TensorSpec
from edgekit_runner import check_head


def scenes(n: int = 60, seed: int = 0) -> tuple[Any, Any]:
    """Return boxes `[n, 4, 6]` of two classes, and detections that find nearly all of them."""
    generator = np.random.default_rng(seed)
    boxes = np.zeros((n, 4, 6), np.float32)
    boxes[..., 4] = -1
    found = np.zeros((n, 10, 6), np.float32)
    found[..., 4] = -1
    for row in range(n):
        rows = []
        for place in range(generator.integers(1, 5)):
            corner, size = generator.random(2) * 0.6, 0.1 + 0.2 * generator.random(2)
            kind = int(generator.random() < 0.3)
            boxes[row, place] = *corner, *(corner + size), kind, 0
            moved = boxes[row, place, :4] + generator.normal(0, 0.004, 4)
            rows.append((*moved, generator.uniform(0.4, 1), kind))
        if generator.random() < 0.4:
            rows.append((0.7, 0.7, 0.9, 0.9, generator.uniform(0.05, 0.5), 0))
        some = np.array(rows, np.float32)
        found[row, : len(some)] = some[np.argsort(-some[:, 4])]
    return boxes, found


def evaluated(boxes: Any, found: Any, metric: str | None = None) -> Evaluation:
    batch = Batch(inputs={}, targets=boxes)
    return aggregate(
        DETECTION.per_sample(found, batch), DETECTION, labels=("cell", "dot"), metric=metric
    )


def test_a_class_that_is_no_longer_found_has_collapsed() -> None:
    # Given: a variant that calls every dot a cell
    boxes, found = scenes()
    worse = found.copy()
    worse[worse[..., 5] == 1, 4] = 0.01
    worse[..., 5] = 0
    reference, variant = evaluated(boxes, found), evaluated(boxes, worse)
    # Then
    (lost,) = DETECTION.collapses(reference.columns, variant.columns, ("cell", "dot"))
    assert lost.where == "class 'dot'"
    assert "became 0.00" in lost.detail
    assert DETECTION.collapses(reference.columns, reference.columns, ("cell", "dot")) == ()


def test_a_loss_that_chance_explains_is_no_collapse() -> None:
    # Given: three pictures with a dot, which the variant misses
    boxes, found = scenes(20, 1)
    boxes[boxes[..., 4] == 1, 4] = 0
    found[found[..., 5] == 1, 5] = 0
    boxes[:3, 0, 4], found[:3, 0, 5] = 1, 1
    for row in range(3):
        found[row, 0, :4] = boxes[row, 0, :4]
    worse = found.copy()
    worse[worse[..., 5] == 1, 5] = 0
    reference, variant = evaluated(boxes, found), evaluated(boxes, worse)
    assert DETECTION.collapses(reference.columns, variant.columns, None) == ()


def test_rows_of_classes_count_boxes() -> None:
    boxes, found = scenes()
    score = evaluated(boxes, found).score
    cell, dot = score.per_class
    assert (cell.label, dot.label) == ("cell", "dot")
    assert cell.n == int((boxes[..., 4] == 0).sum())
    assert cell.recall > 0.9
    assert cell.precision > 0.9
    assert dot.recall > 0.9
    assert cell.area is not None
    assert dot.area is not None
    assert score.value == pytest.approx((cell.area + dot.area) / 2)
    assert score.extras["map50"] > score.value


def test_best_score_is_the_threshold_of_the_best_f1() -> None:
    boxes, found = scenes()
    columns = evaluated(boxes, found).columns
    total = int((boxes[..., 4] >= 0).sum())

    def f1(threshold: float) -> float:
        shown = found[..., 4] >= threshold
        hits = ((columns["hit"] & 1) == 1) & shown
        return float(2 * hits.sum() / (shown.sum() + total))

    best = best_score(columns)
    assert f1(best) == max(f1(value) for value in found[..., 4].ravel() if value >= 0)


def test_agreement_is_of_pictures_with_the_same_objects() -> None:
    boxes, found = scenes(40, 2)
    reference = evaluated(boxes, found)
    # When: the variant's scores differ a little, and in ten pictures it loses an object
    other = found.copy()
    other[..., 4] = np.where(found[..., 4] >= 0, found[..., 4] * 0.99, -1)
    keep = best_score(reference.columns)
    sure = other[..., 4] >= keep
    other[~sure & (found[..., 4] >= keep), 4] = keep  # those at the threshold itself
    assert agreement(reference, evaluated(boxes, other)) == 1.0
    other[:10, 0, :4] = 0.0, 0.0, 0.01, 0.01
    assert agreement(reference, evaluated(boxes, other)) == pytest.approx(0.75)


def test_drop_is_paired() -> None:
    boxes, found = scenes(150)
    worse = found.copy()
    worse[::10, 0, 5] = 7
    reference, variant = evaluated(boxes, found), evaluated(boxes, worse)
    drop = paired_drop(reference, variant, max_drop=0.5)
    assert drop.value == pytest.approx(reference.score.value - variant.score.value)
    low, high = drop.ci95
    assert 0 < low < drop.value < high
    # Of one picture that changed far less is uncertain than of the score.
    one = found.copy()
    one[0, 0, 5] = 7
    low, high = paired_drop(reference, evaluated(boxes, one), max_drop=0.5).ci95
    assert high - low < 0.7 * (reference.score.ci95[1] - reference.score.ci95[0])
    assert drop.verdict == "lost"
    assert paired_drop(reference, reference, max_drop=0.5).ci95 == (0.0, 0.0)


def test_guessing_is_a_box_that_never_moves() -> None:
    # Given: an object that is at one place in two of three pictures, and elsewhere in the third
    boxes = np.zeros((30, 1, 6), np.float32)
    boxes[:, 0, :4] = 0.2, 0.2, 0.6, 0.6
    boxes[::3, 0, :4] = 0.7, 0.7, 0.9, 0.9
    constant = np.full((30, 1, 6), -1, np.float32)
    constant[:, 0] = 0.2, 0.2, 0.6, 0.6, 0.5, 0
    # Then: guessing is what that box gets, up to the order of equal scores
    score = evaluated(boxes, constant, MAP50.name).score
    assert score.guess == pytest.approx(2 / 3 * 67 / 101)
    assert score.value == pytest.approx(score.guess, abs=0.06)
    assert evaluated(boxes, constant).score.guess == pytest.approx(score.guess)
    # And of objects that are anywhere it is next to nothing.
    anywhere, found = scenes()
    assert (evaluated(anywhere, found).score.guess or 1) < 0.05


def test_other_metrics_are_further_figures() -> None:
    boxes, found = scenes()
    score = evaluated(boxes, found, MAP50.name).score
    assert score.metric == MAP50.name
    assert score.extras[MAP.name] < score.value


# Crops: pictures of 40x20 of which the model sees the middle 20x20, as 10x10.
CROP = {"kind": "image", "height": 10, "width": 10, "channels": 3, "fit": "crop", "order": "rgb",
        "resize": "bilinear", "scale": 1.0, "mean": 0.0, "std": 1.0}  # fmt: skip
INPUTS = (TensorSpec(name="x", shape=(1, 10, 10, 3), dtype="float32"),)
OUTPUTS = (TensorSpec(name="y", shape=(1, 60, 6), dtype="float32"),)
STORED = np.array(
    [[[0.375, 0.25, 0.5, 0.75, 1], [0, 0, 0.2, 1, 0], [0, 0, 0.27, 1, 0]]] * 2, np.float32
)


def cropped(store: Any) -> Dataset:
    data = Dataset(
        name="crops",
        task=None,
        train=None,
        calibrate=None,
        test=whole("test", store, CROP),
        preprocessing=CROP,
        head=check_head({"kind": "yolo"}),
    )
    return bind(data, INPUTS, OUTPUTS)


def targets_of(dataset: Dataset) -> Any:
    assert dataset.test is not None
    return dataset.test.read(np.arange(2)).targets


def assert_cropped(dataset: Dataset) -> None:
    seen = targets_of(dataset)
    np.testing.assert_allclose(seen[0, 0], [0.25, 0.25, 0.5, 0.75, 1, 0], atol=1e-6)
    assert seen[0, 1, 4] == -1
    np.testing.assert_allclose(seen[0, 2], [0, 0, 0.04, 1, 0, 1], atol=1e-6)
    (note,) = [note for note in dataset.notes if "cropped" in note]
    assert note == (
        "2 boxes lie outside of the cropped pictures and were left out; 2 of which less than a "
        "quarter is left are ignored."
    )


def test_boxes_follow_the_crop_of_arrays() -> None:
    pictures = np.zeros((2, 20, 40, 3), np.uint8)
    dataset = cropped(array_store({"x": pictures}, STORED))
    assert_cropped(dataset)
    # Binding again does not crop again.
    np.testing.assert_array_equal(targets_of(bind(dataset, INPUTS, OUTPUTS)), targets_of(dataset))


def test_boxes_follow_the_crop_of_files(tmp_path: Any) -> None:
    # Given: a picture that lies, and one that is stored on its side and turned upright
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    turned = image.new("RGB", (20, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "b.jpg", exif=exif)
    files = (str(tmp_path / "a.png"), str(tmp_path / "b.jpg"))
    store = ImageStore(files=files, targets=STORED, sha256="", contents=(b"a", b"b"))
    upright = {**CROP, "orientation": True}
    data = Dataset(
        name="crops", task=None, train=None, calibrate=None, test=whole("test", store, upright),
        preprocessing=upright, head=check_head({"kind": "yolo"}),
    )  # fmt: skip
    assert_cropped(bind(data, INPUTS, OUTPUTS))


def test_a_declared_task_without_a_head_says_how_to_declare_one() -> None:
    from edgekit.errors import DataError

    outputs = (TensorSpec(name="y", shape=(1, 7, 6), dtype="float32"),)
    data = replace(
        cropped(array_store({"x": np.zeros((2, 20, 40, 3), np.uint8)}, STORED)), head=None
    )
    with pytest.raises(DataError, match="how the outputs tell boxes is not declared"):
        bind(data, INPUTS, outputs)

"""Mean average precision is COCO's, and its intervals hold what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_runner import (
    Rankings,
    detection_interval,
    match_boxes,
    mean_interval,
    small_product,
)

THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def scenes(
    n: int, seed: int, *, classes: int = 3, crowd: float = 0.1, sureness: float = 0.0
) -> tuple[Any, Any]:
    """Return detections and boxes of random pictures, with ties, doubles, and empty pictures."""
    generator = np.random.default_rng(seed)
    targets = np.zeros((n, 8, 6), np.float32)
    targets[..., 4] = -1
    found = np.zeros((n, 40, 6), np.float32)
    found[..., 4] = -1
    for row in range(n):
        rows = []
        for place in range(generator.integers(0, 8) * (generator.random() > 0.1)):
            corner, size = generator.random(2) * 0.7, 0.05 + 0.25 * generator.random(2)
            box = np.concatenate([corner, corner + size])
            kind = generator.integers(0, classes)
            targets[row, place] = *box, kind, generator.random() < crowd
            for _ in range(generator.integers(0, 3)):
                moved = box + generator.normal(0, 0.06, 4) * np.tile(size, 2)
                named = kind if generator.random() < 0.9 else generator.integers(0, classes)
                score = sureness + (1 - sureness) * generator.random()
                rows.append((*moved, round(float(score), 2), named))
        for _ in range(generator.integers(0, 4)):
            corner, size = generator.random(2) * 0.7, 0.05 + 0.25 * generator.random(2)
            score = round(float(generator.random() * 0.6), 2)
            rows.append((*corner, *(corner + size), score, generator.integers(0, classes)))
        some = np.array(rows, np.float32).reshape(-1, 6)
        found[row, : len(some)] = some[np.argsort(-some[:, 4], kind="stable")]
    return found, targets


def rankings(found: Any, targets: Any, thresholds: int = 10) -> Rankings:
    hit, void = match_boxes(found, targets)
    return Rankings([found[..., 4], found[..., 5], hit, void, targets], thresholds)


def coco_files(found: Any, targets: Any, folder: Path) -> tuple[str, str]:
    """Write boxes and detections as COCO has them; the pictures are of 1x1."""
    images = [
        {"id": k + 1, "width": 1, "height": 1, "file_name": f"{k}"} for k in range(len(found))
    ]
    boxes: list[dict[str, Any]] = []
    answers = []
    for row, (known, told) in enumerate(zip(targets, found, strict=True)):
        for left, top, right, bottom, kind, crowd in known[known[:, 4] >= 0].tolist():
            box = [left, top, right - left, bottom - top]
            boxes.append({
                "id": len(boxes) + 1,
                "image_id": row + 1,
                "category_id": int(kind) + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            })  # fmt: skip
        for left, top, right, bottom, score, kind in told[told[:, 4] >= 0].tolist():
            answers.append({
                "image_id": row + 1,
                "category_id": int(kind) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
            })  # fmt: skip
    kinds = sorted({box["category_id"] for box in boxes})
    whole = {"images": images, "annotations": boxes, "categories": []}
    whole["categories"] = [{"id": kind, "name": str(kind)} for kind in kinds]
    (folder / "boxes.json").write_text(json.dumps(whole))
    (folder / "answers.json").write_text(json.dumps(answers))
    return str(folder / "boxes.json"), str(folder / "answers.json")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("library", ["hotcoco", "faster_coco_eval"])
def test_values_are_those_of_other_libraries(
    library: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = pytest.importorskip(library)
    found, targets = scenes(120, seed)
    boxes, answers = coco_files(found, targets, tmp_path)
    truth = other.COCO(boxes)
    kind = other.COCOeval if library == "hotcoco" else other.COCOeval_faster
    told = truth.load_res(answers) if hasattr(truth, "load_res") else truth.loadRes(answers)
    judge = kind(truth, told, "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    capsys.readouterr()
    assert rankings(found, targets).value() == pytest.approx(judge.stats[0], abs=1e-12)
    assert rankings(found, targets, 1).value() == pytest.approx(judge.stats[1], abs=1e-12)


def plain_match(found: Any, targets: Any, threshold: float) -> list[tuple[float, int, bool]]:
    """Return score, class and whether it is a hit of the detections that count, as a loop."""
    told = []
    for answers, known in zip(found, targets, strict=True):
        taken: set[int] = set()
        for *box, score, kind in answers[answers[:, 4] >= 0].tolist():
            best, place = threshold, -1
            for k, (*other, label, crowd) in enumerate(known.tolist()):
                if label != kind or crowd or k in taken:
                    continue
                overlap = plain_overlap(box, other)
                if overlap >= best:
                    best, place = overlap, k
            inside = any(
                crowd and label == kind and plain_overlap(box, other, crowd=True) >= threshold
                for *other, label, crowd in known.tolist()
            )
            if place >= 0:
                taken.add(place)
            if place >= 0 or not inside:
                told.append((score, int(kind), place >= 0))
    return told


def plain_overlap(box: list[float], other: list[float], *, crowd: bool = False) -> float:
    across = min(box[2], other[2]) - max(box[0], other[0])
    down = min(box[3], other[3]) - max(box[1], other[1])
    both = max(across, 0) * max(down, 0)
    own = (box[2] - box[0]) * (box[3] - box[1])
    rest = 0 if crowd else (other[2] - other[0]) * (other[3] - other[1]) - both
    return both / (own + rest)


def plain_area(hits: list[bool], total: int) -> float:
    """Return the average precision of hits in falling score, as its definition reads."""
    points = []
    for reached in np.linspace(0, 1, 101):
        precisions = [
            sum(hits[: k + 1]) / (k + 1)
            for k in range(len(hits))
            if sum(hits[: k + 1]) / total >= reached
        ]
        points.append(max(precisions, default=0.0))
    return float(np.mean(points))


def test_value_is_that_of_the_plain_loop() -> None:
    found, targets = scenes(25, 7)
    expected = []
    for threshold in THRESHOLDS:
        told = plain_match(found, targets, threshold)
        for kind in range(3):
            hits = [hit for _, label, hit in sorted(told, key=lambda one: -one[0]) if label == kind]
            total = int(((targets[..., 4] == kind) & (targets[..., 5] == 0)).sum())
            expected.append(plain_area(hits, total))
    assert rankings(found, targets).value() == pytest.approx(float(np.mean(expected)), abs=1e-12)


def test_perfect_detections_are_one_and_none_are_zero() -> None:
    _, targets = scenes(30, 1, crowd=0)
    found = np.full((30, 8, 6), -1, np.float32)
    there = targets[..., 4] >= 0
    found[there] = np.insert(targets[there][:, :5], 4, 0.9, axis=1)
    assert rankings(found, targets).value() == 1.0
    assert rankings(np.full_like(found, -1), targets).value() == 0.0
    low, high = mean_interval(rankings(found, targets))
    assert 0.85 < low < 1.0
    assert high == 1.0


def test_weights_count_pictures_several_times() -> None:
    # Given: pictures drawn with replacement
    found, targets = scenes(40, 3)
    found[..., 4] += np.arange(40)[::-1] * 1e-5  # no ties within a picture
    drawn = np.random.default_rng(0).integers(0, 40, 40)
    weights = np.bincount(drawn, minlength=40).astype(float)
    # When: they count by weight, or stand there several times (in order, so that ties stay so)
    drawn.sort()
    repeated = rankings(found[drawn], targets[drawn]).value()
    # Then
    assert rankings(found, targets).mean(weights[None])[0] == pytest.approx(repeated, abs=1e-12)


def test_influence_is_the_derivative() -> None:
    # Given: so many pictures that the steps of the 101 points hardly show
    found, targets = scenes(1500, 5)
    ranked = rankings(found, targets)
    influence = ranked.influence()
    assert influence.sum() == pytest.approx(0, abs=1e-9)
    # When: pictures count a tenth more or less
    weights = 1 + 0.1 * np.sign(influence)
    # Then
    change = ranked.mean(weights[None])[0] - ranked.value()
    assert change == pytest.approx(0.1 * np.abs(influence).sum(), rel=0.15)
    assert change > 0.005


@pytest.fixture(scope="module")
def world() -> tuple[Any, Any, Any, Any]:
    """Return detections, boxes, and what matching says of very many pictures."""
    found, targets = scenes(2400, 11, sureness=0.2)
    return found, targets, *match_boxes(found, targets)


def part(found: Any, targets: Any, hit: Any, void: Any, some: slice) -> Rankings:
    return Rankings([found[some, :, 4], found[some, :, 5], hit[some], void[some], targets[some]])


@pytest.mark.parametrize(("size", "count", "least"), [(20, 60, 51), (60, 40, 33)])
def test_interval_covers_the_true_value(
    world: tuple[Any, ...], size: int, count: int, least: int
) -> None:
    # Given: pictures of one world, and what very many of them have
    truth = part(*world, slice(None)).value()
    # When: it is measured on a few of them at a time
    hits, widths, values = 0, [], []
    for start in range(0, size * count, size):
        some = part(*world, slice(start, start + size))
        low, high = mean_interval(some)
        hits += low <= truth <= high
        widths.append(high - low)
        values.append(some.value())
    # Then: of intervals of 95 % (binomial: fewer with a probability below 0.01)
    assert hits >= least
    # And: they are no wider than they have to be
    assert np.mean(widths) < 1.25 * 2 * 1.96 * np.std(values)


@pytest.mark.parametrize(("change", "size"), [("misses", 60), ("moves", 20)])
def test_paired_interval_covers_the_true_loss(
    world: tuple[Any, ...], change: str, size: int
) -> None:
    found, targets = world[:2]
    worse = found.copy()
    generator = np.random.default_rng(1)
    if change == "misses":  # a tenth of the objects
        worse[generator.random(found.shape[:2]) < 0.1, 5] = 7
    else:
        worse[..., :4] += generator.normal(0, 0.006, worse[..., :4].shape).astype(np.float32)
    other = worse, targets, *match_boxes(worse, targets)
    truth = part(*world, slice(None)).value() - part(*other, slice(None)).value()
    hits = 0
    for start in range(0, 40 * size, size):
        some = slice(start, start + size)
        low, high = detection_interval(part(*world, some), part(*other, some))
        hits += low <= truth <= high
    assert hits >= 33  # of 40 of 95 %, binomial: fewer with a probability of 0.003


def test_few_resamples_give_the_interval_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found, targets = scenes(72, 23)
    moved = found + np.float32(0.004)
    moved[found[..., 4] < 0] = found[found[..., 4] < 0]
    sides = rankings(found, targets), rankings(moved, targets)
    few = detection_interval(*sides), mean_interval(sides[0])
    monkeypatch.setattr("edgekit_runner.DETECTION_RESAMPLES", 4000)
    many = detection_interval(*sides), mean_interval(sides[0])
    for one, other in zip(few, many, strict=True):
        assert one == pytest.approx(other, abs=0.06 * (other[1] - other[0]))


def test_paired_interval_of_the_same_is_nothing() -> None:
    found, targets = scenes(50, 17)
    ranked = rankings(found, targets)
    assert detection_interval(ranked, ranked) == (0.0, 0.0)


def test_bootstrap_and_normal_interval_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    found, targets = scenes(300, 19)
    ranked = rankings(found, targets)
    resampled = mean_interval(ranked)
    monkeypatch.setattr("edgekit_runner.BOOTSTRAP_LIMIT", 100)
    normal = mean_interval(ranked)
    width = resampled[1] - resampled[0]
    assert normal == pytest.approx(resampled, abs=0.15 * width)


@pytest.mark.parametrize("shape", [(1, 1, 1), (250, 72, 293), (33, 512, 40), (5, 513, 9)])
def test_a_product_by_pieces_is_the_product(shape: tuple[int, int, int]) -> None:
    """Given counts, whose sums are exact in any order, then pieces change nothing."""
    rows, n, columns = shape
    generator = np.random.default_rng(0)
    first = generator.integers(0, 9, (rows, n)).astype(np.float32)
    second = generator.integers(0, 9, (n, columns)).astype(np.float32)

    product = small_product(first, second)

    assert product.dtype == np.float32
    np.testing.assert_array_equal(product, first @ second)

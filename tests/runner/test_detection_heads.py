"""Detection heads: what is encoded is decoded, and suppression is that of the plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit_runner import (
    Head,
    anchors_of,
    box_fault,
    box_overlaps,
    boxes_in_window,
    check_head,
    recognize_head,
    suppress,
)

BOXES = np.array([[0.1, 0.2, 0.4, 0.5], [0.55, 0.5, 0.9, 0.8], [0.6, 0.1, 0.7, 0.3]], np.float32)
CLASSES = np.array([1, 0, 2])
SCORES = np.array([0.9, 0.7, 0.3], np.float32)
LEVELS = [
    {"grid": [6, 8], "sizes": [[0.2, 0.2], [0.1, 0.3]]},
    {"grid": [3, 4], "sizes": [[0.4, 0.4]]},
]


def logit(share: Any) -> Any:
    return np.log(share / (1 - share))


def whole(boxes: Any) -> Any:
    """Return centre and size of corners."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def assert_decoded(found: Any) -> None:
    assert found.dtype == np.float32
    assert found.shape[1:] == (100, 6)
    for picture in found:
        np.testing.assert_allclose(picture[:3, :4], BOXES, atol=2e-6)
        np.testing.assert_allclose(picture[:3, 4], SCORES, atol=1e-6)
        np.testing.assert_array_equal(picture[:3, 5], CLASSES)
        np.testing.assert_array_equal(picture[3:, 4], -1)


def ssd_outputs(head: dict[str, Any], raw: Any, fill: float, first: int = 0) -> dict[str, Any]:
    """Encode the boxes at their nearest anchors, in two pictures."""
    anchors = anchors_of(head)
    boxes = np.zeros((2, len(anchors), 4), np.float32)
    scores = np.full((2, len(anchors), 3 + first), fill, np.float32)
    for box, kind, score in zip(whole(BOXES), CLASSES, raw, strict=True):
        row = int(np.abs(anchors[:, :2] - box[:2]).sum(axis=1).argmin())
        centre = (box[:2] - anchors[row, :2]) / anchors[row, 2:] / head["variances"][:2]
        size = np.log(box[2:] / anchors[row, 2:]) / head["variances"][2:]
        boxes[:, row] = *centre, *size
        scores[:, row, first + kind] = score
    return {"scores": scores, "boxes": boxes}


def shapes(outputs: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, (1, *value.shape[1:])) for name, value in outputs.items()]


def test_levels_stand_row_by_row_with_sizes_innermost() -> None:
    anchors = anchors_of(check_head({"kind": "ssd", "levels": LEVELS}))
    assert anchors.shape == (6 * 8 * 2 + 3 * 4, 4)
    np.testing.assert_allclose(anchors[0], [1 / 16, 1 / 12, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(anchors[1], [1 / 16, 1 / 12, 0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(anchors[2], [3 / 16, 1 / 12, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(anchors[-1], [7 / 8, 5 / 6, 0.4, 0.4], rtol=1e-6)


def test_ssd_with_sigmoid_decodes_what_was_encoded() -> None:
    head = check_head({"kind": "ssd", "levels": LEVELS})
    outputs = ssd_outputs(head, logit(SCORES), -9.0)
    found = Head(head, shapes(outputs))
    assert_decoded(found(outputs))
    assert found.classes == 3
    assert found.table["boxes"] == "boxes"
    assert found.table["scores"] == "scores"


def test_ssd_with_declared_anchors_and_background() -> None:
    anchors = [[0.25, 0.35, 0.2, 0.2], [0.7, 0.6, 0.4, 0.4], [0.6, 0.2, 0.1, 0.3]]
    head = check_head(
        {
            "kind": "ssd",
            "boxes": "boxes",  # of three anchors and three classes, shapes do not tell
            "anchors": anchors,
            "activation": "softmax",
            "background": True,
        }
    )
    # Of four equal logits each has a quarter: the one that is higher by x has e^x / (3 + e^x).
    raw = np.log(3 * SCORES / (1 - SCORES))
    outputs = ssd_outputs(head, raw, 0.0, first=1)
    table = {**head, "score": 0.26}
    assert_decoded(Head(table, shapes(outputs))(outputs))


def test_of_equal_shapes_names_tell() -> None:
    head = check_head({"kind": "ssd", "levels": LEVELS})
    n = len(anchors_of(head))
    outputs = [("a", (1, n, 4)), ("b", (1, n, 4))]
    with pytest.raises(ValueError, match=r"boxes may be 'a' and 'b' by shape"):
        Head(head, outputs)
    named = {**head, "boxes": "b", "scores": "a"}
    assert Head(named, outputs).classes == 4


@pytest.mark.parametrize("unit", ["auto", "pixels", "fraction"])
@pytest.mark.parametrize("turned", [False, True])
def test_yolo_v8_in_both_orders(unit: str, turned: bool) -> None:
    # Given: 60 predictions, three of which are objects
    head = check_head({"kind": "yolo", "unit": unit})
    scale = 1.0 if unit == "fraction" else np.array([64, 48, 64, 48])
    values = np.zeros((2, 60, 7), np.float32)
    values[:, 5:20:5, :4] = whole(BOXES) * scale
    values[:, [5, 10, 15], 4 + CLASSES] = SCORES
    output = values.swapaxes(1, 2) if turned else values
    # When
    found = Head(head, [("y", (1, *output.shape[1:]))], (64, 48))
    # Then
    assert_decoded(found({"y": output}))
    assert found.classes == 3


def test_yolo_v5_multiplies_by_objectness() -> None:
    head = check_head({"kind": "yolo", "objectness": True, "corners": True})
    values = np.zeros((2, 60, 8), np.float32)
    values[:, 5:20:5, :4] = BOXES
    values[:, 5:20:5, 4] = 0.95
    values[:, [5, 10, 15], 5 + CLASSES] = SCORES / 0.95
    values[:, 20, 4:] = 0.2  # 0.04 together: dropped
    assert_decoded(Head(head, [("y", (1, 60, 8))])({"y": values}))


def test_yolo_v5_with_raw_scores() -> None:
    head = check_head({"kind": "yolo", "objectness": True, "activation": "sigmoid"})
    values = np.full((1, 60, 8), -9, np.float32)
    values[:, :, :4] = 0
    values[:, 5:20:5, :4] = whole(BOXES)
    values[:, 5:20:5, 4] = logit(0.95)
    values[:, [5, 10, 15], 5 + CLASSES] = logit(SCORES / 0.95)
    assert_decoded(Head(head, [("y", (1, 60, 8))])({"y": values}))


def test_yolo_with_a_single_prediction() -> None:
    head = check_head({"kind": "yolo", "size": [640, 640], "unit": "pixels"})
    found = Head(head, [("y", (1, 5))])({"y": np.array([[320, 160, 64, 128, 0.8]], np.float32)})
    np.testing.assert_allclose(found[0, 0], [0.45, 0.15, 0.55, 0.35, 0.8, 0], rtol=1e-6)


@pytest.mark.parametrize("unit", ["cells", "pixels", "fraction"])
def test_center_decodes_peaks(unit: str) -> None:
    rows, columns = 12, 16
    head = check_head({"kind": "center", "unit": unit})
    heat = np.full((2, rows, columns, 3), -9, np.float32)
    sizes, offsets = np.zeros((2, 2, rows, columns, 2), np.float32)
    scale = {"cells": [columns, rows], "pixels": [64, 48], "fraction": [1, 1]}[unit]
    for box, kind, score in zip(whole(BOXES), CLASSES, SCORES, strict=True):
        x, y = box[0] * columns, box[1] * rows
        heat[:, int(y), int(x), kind] = logit(score)
        heat[:, int(y), int(x) - 1, kind] = logit(score) - 0.1  # no peak
        sizes[:, int(y), int(x)] = box[2:] * scale
        offsets[:, int(y), int(x)] = x % 1, y % 1
    outputs = {"heat": heat, "wh": sizes, "off": offsets}
    assert_decoded(Head(head, shapes(outputs), (64, 48))(outputs))


def test_postprocess_reads_what_the_operator_writes() -> None:
    boxes = np.zeros((2, 5, 4), np.float32)
    boxes[:, :3] = BOXES[:, [1, 0, 3, 2]]
    classes, scores = np.zeros((2, 5), np.float32), np.full((2, 5), 0.5, np.float32)
    classes[:, :3], scores[:, :3] = CLASSES, SCORES
    outputs = {"b": boxes, "c": classes, "s": scores, "n": np.full((2, 1), 3, np.float32)}
    listed = [("b", (1, 5, 4)), ("c", (1, 5)), ("s", (1, 5)), ("n", (1,))]
    head = recognize_head(listed)
    assert head is not None
    assert head["kind"] == "postprocess"
    assert_decoded(Head(head, listed)(outputs))


def test_nan_shows_in_the_score_of_its_picture_only() -> None:
    head = check_head({"kind": "yolo"})
    values = np.zeros((2, 60, 6), np.float32)
    values[1, 3, 2] = np.nan
    found = Head(head, [("y", (1, 60, 6))])({"y": values})
    assert np.isnan(found[:, :, 4]).any(axis=1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("shape", "classes", "objectness"),
    [
        ((1, 8400, 84), None, False),
        ((1, 84, 8400), 80, False),
        ((1, 25200, 85), 80, True),
        ((1, 300, 7), 3, False),
        ((1, 20, 7), None, None),  # too few rows to be sure
        ((1, 8400, 84), 10, None),  # other classes
        ((1, 8400, 4), None, None),
    ],
)
def test_shapes_that_are_those_of_yolo(
    shape: tuple[int, ...], classes: int | None, objectness: bool | None
) -> None:
    head = recognize_head([("y", shape)], classes)
    assert (head and head["objectness"]) == objectness


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "rcnn"}, "kind is 'rcnn'; known: ssd, yolo, center, postprocess"),
        ({"kind": "ssd"}, "an ssd needs either anchors or levels"),
        ({"kind": "ssd", "levels": [{"grid": [0, 3]}]}, "levels is a list of"),
        ({"kind": "ssd", "anchors": [[1, 2, 3]]}, "anchors is a list of"),
        ({"kind": "ssd", "levels": LEVELS, "anchor": 1}, "unknown key 'anchor'"),
        ({"kind": "ssd", "levels": LEVELS, "variances": [1, 1]}, "variances is"),
        ({"kind": "yolo", "unit": "metres"}, "unit is 'metres'; known: auto, pixels, fraction"),
        ({"kind": "yolo", "score": 1.5}, "score is 1.5"),
        ({"kind": "yolo", "most": 0}, "most is 0"),
        ({"kind": "yolo", "size": [3]}, "size is"),
        ({"kind": "center", "heatmap": 3}, "heatmap is 3"),
    ],
)
def test_invalid_heads_are_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        check_head(table)


def test_outputs_that_do_not_fit_are_named() -> None:
    head = check_head({"kind": "ssd", "levels": LEVELS})
    with pytest.raises(ValueError, match=r"the head has 108 anchors, and no output is \[1, 108, 4"):
        Head(head, [("boxes", (1, 100, 4)), ("scores", (1, 100, 3))])
    named = check_head({"kind": "ssd", "levels": LEVELS, "boxes": "boxes", "scores": "scores"})
    with pytest.raises(ValueError, match=r"the head has 108 anchors, and no output is \[1, 108, 4"):
        Head(named, [("boxes", (1, 100, 4)), ("scores", (1, 100, 3))])
    with pytest.raises(ValueError, match="there is no output 'z'; there is y"):
        Head(check_head({"kind": "yolo", "output": "z"}), [("y", (1, 60, 6))])


def test_suppression_is_that_of_the_plain_loop() -> None:
    generator = np.random.default_rng(0)
    for n in (1, 2, 30, 150, 400):
        corner = generator.random((n, 2)) * 0.5
        boxes = np.concatenate([corner, corner + 0.1 + generator.random((n, 2)) * 0.3], axis=1)
        classes = generator.integers(0, 3, n)
        kept: list[int] = []
        overlaps = box_overlaps(boxes, boxes)
        for one in range(n):
            if not any(overlaps[one, k] > 0.4 and classes[one] == classes[k] for k in kept):
                kept.append(one)
        assert suppress(boxes, classes, 0.4).tolist() == kept
        assert suppress(boxes, classes, 0.4, 7).tolist() == kept[:7]
        assert len(kept) < n or n < 3


def test_boxes_follow_the_crop() -> None:
    # Given a picture of 200x100 of which the model sees the middle 100x100
    spec = {"kind": "image", "height": 50, "width": 50, "fit": "crop"}
    boxes = np.array(
        [
            [0.375, 0.25, 0.625, 0.75, 1, 0],
            [0.2, 0.2, 0.5, 0.4, 0, 0],  # five sixths of it are seen
            [0.0, 0.2, 0.26, 0.4, 0, 0],  # next to nothing of it
            [0.0, 0.2, 0.2, 0.4, 2, 0],  # nothing of it
            [0, 0, 0, 0, -1, 0],
        ],
        np.float32,
    )
    # When
    seen = boxes_in_window(boxes, 100, 200, spec)
    # Then
    np.testing.assert_allclose(seen[0], [0.25, 0.25, 0.75, 0.75, 1, 0], atol=1e-6)
    np.testing.assert_allclose(seen[1], [0, 0.2, 0.5, 0.4, 0, 0], atol=1e-6)
    np.testing.assert_allclose(seen[2], [0, 0.2, 0.02, 0.4, 0, 1], atol=1e-6)
    assert seen[3, 4] == -1
    assert seen[4, 4] == -1
    # And a stretched picture leaves them as they are.
    assert boxes_in_window(boxes, 100, 200, {**spec, "fit": "stretch"}) is boxes


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([0.1, 0.1, 0.2, 1.2, 0, 0], "has a box outside the picture: 0.1, 0.1, 0.2, 1.2, 0"),
        ([0.3, 0.1, 0.2, 0.2, 0, 0], "has a box whose corners are swapped: 0.3"),
        ([0.1, 0.1, 0.2, np.nan, 0, 0], "has a box with NaN or infinity"),
        ([0.1, 0.1, 0.2, 0.2, 0.5, 0], "has a class that is no whole number"),
        ([0.1, 0.1, 0.2, 0.2, 3, 0], "has a class that the model of 3 classes does not have"),
    ],
)
def test_boxes_that_cannot_be_are_named(box: list[float], words: str) -> None:
    sound = [0.1, 0.1, 0.2, 0.2, 2, 0]
    targets = np.array([[sound, sound], [sound, box]], np.float32)
    fault = box_fault(targets, 3)
    assert fault is not None
    assert fault[0] == 1
    assert fault[1].startswith(words)
    assert box_fault(targets[:1], 3) is None

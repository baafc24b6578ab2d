"""Pictures with boxes in COCO, Pascal VOC and YOLO: the same targets from each of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import annotated_pictures as made
import numpy as np
import pytest

from edgekit.data import bind, open_data
from edgekit.data.formats.voc import parse_annotation
from edgekit.data.formats.yolo import parse_boxes
from edgekit.data.formats.yolo_names import parse_names
from edgekit.errors import DataError
from edgekit.parsing import ParseError
from edgekit.records import TensorSpec
from edgekit_runner import turn_upright

FORMATS = {"coco": made.coco, "roboflow": made.roboflow, "voc": made.voc, "yolo": made.yolo}
WRITTEN = {"coco": "COCO JSON", "roboflow": "COCO JSON", "voc": "Pascal VOC", "yolo": "YOLO"}


def targets(samples):
    return samples.read.targets[samples.read.index]


def sizes_of(dataset):
    store = dataset.train.read.store
    return store.sizes(np.arange(len(store)), upright=True).tolist()


def refusal(action):
    with pytest.raises(DataError) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_targets(form, tmp_path):
    root = FORMATS[form](tmp_path / "insects")

    dataset = open_data(str(root))

    assert (dataset.labels, dataset.task) == (made.NAMES, "detection")
    for split, wanted in made.TARGETS.items():
        found = targets(getattr(dataset, split))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.array(wanted)[:, : found.shape[1]], atol=1e-6)
    assert WRITTEN[form] in dataset.origins[0]
    sizes = [(p[1], p[0]) for p in made.PICTURES["train"].values()]
    assert sizes_of(dataset) == [list(size) for size in sizes]


@pytest.mark.parametrize("form", FORMATS)
def test_pictures_are_read_when_they_are_asked_for(form, tmp_path):
    root = FORMATS[form](tmp_path / "insects")
    spec = {"kind": "image", "height": 8, "width": 12, "channels": 3, "scale": 1}
    dataset = open_data(str(root), preprocessing=spec)

    batch = dataset.train.read(np.array([1]))
    shutil.rmtree(root)

    assert batch.inputs["x"].shape == (1, 8, 12, 3)
    assert batch.targets.shape == (1, 2, 6)
    with pytest.raises((DataError, OSError)):
        dataset.train.read(np.array([0]))


def test_boxes_are_cropped_with_their_pictures(tmp_path):
    root = made.coco(tmp_path / "insects")
    inputs = [TensorSpec(name="x", shape=(1, 16, 16, 3), dtype="float32")]
    outputs = [TensorSpec(name="y", shape=(1, 20, 6), dtype="float32")]
    spec = {"kind": "image", "fit": "crop", "scale": 1}

    opened = replace(open_data(str(root), preprocessing=spec), head={"kind": "yolo"})

    bound = bind(opened, inputs, outputs)

    # Of a picture of 20 x 40 the rows from 10 to 30 are left.
    found = bound.test.read(np.array([0])).targets
    np.testing.assert_allclose(found[0, 0], [0.5, 0, 0.75, 1, 0, 0], atol=1e-6)
    assert bound.task == "detection"


@pytest.mark.parametrize("form", FORMATS)
def test_labels_txt_and_classes_give_the_order(form, tmp_path):
    root = FORMATS[form](tmp_path / "insects")
    asked = open_data(str(root), classes=("bee", "ant"))
    (root / "labels.txt").write_text("bee\nwasp\nant\n")

    dataset = open_data(str(root))

    assert targets(asked.test)[0, 0, 4] == 1
    assert asked.labels == ("bee", "ant")
    assert dataset.labels == ("bee", "wasp", "ant")
    assert targets(dataset.test)[0, 0, 4] == 2
    assert any("Classes without a box: wasp" in note for note in dataset.notes)
    (root / "labels.txt").write_text("bee\n")
    assert "'ant' is not in labels.txt" in refusal(lambda: open_data(str(root)))


def test_boxes_beyond_the_picture_are_cut_and_empty_ones_left_out(tmp_path):
    root = made.yolo(tmp_path / "insects")
    place = root / "labels" / "train"
    (place / "b.txt").write_text("0 0.9 0.5 0.4 0.5\n1 0.5 0.5 0 0.1\n1 1.4 0.5 0.2 0.2")

    dataset = open_data(str(root))

    np.testing.assert_allclose(targets(dataset.train)[1, 0], [0.7, 0.25, 1, 0.75, 0, 0])
    assert targets(dataset.train)[1, 1, 4] == -1
    assert "Boxes reach beyond 1 picture in train (images/train/b.jpg)" in str(dataset.notes)
    assert "left out: 2 (images/train/b.jpg: empty, images/train/b.jpg: outside)" in str(
        dataset.notes
    )


def test_where_no_box_lies_in_its_picture_the_numbers_are_wrong(tmp_path):
    root = made.coco(tmp_path / "insects")
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        for box in document["annotations"]:
            box["bbox"] = [900, 900, 10, 10]
        path.write_text(json.dumps(document))

    assert "all boxes are empty or lie outside" in refusal(lambda: open_data(str(root)))


@pytest.mark.parametrize("orientation", [6, 8, 5, 7])
def test_boxes_of_a_picture_as_stored_are_turned_with_it(orientation, tmp_path):
    # A camera's picture that lies on its side, annotated by a tool that ignores Exif.
    made.picture(tmp_path / "set" / "a.jpg", 40, 20, orientation)
    made.write_xml(tmp_path / "set" / "a.xml", 40, 20, [("ant", 4, 2, 10, 8)])
    stored = np.zeros((20, 40), bool)
    stored[2:8, 4:10] = True
    rows, columns = np.nonzero(turn_upright(stored, orientation))
    wanted = [
        columns.min() / 20, rows.min() / 40, (columns.max() + 1) / 20, (rows.max() + 1) / 40,
    ]  # fmt: skip
    made.picture(tmp_path / "set" / "b.jpg", 40, 20, orientation)
    upright = [("ant", *(round(v * s) for v, s in zip(wanted, (20, 40, 20, 40), strict=True)))]
    made.write_xml(tmp_path / "set" / "b.xml", 20, 40, upright)

    dataset = open_data(str(tmp_path / "set"))

    boxes = dataset.train.read.store.targets[:, 0, :4]
    np.testing.assert_allclose(boxes, [wanted, wanted], atol=1e-6)
    assert sizes_of(dataset) == [[40, 20]] * 2


def test_a_picture_of_another_shape_than_annotated_is_left_out(tmp_path):
    root = made.voc(tmp_path / "insects")
    made.write_xml(root / "Annotations" / "b.xml", 640, 480, [("bee", 3, 6, 9, 15)])

    dataset = open_data(str(root))

    assert dataset.train.n == 2
    said = "1 of 3 files in train was left out: JPEGImages/b.jpg (is 30x30 pixels, annotated as "
    assert any(said in note for note in dataset.notes)


# --- COCO ----------------------------------------------------------------------------------------


def test_crowds_are_ignored_and_other_files_are_named(tmp_path):
    root = made.coco(tmp_path / "insects")
    path = root / "annotations" / "instances_train2017.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    document["annotations"].append({**document["annotations"][0], "image_id": 5})
    path.write_text(json.dumps(document))
    (root / "annotations" / "captions_train2017.json").write_text("{}")

    dataset = open_data(str(root))

    assert targets(dataset.train)[0, :, 5].tolist() == [1, 0]
    assert "Files that were not read: captions_train2017.json." in dataset.notes
    assert "Boxes in train of pictures that are not listed: 1." in dataset.notes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["annotations"][0].pop("bbox"), "annotations[0] has bbox None"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, "3", 4]), "annotations[0] has bbox"),
        (lambda d: d["annotations"][1].update(category_id=99), "is of category 99, not listed"),
        (lambda d: d["images"].append(d["images"][0]), "the id 100 stands twice"),
        (lambda d: d.pop("annotations"), "it has no annotations"),
        (lambda d: d.update(images=3), "images is no list of objects"),
        (lambda d: d["categories"].append({"id": 3, "name": "x"}), "categories[2] has no id"),
    ],
)
def test_damaged_coco_is_named(change, said, tmp_path):
    root = made.coco(tmp_path / "insects")
    path = root / "annotations" / "instances_test2017.json"
    document = made.coco_document(made.PICTURES["train"])
    change(document)
    path.write_text(json.dumps(document))

    message = refusal(lambda: open_data(str(root)))

    assert said in message
    assert path.name in message


def test_coco_without_pictures_is_named(tmp_path):
    root = made.coco(tmp_path / "insects")
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "images": []}))

    message = refusal(lambda: open_data(str(root)))

    assert "no pictures are listed." in message
    assert "images is empty in instances_t" in message
    assert '"file_name": "a.jpg"' in message


def test_pictures_that_are_not_there_or_outside_are_left_out(tmp_path):
    root = made.coco(tmp_path / "insects")
    (root / "train2017" / "b.jpg").unlink()
    made.picture(tmp_path / "secret.jpg", 40, 20)
    path = root / "annotations" / "instances_train2017.json"
    document = json.loads(path.read_text())
    document["images"][0]["file_name"] = "../../secret.jpg"
    path.write_text(json.dumps(document))

    dataset = open_data(str(root))

    assert dataset.train.n == 1
    said = "2 of 3 files in train were left out: ../../secret.jpg (not there), b.jpg (not there)."
    assert said in dataset.notes


def test_two_files_of_one_split_are_refused(tmp_path):
    root = made.coco(tmp_path / "insects")
    shutil.copy(
        root / "annotations" / "instances_test2017.json",
        root / "annotations" / "instances_test_more.json",
    )

    assert "two files are of one split" in refusal(lambda: open_data(str(root)))


# --- Pascal VOC ----------------------------------------------------------------------------------


def test_difficult_boxes_are_ignored_and_pictures_without_xml_left_out(tmp_path):
    root = made.voc(tmp_path / "insects")
    boxes = made.PICTURES["train"]["b"][2]
    made.write_xml(root / "Annotations" / "b.xml", 30, 30, boxes, difficult=1)
    (root / "Annotations" / "a.xml").unlink()
    (root / "Annotations" / "c.xml").write_text("<annotation><object>")

    dataset = open_data(str(root))

    assert targets(dataset.train)[0, 0, 5] == 1
    note = next(note for note in dataset.notes if "left out" in note)
    assert "JPEGImages/a.jpg (no annotation), JPEGImages/c.jpg (c.xml: no XML: no element" in note


def test_edges_that_begin_at_zero_are_counted_from_zero(tmp_path):
    root = made.voc(tmp_path / "insects")
    for name, (width, height, boxes) in made.PICTURES["train"].items():
        made.write_xml(root / "Annotations" / f"{name}.xml", width, height, boxes, first=0)

    dataset = open_data(str(root))

    np.testing.assert_allclose(targets(dataset.train)[0, 0, :4], [0.1, 0.25, 0.5, 0.75], atol=1e-6)
    assert any("counted from 0, not from 1" in note for note in dataset.notes)


@pytest.mark.parametrize("splits", [True, False])
def test_xml_beside_each_picture(splits, tmp_path):
    for split, pictures in made.PICTURES.items():
        for name, (width, height, boxes) in pictures.items():
            place = tmp_path / "insects" / (split if splits else "")
            made.picture(place / f"{name}.png", width, height)
            made.write_xml(place / f"{name}.xml", width, height, boxes)

    dataset = open_data(str(tmp_path / "insects"))

    assert (dataset.train.n, dataset.test.n) == (3, 1)
    if splits:
        np.testing.assert_allclose(targets(dataset.test), made.TARGETS["test"], atol=1e-6)


NO_NUMBER = (
    "<annotation><object><name>a</name><bndbox><xmin>nan</xmin><ymin/><xmax/><ymax/></bndbox>"
    "</object></annotation>"
)
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]>'
    "<annotation><object><name>&y;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        ("<annotation>&x;</annotation>", "no XML: undefined entity"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "no XML"),
        ("", "no XML: no element found"),
        ("<annotation><object><bndbox/></object></annotation>", "an object without a name"),
        ("<annotation><object><name>a</name></object></annotation>", "without xmin"),
        (
            NO_NUMBER,
            "xmin is 'nan'",
        ),
        (" " * (5 << 20), "larger than 4 MB"),
    ],
)
def test_hostile_xml_is_refused(content, said):
    with pytest.raises(ParseError, match=said):
        parse_annotation(content.encode())


def test_parts_of_an_object_are_not_its_box():
    content = (
        "<annotation><object><name>man</name><part><name>head</name><bndbox><xmin>7</xmin>"
        "<ymin>7</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></part><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax></bndbox></object></annotation>"
    )

    found = parse_annotation(content.encode())

    assert (found.names, found.edges) == (["man"], [(1, 2, 3.5, 4)])


# --- YOLO ----------------------------------------------------------------------------------------


def test_a_picture_without_a_text_file_has_no_boxes(tmp_path):
    dataset = open_data(str(made.yolo(tmp_path / "insects")))

    assert (targets(dataset.train)[2, :, 4] == -1).all()
    assert "Pictures without a text file have no boxes: 1." in dataset.notes


def test_folders_by_split_and_names_in_a_list(tmp_path):
    source, root = made.yolo(tmp_path / "insects"), tmp_path / "moved"
    for split, name in (("train", "train"), ("test", "valid")):
        for kind in ("images", "labels"):
            shutil.copytree(source / kind / split, root / name / kind)
    (root / "train" / "labels" / "classes.txt").write_text("ant\nbee\n")

    dataset = open_data(str(root))

    assert (dataset.train.n, dataset.test.n, dataset.labels) == (3, 1, made.NAMES)
    assert "There is no test split: valid serves as one." in dataset.notes


def test_damaged_text_files_are_left_out_and_named(tmp_path):
    root = made.yolo(tmp_path / "insects")
    (root / "labels" / "train" / "a.txt").write_text("0 12 14 300 200\n")
    (root / "labels" / "train" / "b.txt").write_text("0 0.5 0.5 0.1\n")
    (root / "labels" / "train" / "z.txt").write_text("0 0.5 0.5 0.1 0.1\n")

    dataset = open_data(str(root))

    assert dataset.train.n == 1
    said = str(dataset.notes)
    assert "images/train/a.jpg (a.txt: line 1 has numbers that are no fractions" in said
    assert "images/train/b.jpg (b.txt: line 1 has 4 numbers, not class cx cy w h)" in said
    assert "Text files without a picture in train: 1 (z)." in said


def test_a_class_without_a_name_is_refused(tmp_path):
    root = made.yolo(tmp_path / "insects")
    (root / "labels" / "test" / "d.txt").write_text("2 0.5 0.5 0.1 0.1\n")

    message = refusal(lambda: open_data(str(root)))

    assert "a box is of class 2, and data.yaml names 2 classes" in message
    assert "d.jpg" in message


def test_polygons_and_keypoints_become_boxes():
    polygon, kinds = parse_boxes("3 0.1 0.2 0.4 0.3 0.2 0.6\n\n")
    pose, _ = parse_boxes("0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.3 0.3 1\n", keypoints=True)

    np.testing.assert_allclose(polygon, [[0.1, 0.2, 0.4, 0.6]])
    np.testing.assert_allclose(pose, [[0.4, 0.3, 0.6, 0.7]])
    assert kinds.tolist() == [3]


@pytest.mark.parametrize(
    "text", ["a 1 1 1 1", "0.5 0 0 1 1", "-1 0 0 1 1", "0 nan 0 1 1", "inf 0 0 1 1"]
)
def test_lines_that_are_no_boxes_are_refused(text):
    with pytest.raises(ParseError, match="line 1"):
        parse_boxes(text)


@pytest.mark.parametrize(
    "text",
    [
        "nc: 3\nnames: [ant, 'big bee', \"it's\"]  # all\nnc: 3",
        "names:\n  - ant\n  - 'big bee'\n  - \"it's\"\npath: .\n",
        "names:\n- ant  # first\n- big bee\n- it's\n",
        "names:\n  0: ant\n  2: it's\n  1: big bee\nval: x\n",
        "names: [\n  'ant',\n  'big bee',  # second\n  'it''s',\n]\n",
        "names: {0: ant, 1: 'big bee', 2: \"it's\"}\n",
    ],
)
def test_names_in_the_forms_of_yaml(text):
    assert parse_names(text) == ("ant", "big bee", "it's")


@pytest.mark.parametrize(
    "text",
    ["names: none\n", "names:\n", "names: [a, b", "names: {a, b}", "names:\n  0: a\n  2: b\n"],
)
def test_names_of_another_form_are_refused(text):
    with pytest.raises(ParseError, match="names"):
        parse_names(text)
    assert parse_names("nc: 3") is None


# --- Real pictures -------------------------------------------------------------------------------


@pytest.mark.data
def test_real_blood_cells(shared_data, tmp_path):
    dataset = open_data(str(shared_data / "bccd"))

    assert dataset.labels == ("Platelets", "RBC", "WBC")
    assert (dataset.train.n, dataset.test.n) == (205, 72)
    assert "Not used: val. test is the test split." in dataset.notes
    boxes = targets(dataset.test)
    found = boxes[boxes[:, :, 4] >= 0]
    assert (found[:, :4] >= 0).all()
    assert (found[:, :4] <= 1).all()
    # BloodImage_00007: xmin 193, ymin 92, xmax 387, ymax 285 of 640 x 480, a white cell.
    first = Path(dataset.test.read.store.files[0])
    assert first.name == "BloodImage_00007.jpg"
    np.testing.assert_allclose(boxes[0, 0, :5], [192 / 640, 91 / 480, 387 / 640, 285 / 480, 2])


@pytest.mark.parametrize(
    ("layout", "file"),
    [("yolo", "data.yaml"), ("coco", "annotations/instances_train2017.json")],
)
def test_the_file_of_a_folder_names_the_folder_to_give(layout, file, tmp_path):
    # Given a folder of pictures with boxes, When the file beside them is given instead
    root = FORMATS[layout](tmp_path / "data")
    (root / file).touch()
    said = refusal(lambda: open_data(str(root / file)))
    # Then the hint names a folder that can be read
    assert said.endswith(f"such as {root}.")
    assert open_data(str(root)).train is not None

"""Folders of images: streamed, resized by the runner's code, broken files named."""

from __future__ import annotations

import os
import shutil

import keras_pictures
import numpy as np
import pytest
from PIL import Image

import edgekit_runner
from edgekit.data import bind, open_data, split_of, training_split
from edgekit.data.pixels import names_scaling
from edgekit.errors import DataError
from edgekit.records import TensorSpec
from edgekit.worker import Worker
from edgekit_runner import preprocess_image

CLASSES = ("bird", "cat", "fish")
SIZED = 'kind = "image"\nheight = 12\nwidth = 10\nchannels = 3\nscale = 0.5\nmean = [1, 2, 3]\n'


def specs(height=8, width=8, channels=3, classes=3):
    return (
        [TensorSpec(name="image", shape=(1, height, width, channels), dtype="float32")],
        [TensorSpec(name="probabilities", shape=(1, classes), dtype="float32")],
    )


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "animals"
    for split, n in (("train", 10), ("test", 4)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                size = (9 + i, 14, 3)
                pixels = random.integers(0, 256, size, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i:02d}.png")
    return root


def refusal(action):
    with pytest.raises(DataError) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_the_size_comes_from_the_model_where_none_is_declared(folder):
    dataset = open_data(str(folder))
    assert "Image size is not specified" in refusal(lambda: dataset.test.read(np.arange(1)))

    bound = bind(dataset, *specs(8, 6, 1))

    batch = bound.test.read(np.arange(12))
    first = np.asarray(Image.open(folder / "test" / "bird" / "00.png"))
    assert (bound.task, bound.labels) == ("classification", CLASSES)
    assert batch.inputs["image"].shape == (12, 8, 6, 1)
    np.testing.assert_array_equal(batch.targets, np.repeat([0, 1, 2], 4))
    assert not names_scaling(bound.preprocessing)  # which the pipeline finds out
    assert {**bound.preprocessing, "height": 8, "width": 6} == bound.preprocessing
    np.testing.assert_array_equal(
        batch.inputs["image"][0], preprocess_image(Image.fromarray(first), bound.preprocessing)
    )
    assert bound.notes == ()


def test_a_preprocessing_file_says_how(folder):
    (folder / "preprocessing.toml").write_text(SIZED)

    dataset = open_data(str(folder))

    x = dataset.train.read(np.arange(2)).inputs["x"]
    pixels = np.asarray(Image.open(folder / "train" / "bird" / "01.png"))
    np.testing.assert_array_equal(x[1], preprocess_image(pixels, dataset.preprocessing))
    assert dataset.notes == ()
    assert "12x10x3" in refusal(lambda: bind(dataset, *specs()))


def test_an_argument_wins_over_the_file(folder):
    (folder / "preprocessing.toml").write_text(SIZED)

    dataset = open_data(str(folder), preprocessing={"kind": "image", "mean": 127.5, "std": 127.5})

    assert bind(dataset, *specs()).test.read(np.arange(1)).inputs["image"].min() < 0


def test_calibration_is_balanced_and_validation_comes_from_train(folder):
    bound = bind(open_data(str(folder), calibration_samples=6), *specs())
    fit, validation = training_split(bound)

    calibrate = bound.calibrate.read(np.arange(6)).targets
    np.testing.assert_array_equal(np.bincount(calibrate), [2, 2, 2])
    assert (fit.n, validation.n) == (27, 3)
    assert set(validation.read(np.arange(3)).targets) == {0, 1, 2}


def test_the_digest_covers_names_and_contents(folder):
    before = open_data(str(folder))
    file = folder / "train" / "cat" / "03.png"
    Image.new("RGB", (9, 9)).save(file)
    changed = open_data(str(folder))
    file.rename(file.with_name("99.png"))
    renamed = open_data(str(folder))

    digests = {dataset.train.sha256 for dataset in (before, changed, renamed)}
    assert len(digests) == 3
    assert before.test.sha256 == renamed.test.sha256


def test_other_files_are_skipped_and_counted(folder):
    (folder / "train" / "fish" / "Thumbs.db").write_text("x")
    (folder / "train" / "fish" / ".hidden.png").write_text("x")

    dataset = open_data(str(folder))

    assert dataset.train.n == 30
    assert any("skipped: 1" in note for note in dataset.notes)


def test_only_test_images(folder):
    (folder / "train").rename(folder.parent / "elsewhere")

    dataset = open_data(str(folder))

    assert dataset.test.n == 12
    assert "train/ folder" in refusal(lambda: split_of(dataset, "calibrate"))


def test_labels_txt_gives_the_order_of_the_classes(folder):
    (folder / "labels.txt").write_text("fish\nbird\ncat\ndog\n")

    bound = bind(open_data(str(folder)), *specs(classes=4))

    assert bound.labels == ("fish", "bird", "cat", "dog")
    np.testing.assert_array_equal(bound.test.read(np.array([0, 4, 8])).targets, [1, 2, 0])
    (folder / "labels.txt").write_text("fish\nbird\n")
    assert "'cat'" in refusal(lambda: open_data(str(folder)))
    (folder / "labels.txt").write_text("fish\nbird\ncat\nfish\n")
    assert "'fish' stands twice" in refusal(lambda: open_data(str(folder)))


def test_folders_without_classes(folder):
    (folder / "empty").mkdir()
    assert "holds no pictures" in refusal(lambda: open_data(str(folder / "empty")))
    (folder / "empty" / "train" / "cat").mkdir(parents=True)
    assert "train split is empty" in refusal(lambda: open_data(str(folder / "empty")))


def test_class_folders_without_a_picture_are_told_as_what_they_are(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()

    told = refusal(lambda: open_data(str(tmp_path)))

    assert "holds no pictures, nor class folders of them" in told
    assert "It holds cat/, dog/." in told


def test_a_model_in_the_place_of_data_is_told_to_go_first(tmp_path):
    model = tmp_path / "cnn.keras"
    model.write_bytes(b"PK")

    told = refusal(lambda: open_data(str(model)))

    assert "is a model, not data" in told
    assert f"Give the model first: {model} --data DATA" in told


def test_class_folders_in_no_split_are_divided_class_by_class(folder):
    dataset = open_data(str(folder / "train"))
    scored = open_data(str(folder / "train"), needed="test")

    assert (dataset.train.n, dataset.test.n, dataset.labels) == (24, 6, CLASSES)
    test = bind(dataset, *specs()).test.read(np.arange(6))
    assert np.bincount(test.targets).tolist() == [2, 2, 2]
    assert dataset.notes[0].startswith("6 of 30 samples were drawn for testing, since there is no")
    assert (scored.train, scored.test.n) == (None, 30)


def test_a_validation_folder_is_the_test_split_where_there_is_none(folder):
    shutil.copytree(folder / "test", folder / "validation")

    both = open_data(str(folder))
    assert (both.test.n, both.notes[0]) == (
        12,
        "Not used: validation/. test/ is the test split.",
    )
    shutil.rmtree(folder / "test")
    alone = open_data(str(folder))
    assert (alone.train.n, alone.test.n) == (30, 12)
    assert "no test split: validation/ serves as one" in alone.notes[0]
    # An empty one stands in for nothing.
    shutil.rmtree(folder / "validation")
    (folder / "val").mkdir()
    assert open_data(str(folder)).test is None
    assert open_data(str(folder), split=0.2).test.n == 6


def test_pictures_without_classes_are_compared_and_not_scored(folder):
    flat = folder / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((folder / "train").glob("*/*.png"))):
        shutil.copy(path, flat / f"{number}.png")
    (flat / "labels.txt").write_text("not used\n")

    bound = bind(open_data(str(flat)), *specs())

    assert (bound.train.n, bound.test.n, bound.task, bound.labels) == (30, 30, None, None)
    assert bound.test.read(np.arange(30)).inputs["image"].shape == (30, 8, 8, 3)
    assert any("take the same ones" in note for note in bound.notes)
    assert not any("also in train" in note for note in bound.notes)
    divided = open_data(str(flat), split=0.2)
    assert (divided.train.n, divided.test.n) == (24, 6)
    # In split folders they stay there.
    (folder / "apart" / "train").mkdir(parents=True)
    (folder / "apart" / "val").mkdir()
    shutil.copy(flat / "0.png", folder / "apart" / "train")
    shutil.copy(flat / "1.png", folder / "apart" / "val")
    apart = bind(open_data(str(folder / "apart")), *specs())
    assert (apart.train.n, apart.test.n, apart.task) == (1, 1, None)


def test_models_that_do_not_take_the_images(folder):
    dataset = open_data(str(folder))
    vector = [TensorSpec(name="v", shape=(1, 12), dtype="float32")]

    assert "one input" in refusal(lambda: bind(dataset, vector, specs()[1]))
    text = refusal(lambda: bind(dataset, *specs(classes=5)))
    assert "3 classes" in text
    assert "has 5" in text
    assert "labels.txt" in text


def test_the_same_images_on_both_sides(folder):
    for name in CLASSES:
        for i in range(4):
            file = folder / "train" / name / f"{i:02d}.png"
            (folder / "test" / name / f"{i:02d}.png").write_bytes(file.read_bytes())

    bound = bind(open_data(str(folder)), *specs())

    assert any("12 of 12 test samples (100.0%) are also in train" in n for n in bound.notes)


def test_a_folder_of_good_and_bad_parts_feeds_an_autoencoder(folder):
    for split in ("train", "test"):
        (folder / split / "fish").rename(folder.parent / f"{split}-fish")
    inputs, _ = specs()
    output = [TensorSpec(name="rebuilt", shape=(1, 8, 8, 3), dtype="float32")]

    bound = bind(open_data(str(folder)), inputs, output)

    assert bound.task == "reconstruction"
    assert bound.train.read(np.arange(2)).targets is None
    np.testing.assert_array_equal(bound.test.read(np.arange(8)).targets, [0] * 4 + [1] * 4)
    assert any("'cat'" in note for note in bound.notes)


def test_a_picture_damaged_inside_is_named_when_it_is_reached(folder):
    # Given a picture with its beginning and its end, and other bytes between them
    file = folder / "test" / "cat" / "02.png"
    content = bytearray(file.read_bytes())
    content[60:80] = b"x" * 20
    file.write_bytes(content)

    bound = bind(open_data(str(folder)), *specs())

    said = refusal(lambda: list(bound.test.batches(4)))
    assert f"{file} cannot be decoded." in said
    assert "Replace the file or remove it." in said
    bound.train.read(np.arange(30))
    file.unlink()
    assert len(list(bind(open_data(str(folder)), *specs()).test.batches(4))) == 3


def test_what_cannot_be_read_is_left_out_counted_and_named(folder):
    # Given a broken link, an empty file, a text, a PNG and a JPEG cut short, a pipe
    red = folder / "test" / "fish"
    (red / "10.png").symlink_to("nowhere.png")
    (red / "11.png").write_bytes(b"")
    (red / "12.png").write_text("no picture at all")
    (red / "13.png").write_bytes((red / "00.png").read_bytes()[:60])
    Image.new("RGB", (64, 64)).save(red / "14.jpg")
    (red / "14.jpg").write_bytes((red / "14.jpg").read_bytes()[:-30])
    os.mkfifo(red / "15.png")
    # and pictures with something behind their end, which are whole
    whole = red / "16.png"
    whole.write_bytes((red / "00.png").read_bytes() + b"more")
    (red / "17.bmp").symlink_to(folder / "test" / "cat" / "00.png")

    dataset = open_data(str(folder))

    assert dataset.test.n == 14
    (note,) = [note for note in dataset.notes if "left out" in note]
    assert note.startswith("6 of 20 files in test were left out: ")
    assert "fish/10.png (broken link)" in note
    assert "fish/15.png (no regular file)" in note
    assert note.endswith("and 3 more.")
    for name in ("10", "15"):
        (red / f"{name}.png").unlink()
    (note,) = [note for note in open_data(str(folder)).notes if "left out" in note]
    assert "fish/11.png (empty), fish/12.png (no picture that Pillow reads)" in note
    assert len(list(bind(dataset, *specs()).test.batches(14))) == 1


def test_a_split_of_which_nothing_can_be_read(folder):
    for file in (folder / "test").rglob("*.png"):
        file.write_bytes(b"")

    said = refusal(lambda: open_data(str(folder)))

    assert "12 of 12 files in test were left out: bird/00.png (empty)" in said


def test_subfolders_and_links_to_folders_belong_to_their_class(folder):
    # Given pictures in a subfolder, in a folder elsewhere, and a link that leads back
    bird = folder / "test" / "bird"
    (bird / "wild" / "deep").mkdir(parents=True)
    (bird / "00.png").rename(bird / "wild" / "deep" / "00.png")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (bird / "01.png").rename(elsewhere / "01.png")
    (bird / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(bird)
    (bird / "itself").symlink_to("itself")
    (bird / ".thumbnails").mkdir()
    (bird / ".thumbnails" / "09.png").write_bytes((bird / "02.png").read_bytes())

    dataset = open_data(str(folder))

    files = [os.path.relpath(file, folder / "test") for file in dataset.test.read.store.files]
    assert files[:4] == [
        "bird/02.png",
        "bird/03.png",
        "bird/linked/01.png",
        "bird/wild/deep/00.png",
    ]
    np.testing.assert_array_equal(dataset.test.read.targets, np.repeat([0, 1, 2], 4))
    (note,) = [note for note in dataset.notes if "left out" in note]
    assert "bird/itself (broken link)" in note


def test_folders_that_cannot_be_entered_are_named(folder, monkeypatch):
    # Given a class that is a broken link, one that links to itself, and a locked subfolder
    (folder / "test" / "dog").symlink_to("nowhere")
    (folder / "test" / "emu").symlink_to("emu")
    (folder / "test" / "cat" / "locked").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):  # root may read everything
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)

    dataset = open_data(str(folder))

    assert (dataset.labels, dataset.test.n) == (CLASSES, 12)
    (note,) = [note for note in dataset.notes if "left out" in note]
    assert "dog (broken link), emu (broken link), cat/locked (Permission denied)" in note


@pytest.mark.tensorflow
def test_files_and_classes_are_listed_as_by_keras(folder, repository):
    # Given subfolders, a link, a folder without pictures, and other files
    test = folder / "test"
    (test / "ant").mkdir()
    (test / "cat" / "b" / "a").mkdir(parents=True)
    (test / "cat" / "b0").mkdir()
    for place in ("cat/b/z.png", "cat/b/a/z.png", "cat/b0/Z.png", "cat/b.png", "fish/0.jpg"):
        Image.new("RGB", (8, 8)).save(test / place)
    (test / "fish" / "notes.txt").write_text("x")
    (test / "fish" / "more").symlink_to(folder / "train" / "fish")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository / "tests" / "sources"))
        with Worker() as worker:
            paths, classes, names = worker.run(keras_pictures.list_as_keras, folder=test)

    dataset = open_data(str(folder))

    ours = [os.path.relpath(file, test) for file in dataset.test.read.store.files]
    assert ours == paths
    assert dataset.test.read.targets.tolist() == classes
    assert dataset.labels == tuple(names) == ("ant", "bird", "cat", "fish")


def test_an_empty_class_folder_keeps_its_place_or_is_named(folder):
    for split in ("train", "test"):
        (folder / split / "ant").mkdir()

    # Where the model has a class for it, all is as in Keras;
    bound = bind(open_data(str(folder)), *specs(classes=4))
    assert bound.labels == ("ant", *CLASSES)
    assert bound.test.read(np.arange(1)).targets.tolist() == [1]
    assert any("without pictures: ant (each keeps its place" in note for note in bound.notes)
    # else it is named, not the class that it moved out of the model's,
    said = refusal(lambda: bind(open_data(str(folder)), *specs(classes=3)))
    assert "4 classes, the model has 3" in said
    assert "without pictures: ant" in said
    # and either way out works.
    (folder / "labels.txt").write_text("bird\ncat\nfish\n")
    assert bind(open_data(str(folder)), *specs()).labels == CLASSES
    (folder / "labels.txt").unlink()
    for split in ("train", "test"):
        (folder / split / "ant").rmdir()
    bound = bind(open_data(str(folder)), *specs())
    assert bound.test.read(np.arange(1)).targets.tolist() == [0]


def test_a_class_without_pictures_in_one_split_is_a_class(folder):
    shutil.rmtree(folder / "test" / "bird")
    (folder / "test" / "bird").mkdir()

    bound = bind(open_data(str(folder)), *specs())

    assert bound.labels == CLASSES
    assert bound.test.read(np.arange(1)).targets.tolist() == [1]


@pytest.mark.parametrize(
    "content",
    [
        "\ufefffish\r\nbird \r\ncat\r\n\r\n".encode(),
        "fish\nbird\ncat\n".encode("utf-16"),
        b"0 fish\n1 bird\n2 cat\n",
        b"2: cat\n0: fish\n1: bird",
        b"0\tfish\n\n1\tbird\n2\tcat\n\n",
    ],
)
def test_labels_txt_as_other_programs_write_it(folder, content):
    (folder / "labels.txt").write_bytes(content)

    assert open_data(str(folder)).labels == ("fish", "bird", "cat")
    assert edgekit_runner.read_labels(str(folder / "labels.txt")) == ["fish", "bird", "cat"]


def test_labels_txt_in_another_encoding_is_refused_on_both_sides(folder):
    (folder / "labels.txt").write_bytes("bird\ncat\nf\u00eate\n".encode("latin-1"))

    assert "UTF-8" in refusal(lambda: open_data(str(folder)))
    with pytest.raises(edgekit_runner.RunnerError) as caught:
        edgekit_runner.read_labels(str(folder / "labels.txt"))
    assert caught.value.code == 4
    assert "UTF-8" in caught.value.lines[-1]


@pytest.mark.parametrize("value", [1, "yes", "false"])
def test_orientation_is_true_or_false(folder, value):
    spec = {"kind": "image", "orientation": value}

    assert "orientation: true or false" in refusal(
        lambda: open_data(str(folder), preprocessing=spec)
    )

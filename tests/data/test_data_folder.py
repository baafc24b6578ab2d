"""Folders of images: streamed, resized by the runner's code, broken files named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgekit.data import bind, open_data, split_of, training_split
from edgekit.data.pixels import names_scaling
from edgekit.errors import DataError
from edgekit.records import TensorSpec
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


def test_a_corrupt_image_in_the_middle_is_named_when_it_is_reached(folder):
    file = folder / "test" / "cat" / "02.png"
    file.write_bytes(file.read_bytes()[:60])

    bound = bind(open_data(str(folder)), *specs())

    assert str(file) in refusal(lambda: list(bound.test.batches(4)))
    bound.train.read(np.arange(30))


def test_the_first_image_of_each_class_is_decoded_at_bind(folder):
    file = folder / "test" / "fish" / "00.png"
    file.write_text("not an image at all")

    assert str(file) in refusal(lambda: bind(open_data(str(folder)), *specs()))


def test_empty_files_are_named_at_once(folder):
    (folder / "train" / "fish" / "07.png").write_bytes(b"")

    assert "07.png is empty" in refusal(lambda: open_data(str(folder)))


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
    assert "no class folders" in refusal(lambda: open_data(str(folder / "train")))
    (folder / "empty").mkdir()
    assert "no class folders" in refusal(lambda: open_data(str(folder / "empty")))
    (folder / "empty" / "train" / "cat").mkdir(parents=True)
    assert "train split is empty" in refusal(lambda: open_data(str(folder / "empty")))


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

    assert "12 of 12 test samples" in refusal(lambda: bind(open_data(str(folder)), *specs()))


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

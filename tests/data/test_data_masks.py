"""Pictures and masks in two folders: class numbers, at the size of the model's output."""

from __future__ import annotations

import shutil

import annotated_pictures as made
import numpy as np
import pytest
from PIL import Image

from edgekit.data import bind, open_data
from edgekit.errors import DataError
from edgekit.records import TensorSpec


def specs(height=10, width=12, classes=3, stride=1):
    shape = (1, height // stride, width // stride, classes)
    return (
        [TensorSpec(name="x", shape=(1, height, width, 3), dtype="float32")],
        [TensorSpec(name="y", shape=shape, dtype="float32")],
    )


def mask(path, values, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8), "L")
    if palette:
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([7, 9, 11, 250, 0, 0, 0, 0, 250])
    image.save(path)


def blocks(height=20, width=24, value=2):
    """Class `value` in the lower right quarter, class 1 in the upper left one."""
    values = np.zeros((height, width), np.uint8)
    values[height // 2 :, width // 2 :] = value
    values[: height // 2, : width // 2] = 1
    return values


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "fields"
    for split, names in (("train", "abc"), ("test", "de")):
        for place, name in enumerate(names):
            made.picture(root / "images" / split / f"{name}.jpg", 24, 20)
            mask(root / "masks" / split / f"{name}.png", blocks(), palette=place == 1)
    return root


def refusal(action):
    with pytest.raises(DataError) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_masks_come_in_the_size_of_the_output(folder):
    dataset = open_data(str(folder))

    whole = bind(dataset, *specs()).test.read(np.arange(2))
    half = bind(dataset, *specs(stride=2)).test.read(np.arange(2))

    np.testing.assert_array_equal(whole.targets, [blocks(10, 12)] * 2)
    np.testing.assert_array_equal(half.targets, [blocks(5, 6)] * 2)
    assert whole.inputs["x"].shape == (2, 10, 12, 3)
    assert dataset.task == "segmentation"
    assert dataset.notes == ()
    assert dataset.origins == ("Masks were read from the folder masks.",)


def test_masks_are_cut_out_as_pictures_are(folder):
    spec = {"kind": "image", "fit": "crop", "scale": 1}
    columns = np.repeat(np.arange(24)[None] % 3, 20, axis=0)
    mask(folder / "masks" / "test" / "d.png", columns)
    pixels = np.repeat(columns[..., None] * 80, 3, axis=2).astype(np.uint8)
    (folder / "images" / "test" / "d.jpg").unlink()
    Image.fromarray(pixels).save(folder / "images" / "test" / "d.png")

    bound = bind(open_data(str(folder), preprocessing=spec), *specs(20, 20))

    read = bound.test.read(np.array([0]))
    np.testing.assert_array_equal(read.inputs["x"][0, :, :, 0], read.targets[0] * 80)


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_mask_of_a_picture_as_stored_is_turned_with_it(orientation, folder):
    made.picture(folder / "images" / "test" / "d.jpg", 24, 20, orientation)
    made.picture(folder / "images" / "test" / "e.jpg", 24, 20, orientation)
    mask(folder / "masks" / "test" / "e.png", blocks(24, 20))

    bound = bind(open_data(str(folder)), *specs(24, 20))

    found = bound.test.read(np.arange(2)).targets
    # One mask is of the picture as stored, the other of the picture upright.
    np.testing.assert_array_equal(found[0], np.rot90(blocks(), {6: -1, 8: 1}[orientation]))
    np.testing.assert_array_equal(found[1][:12, :10], blocks(24, 20)[:12, :10])


def test_what_does_not_belong_together_is_left_out_and_named(folder):
    mask(folder / "masks" / "train" / "a.png", blocks(8, 8))
    (folder / "masks" / "train" / "b.png").unlink()
    mask(folder / "masks" / "train" / "z.png", blocks())
    shutil.copy(folder / "masks" / "train" / "c.png", folder / "masks" / "train" / "c_mask.png")
    (folder / "masks" / "train" / "c.png").unlink()
    (folder / "masks" / "test" / "d.png").write_bytes(b"\x89PNG")

    dataset = open_data(str(folder))

    assert (dataset.train.n, dataset.test.n) == (1, 1)
    said = str(dataset.notes)
    assert "images/train/a.jpg (the mask has 8x8 pixels, the picture 24x20)" in said
    assert "images/train/b.jpg (no mask)" in said
    assert "images/test/d.jpg (d.png: " in said
    assert "Masks without a picture in train: 1 (masks/train/z.png)." in said


def test_without_any_mask_that_fits_the_folder_is_refused(folder):
    for path in (folder / "masks" / "test").iterdir():
        path.unlink()
    mask(folder / "masks" / "test" / "other.png", blocks())

    message = refusal(lambda: open_data(str(folder)))

    assert "2 of 2 files in test were left out: images/test/d.jpg (no mask)" in message


def test_colours_and_unknown_classes_are_refused_by_name(folder):
    colours = np.zeros((20, 24, 3), np.uint8)
    Image.fromarray(colours).save(folder / "masks" / "test" / "e.png")
    grey = bind(open_data(str(folder)), *specs()).test.read(np.array([1])).targets
    colours[3, 3] = (255, 0, 0)
    Image.fromarray(colours).save(folder / "masks" / "test" / "e.png")

    message = refusal(lambda: bind(open_data(str(folder)), *specs()))

    assert (grey == 0).all()
    assert "e.png cannot be read" in message
    assert "colours, not class numbers" in message
    mask(folder / "masks" / "test" / "e.png", blocks(value=9))
    assert "class 9, the model has 3" in refusal(lambda: bind(open_data(str(folder)), *specs()))


def test_masks_of_0_and_255_and_of_one_bit(folder):
    for split in ("train", "test"):
        for path in (folder / "masks" / split).iterdir():
            Image.fromarray(blocks() > 0).save(path)
    one_bit = bind(open_data(str(folder)), *specs(classes=1)).test.read(np.arange(1)).targets
    for path in (folder / "masks" / "test").iterdir():
        mask(path, np.where(blocks() > 0, 255, 0))

    bound = bind(open_data(str(folder)), *specs(classes=1))

    np.testing.assert_array_equal(one_bit[0], blocks(10, 12) > 0)
    np.testing.assert_array_equal(bound.test.read(np.arange(1)).targets, one_bit)
    assert any("255 was read as 1" in note for note in bound.notes)


def test_folders_by_split_and_none(folder, tmp_path):
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            shutil.copytree(folder / kind / split, tmp_path / "by" / split / kind)
    shutil.copytree(folder / "images" / "train", tmp_path / "flat" / "images")
    shutil.copytree(folder / "masks" / "train", tmp_path / "flat" / "masks")
    (tmp_path / "flat" / "labels.txt").write_text("none\nleaf\nstem\n")

    by, flat = (open_data(str(tmp_path / name), split=None) for name in ("by", "flat"))

    assert (by.train.n, by.test.n) == (3, 2)
    assert (flat.train.n, flat.test.n, flat.labels) == (2, 1, ("none", "leaf", "stem"))


@pytest.mark.data
def test_real_nuclei(shared_data):
    dataset = open_data(str(shared_data / "nuclei"))
    inputs = [TensorSpec(name="x", shape=(1, 64, 64, 1), dtype="float32")]
    outputs = [TensorSpec(name="y", shape=(1, 64, 64, 1), dtype="float32")]

    bound = bind(dataset, inputs, outputs)

    read = bound.test.read(np.arange(bound.test.n))
    assert (dataset.train.n, dataset.test.n) == (267, 67)
    assert set(np.unique(read.targets)) == {0, 1}
    assert 0.05 < read.targets.mean() < 0.12
    # Nuclei shine: pixels in the masks are brighter.
    pixels = read.inputs["x"][..., 0]
    assert pixels[read.targets == 1].mean() > 3 * pixels[read.targets == 0].mean()


@pytest.mark.parametrize("splits", [("train", "test"), ("",)])
def test_masks_beside_their_pictures(splits, tmp_path):
    """Given `x.jpg` and `x_mask.png` in one folder, then they belong together."""
    for split in splits:
        for name in "abc":
            made.picture(tmp_path / "fields" / split / f"{name}.jpg", 24, 20)
            mask(tmp_path / "fields" / split / f"{name}_mask.png", blocks())

    dataset = open_data(str(tmp_path / "fields"))

    assert dataset.task == "segmentation"
    assert dataset.origins == ("Masks were read from files *_mask beside their pictures.",)
    read = bind(dataset, *specs()).test.read(np.arange(1))
    np.testing.assert_array_equal(read.targets, [blocks(10, 12)])
    assert dataset.train.n + dataset.test.n == 3 * len(splits)


def test_a_class_that_the_model_lacks_is_named_with_its_file(folder):
    mask(folder / "masks" / "test" / "e.png", blocks(value=7))

    message = refusal(lambda: bind(open_data(str(folder)), *specs()))

    assert "the mask of sample 1 has class 7, the model has 3 classes." in message
    assert f"The file is {folder / 'masks/test/e.png'}. They hold 0, 1, 2, 7." in message
    assert "Number the classes from 0" in message


@pytest.mark.parametrize("ending", ["jpg", "JPEG"])
def test_masks_that_were_compressed_with_losses_are_told(folder, ending):
    """Given a mask as JPEG, whose values are no longer those saved, then PNG is advised."""
    (folder / "masks" / "test" / "e.png").unlink()
    values = np.kron(np.arange(25).reshape(5, 5) % 3 * 40, np.ones((4, 5))).astype(np.uint8)
    Image.fromarray(values[:, :24], "L").save(folder / "masks" / "test" / f"e.{ending}", "JPEG")

    dataset = open_data(str(folder))
    message = refusal(lambda: bind(dataset, *specs()))

    told = "JPEG changes class values, save masks as PNG."
    assert any(f"(1, masks/test/e.{ending}): {told}" in note for note in dataset.notes)
    assert f"e.{ending}. They hold" in message
    assert told in message

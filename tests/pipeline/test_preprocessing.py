"""How pixels reach a model is settled in one place; what is advised, is right when followed."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from edgekit.cli.option_values import preprocessing_of
from edgekit.data import bind, open_data
from edgekit.data.formats.arrays import open_arrays
from edgekit.data.pixels import BYTES, CAFFE, SCALINGS, SIGNED, UNIT
from edgekit.data.preprocessing import check_preprocessing
from edgekit.data.store import whole
from edgekit.errors import DataError
from edgekit.pipeline.pixel_trial import ImageModel, try_changes
from edgekit.pipeline.preprocessing import settle, settled_as, settled_spec
from edgekit.records import Dataset, InputScaling, TensorSpec
from edgekit_runner import Preprocessor, Tensor, preprocess

LEVELS = np.array([40, 100, 160, 220])
SIDE = 10
PICTURE = {"height": SIDE, "width": SIDE, "channels": 3}


def samples(n, seed):
    """Gray pictures of four levels, with noise, and their classes."""
    random = np.random.default_rng(seed)
    classes = np.arange(n) % len(LEVELS)
    noise = random.integers(-15, 16, (n, SIDE, SIDE, 3))
    return (LEVELS[classes][:, None, None, None] + noise).astype(np.uint8), classes


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for split, n in (("train", 80), ("test", 20)):
        for i, (pixels, number) in enumerate(zip(*samples(n, len(split)), strict=True)):
            folder = root / split / "abcd"[number]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return root


def arrays(scaling=None, **changes):
    """A data set of arrays, opened and not bound."""
    given = {}
    for split, n in (("train", 80), ("test", 20)):
        pixels, classes = samples(n, len(split))
        given |= {f"x_{split}": scaling.apply(pixels) if scaling else pixels, f"y_{split}": classes}
    opened = open_arrays(given | changes, "made", "made")
    spec = opened.preprocessing
    return Dataset(
        name="made",
        task=None,
        train=whole("train", opened.train, spec),
        calibrate=None,
        test=whole("test", opened.test, spec),
        preprocessing=spec,
    )


def model(scaling, said=None, *, runs=True):
    """A model that tells the levels apart in pixels so scaled; `said` are its first operators."""
    spec = {"scale": 1.0, "mean": 0.0, "std": 1.0, **scaling.spec}

    def predict(inputs):
        assert runs, "nothing had to be tried"
        (values,) = inputs.values()
        pixels = (values * np.array(spec["std"]) + np.array(spec["mean"])) / spec["scale"]
        distance = np.abs(pixels.mean(axis=(1, 2, 3))[:, None] - LEVELS)
        return {"level": -distance}

    return ImageModel(
        name="m",
        inputs=[TensorSpec(name="image", shape=(1, SIDE, SIDE, 3), dtype="float32")],
        outputs=[TensorSpec(name="level", shape=(1, 4), dtype="float32")],
        predict=predict,
        read_scaling=lambda: said,
    )


RESCALES = InputScaling(scale=(1 / 255,))


def share_right(dataset, source):
    bound = bind(dataset, source.inputs, source.outputs)
    batch = bound.test.read(np.arange(bound.test.n))
    found = source.predict(batch.inputs)["level"].argmax(axis=1)
    return float(np.mean(found == batch.targets))


# --- Image files ---


def test_the_model_says_which_pixels_it_takes(photos):
    source = model(BYTES, RESCALES, runs=False)

    settled = settle(open_data(str(photos)), source)

    assert share_right(settled, model(BYTES)) == 1
    assert settled.preprocessing_reason.startswith("0..255 (pixels as they are): the model scales")
    assert settled.notes == ()


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_where_it_does_not_say_training_images_tell(photos, scaling):
    settled = settle(open_data(str(photos)), model(scaling))

    assert share_right(settled, model(scaling)) == 1
    said = settled.preprocessing_reason
    assert said.startswith(f"{scaling} chosen: 100 % of 64 training images, the others at most")


def declared(text):
    """Read the last declaration of a hint, as the command line reads it."""
    *_, option = re.findall(r"--preprocess '(.*?)'", text)
    return preprocessing_of(option)


@pytest.mark.parametrize("train", [True, False], ids=["tied", "no training images"])
def test_where_nothing_tells_the_user_is_asked(photos, train):
    # Given a model that is as good as a guess on all of them, or none to try on
    if train:
        source = model(UNIT)
        source = ImageModel(
            name="m",
            inputs=source.inputs,
            outputs=source.outputs,
            predict=lambda inputs: {"level": np.eye(4)[np.zeros(len(inputs["image"]), int)]},
            read_scaling=lambda: None,
        )
    else:
        (photos / "train").rename(photos.parent / "elsewhere")
        source = model(UNIT)
    # When it is used, then there is an error that says what was tried,
    with pytest.raises(DataError) as caught:
        settle(open_data(str(photos)), source)
    assert len(str(caught.value).splitlines()) <= 3
    if train:
        assert "0..255 28 %" in caught.value.found
        assert "guessing 28 %" in caught.value.found
    # and a hint that works.
    spec = declared(caught.value.hint.partition(" (0..1)")[0])
    settled = settle(open_data(str(photos), preprocessing=spec), source)
    assert share_right(settled, model(UNIT)) == 1
    assert settled.preprocessing_reason == "0..1 (pixel / 255), as declared."


@pytest.fixture
def masked(tmp_path):
    """Pictures with a bright left part, and masks of it."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "train" / folder).mkdir(parents=True)
    for i in range(40):
        there = np.arange(SIDE) < 2 + i % 7
        pixels = np.where(there, 150, 60) + random.integers(-30, 31, (SIDE, SIDE))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "train" / "images" / f"{i}.png")
        mask = np.tile(there, (SIDE, 1)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "train" / "masks" / f"{i}.png")
    return tmp_path


def segmenter(scaling, **more):
    """A model that tells pixels from 105 on, in pixels so scaled."""
    limit = scaling.apply(np.array([[105.0]], np.float32))[0, 0]
    return ImageModel(
        name="m",
        inputs=[TensorSpec(name="image", shape=(1, SIDE, SIDE, 1), dtype="float32")],
        outputs=[TensorSpec(name="mask", shape=(1, SIDE, SIDE, 2), dtype="float32")],
        predict=lambda inputs: {"mask": np.concatenate([limit - inputs["image"]] * 2, 3) * [1, -1]},
        read_scaling=lambda: None,
        **more,
    )


def test_masks_tell_the_scaling_by_their_mean_iou(masked):
    # Given pictures with masks, and a model that does not say how it takes pixels
    # When it is settled
    settled = settle(open_data(str(masked)), segmenter(SIGNED))
    # Then the scaling is that whose masks are right, with the score of the task
    assert settled.preprocessing["scale"] == pytest.approx(1 / 127.5)
    reason = settled.preprocessing_reason
    assert re.search(r"chosen: mean IoU (0\.9\d*|1) on \d+ training images, the others at", reason)


def test_masks_that_no_scaling_tells_are_said_with_their_scores(masked):
    source = segmenter(UNIT)
    useless = dataclasses.replace(source, predict=lambda x: {"mask": np.repeat(x["image"], 2, 3)})
    with pytest.raises(DataError) as caught:
        settle(open_data(str(masked)), useless)
    assert re.search(r"clearly best on \d+ .*: 0\.\.255 mean IoU .*, guessing", caught.value.found)


@pytest.mark.parametrize("scaling", [UNIT, SIGNED])
def test_boxes_tell_the_scaling_by_their_map(tmp_path, scaling):
    # Given pictures with a bright box each, and a detector of bright pixels
    random = np.random.default_rng(1)
    pixels = random.integers(0, 60, (48, 12, 12, 3)).astype(np.uint8)
    boxes = np.zeros((48, 1, 5), np.float32)
    for i, (x, y) in enumerate(random.integers(0, 6, (48, 2))):
        pixels[i, y : y + 6, x : x + 6] += 100
        boxes[i, 0, :4] = np.array([x, y, x + 6, y + 6]) / 12
    np.savez(tmp_path / "boxes.npz", x_train=pixels, y_train=boxes, x_test=pixels, y_test=boxes)
    limit = scaling.apply(np.full((1, 1), 80, np.float32))[0, 0]

    def predict(inputs):
        found = np.zeros((len(inputs["image"]), 60, 5), np.float32)
        for row, bright in zip(found, inputs["image"].mean(axis=3) > limit, strict=True):
            if 0 < bright.sum() < 100:
                ys, xs = np.nonzero(bright)
                low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()]) + 1
                row[0] = [*(low + high) / 24, *(high - low) / 12, 0.9]
        return {"boxes": found}

    source = ImageModel(
        name="m",
        inputs=[TensorSpec(name="image", shape=(1, 12, 12, 3), dtype="float32")],
        outputs=[TensorSpec(name="boxes", shape=(1, 60, 5), dtype="float32")],
        predict=predict,
        read_scaling=lambda: None,
    )
    opened = open_data(str(tmp_path / "boxes.npz"), task="detection")
    head = {"kind": "yolo", "unit": "fraction"}
    # When it is settled
    settled = settle(dataclasses.replace(opened, head=head), source)
    # Then the scaling is that with the best mAP
    assert settled.preprocessing["scale"] == pytest.approx(scaling.spec["scale"])
    assert f"{scaling.name} (" in settled.preprocessing_reason
    assert re.search(r": mAP (0\.9\d*|1) on 48 training images", settled.preprocessing_reason)


def test_what_training_stored_is_used_without_a_trial(masked):
    # Given a model whose file says how it was trained
    stored = {"kind": "image", "scale": 1 / 127.5, "mean": 1.0, "fit": "crop"}
    source = dataclasses.replace(segmenter(UNIT, trained_on=stored), predict=None)
    # When data are settled for it, then they are read so, and the reason says where that is from
    settled = settle(open_data(str(masked)), source)
    assert settled.preprocessing["mean"] == 1.0
    assert settled.preprocessing["fit"] == "crop"
    assert settled.preprocessing_reason.endswith("as edgekit stored it in m in training.")
    # and a manifest, which is of the very file, goes first
    told = settle(open_data(str(masked)), source, {"preprocessing": {"kind": "image", "scale": 1}})
    assert told.preprocessing_reason.endswith("as the manifest says.")
    broken = dataclasses.replace(source, trained_on={"kind": "image", "skale": 1})
    with pytest.raises(DataError, match="m: unknown key 'skale'"):
        settle(open_data(str(masked)), broken)


def test_what_is_declared_is_done_and_a_contradiction_said(photos):
    # Given a declared scaling in the way of the model's own
    (photos / "preprocessing.toml").write_text('kind = "image"\nscale = 0.00392156863\n')
    source = model(BYTES, RESCALES)
    # When it is used
    settled = settle(open_data(str(photos)), source)
    # Then it is used all the same, and both are named with what they score;
    (note,) = settled.notes
    assert "0..1 (pixel / 255), as declared" in note
    assert "takes 0..255" in note
    assert "100 % instead of 28 %" in note
    before = share_right(settled, source)
    # the advice, followed, raises the score.
    spec = declared(note)
    assert spec["kind"] == "image"
    after = settle(open_data(str(photos), preprocessing=spec), source)
    assert (before, share_right(after, source)) == (0.25, 1)
    assert after.notes == ()


def test_a_declared_size_is_no_declared_scale(photos):
    (photos / "preprocessing.toml").write_text('kind = "image"\nheight = 10\nwidth = 10\n')

    settled = settle(open_data(str(photos)), model(SIGNED))

    assert share_right(settled, model(SIGNED)) == 1


def test_a_manifest_says_it_for_a_file_made_before(photos):
    described = {"preprocessing": {"kind": "none"}, "picture": {"kind": "image", **SIGNED.spec}}

    settled = settle(open_data(str(photos)), model(SIGNED, runs=False), described)

    assert share_right(settled, model(SIGNED)) == 1
    assert settled.preprocessing_reason.endswith("as the manifest says.")


# --- Arrays ---


@pytest.mark.parametrize("scaling", [UNIT, SIGNED], ids=str)
def test_bytes_are_scaled_where_that_is_clearly_better(scaling):
    settled = settle(arrays(), model(scaling))

    assert share_right(settled, model(scaling)) == 1
    assert settled.preprocessing.items() >= {"kind": "affine", **scaling.spec}.items()
    assert check_preprocessing(settled.preprocessing, "a test") == settled.preprocessing
    assert settled.picture.items() >= {**PICTURE, **scaling.spec}.items()
    assert any(f"Bytes 0-255 were scaled to {scaling}" in note for note in settled.notes)


@pytest.mark.parametrize("said", [None, RESCALES], ids=["by a trial", "by the model"])
def test_bytes_for_a_model_that_rescales_stay_bytes_without_advice(said):
    settled = settle(arrays(), model(BYTES, said))

    assert settled.preprocessing == {"kind": "none"}
    assert settled.picture.items() >= {**PICTURE, "scale": 1.0}.items()
    assert settled.notes == ()


def test_bytes_that_nothing_tells_of_stay_as_they_are():
    _, classes = samples(80, 5)
    data = arrays(y_train=np.random.default_rng(3).permutation(classes))

    settled = settle(data, model(UNIT))

    assert (settled.preprocessing, settled.picture) == ({"kind": "none"}, None)
    assert "unknown" in settled.preprocessing_reason
    (note,) = settled.notes
    assert "no scaling is clearly best on 64 training images" in note
    assert declared(note) == {"kind": "image", "scale": pytest.approx(1 / 255)}


def test_bytes_for_a_model_of_bgr_pixels_are_turned():
    settled = settle(arrays(), model(CAFFE))

    assert settled.preprocessing.items() >= {"kind": "image", "order": "bgr"}.items()
    assert share_right(settled, model(CAFFE)) == 1
    assert any(f"Bytes 0-255 were scaled to {CAFFE}" in note for note in settled.notes)


@pytest.mark.parametrize("scaling", [UNIT, SIGNED], ids=str)
def test_the_range_of_floats_says_how_a_picture_becomes_one(scaling):
    data = arrays(scaling)

    settled = settle(data, model(scaling, runs=False))

    assert settled.preprocessing == {"kind": "none"}
    assert settled.picture.items() >= {**PICTURE, "kind": "image", **scaling.spec}.items()
    assert settled.notes == ()


def test_standardized_floats_say_nothing():
    pixels, _ = samples(80, 5)

    settled = settle(arrays(x_train=(pixels - 120.0) / 60), model(UNIT, runs=False))

    assert settled.picture is None
    assert "unknown" in settled.preprocessing_reason


def test_of_arrays_that_say_nothing_the_manifest_tells_how_a_picture_becomes_one():
    # Given: standardized arrays, and the manifest of a file that takes pictures
    pixels, _ = samples(80, 5)
    described = {"preprocessing": {"kind": "none"}, "picture": {**PICTURE, **SIGNED.spec}}

    settled = settle(arrays(x_train=(pixels - 120.0) / 60), model(UNIT, runs=False), described)

    assert settled.picture == described["picture"]
    assert "pictures: -1..1" in settled.preprocessing_reason
    assert "unknown" not in settled.preprocessing_reason


def test_dark_pixels_are_what_the_model_says():
    pixels, _ = samples(80, 5)

    settled = settle(arrays(x_train=pixels / 2.0), model(BYTES, RESCALES, runs=False))

    assert settled.picture.items() >= {"scale": 1.0, "mean": 0.0}.items()


@pytest.mark.parametrize("scaling", [UNIT, SIGNED], ids=str)
def test_floats_in_the_way_of_the_models_own_scaling_are_said(scaling):
    source = model(BYTES, RESCALES)
    data = arrays(scaling)

    settled = settle(data, source)

    (note,) = settled.notes
    assert str(scaling) in note
    assert "takes 0..255" in note
    spec = declared(note)
    assert spec["kind"] == "affine"
    followed = Dataset(
        name="made",
        task=None,
        train=whole("train", data.train.read.store, spec),
        calibrate=None,
        test=whole("test", data.test.read.store, spec),
        preprocessing=spec,
    )
    after = settle(followed, source)
    assert share_right(settled, source) < share_right(after, source) == 1
    assert after.notes == ()


def test_what_was_settled_holds_for_the_same_data_opened_anew(photos):
    settled = settle(open_data(str(photos)), model(SIGNED))

    again = settled_as(open_data(str(photos)), settled)
    spec = settled_spec(settled, None)

    assert again.preprocessing == settled.preprocessing == spec
    assert settle(again, model(UNIT, runs=False)) is again
    assert settled_spec(settled, {"kind": "none"}) == {"kind": "none"}


# --- The trial ---


def test_regression_is_tried_by_its_errors():
    pixels, classes = samples(80, 5)
    data = arrays(y_train=LEVELS[classes] + 0.5, y_test=LEVELS[samples(20, 4)[1]] + 0.5)
    source = model(UNIT)
    source = ImageModel(
        name="m",
        inputs=source.inputs,
        outputs=[TensorSpec(name="level", shape=(1, 1), dtype="float32")],
        predict=lambda inputs: {"level": inputs["image"].mean(axis=(1, 2, 3))[:, None] * 255},
        read_scaling=lambda: None,
    )

    trial = try_changes(data, source, {s.name: s.apply for s in (BYTES, UNIT, SIGNED)})

    assert trial.best() == "0..1"
    assert "RMSE" in trial.words
    assert len(pixels) == 80


def test_few_samples_prove_nothing():
    data = arrays(
        **{f"{a}_train": values[:4] for a, values in zip("xy", samples(8, 5), strict=True)}
    )

    trial = try_changes(data, model(UNIT), {s.name: s.apply for s in (BYTES, UNIT)})

    assert (trial.n, trial.figure("0..1"), trial.best()) == (4, "100 %", None)


# --- On the device ---


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "quantization"), [(np.float32, (0.0, 0)), (np.int8, (2.0, -3))], ids=["float", "int8"]
)
def test_host_and_runner_prepare_photos_alike_bit_for_bit(photos, scaling, dtype, quantization):
    # Given photos of another size than the model's
    file = photos / "test" / "a" / "000.png"
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    settled = settle(open_data(str(photos)), model(scaling))
    bound = bind(settled, model(scaling).inputs, model(scaling).outputs)
    host = bound.test.read(np.arange(1)).inputs["image"]
    # When the runner prepares the same file by the manifest
    details = {"index": 0, "shape": (1, SIDE, SIDE, 3), "dtype": dtype}
    tensor = Tensor("image", {**details, "quantization": quantization})
    with Image.open(file) as image:
        there = Preprocessor(bound.preprocessing, tensor)(image)
    # Then both give the same codes.
    np.testing.assert_array_equal(there, tensor.codes(host))


def test_arrays_of_larger_pictures_are_resized_as_the_manifest_says():
    # Given: pictures as bytes, twice as large as the model's, and a manifest of one with photos
    large = {f"x_{split}": samples(n, len(split))[0] for split, n in (("train", 80), ("test", 20))}
    large = {key: values.repeat(2, axis=1).repeat(2, axis=2) for key, values in large.items()}
    spec = check_preprocessing({"kind": "image", **PICTURE, "scale": 1 / 255}, "manifest")
    source = model(UNIT, runs=False)
    # When
    settled = settle(arrays(**large), source, {"preprocessing": spec})
    # Then: each is what the runner makes of it
    got = bind(settled, source.inputs, source.outputs).test.read(np.arange(20)).inputs["image"]
    made = [preprocess(one, spec) for one in large["x_test"]]
    np.testing.assert_array_equal(got, np.stack(made))
    # And: floats are not
    floats = {key: values.astype(np.float32) for key, values in large.items()}
    with pytest.raises(DataError, match="Where they are pictures"):
        bind(
            settle(arrays(**floats), source, {"preprocessing": spec}), source.inputs, source.outputs
        )

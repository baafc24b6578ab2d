"""Preprocessing: the device computes the same as the host."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import edgekit_runner as runner_module

LOG_MEL = {
    "kind": "log-mel",
    "sample_rate": 8000,
    "samples": 8000,
    "frame": 256,
    "hop": 128,
    "bands": 40,
    "low_hz": 60,
    "high_hz": 3900,
    "floor": 1e-6,
}
PICTURES = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
SIZES = st.integers(1, 12)


def line(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, -1, 1)


def test_doubling_a_line_samples_at_half_pixel_centres_and_clamps_the_ends():
    # Centres of the four new pixels: -0.25 (clamped), 0.25, 0.75, 1.25 (clamped).
    assert runner_module.resize_bilinear(line(0, 100), 1, 4).ravel().tolist() == [0, 25, 75, 100]


def test_resize_truncates_and_does_not_round():
    assert runner_module.resize_bilinear(line(0, 1), 1, 4).ravel().tolist() == [0, 0, 0, 1]


def test_halving_a_line_of_stripes_does_not_average_them_away():
    # Centres at 0.5 + 4 k between a 0 and a 200; an antialiased filter would see all four.
    stripes = line(0, 200, 80, 80, 0, 200, 80, 80)
    assert runner_module.resize_bilinear(stripes, 1, 2).ravel().tolist() == [140, 140]


@given(PICTURES, SIZES, SIZES)
def test_resize_agrees_with_the_definition(picture, height, width):
    resized = runner_module.resize_bilinear(picture, height, width)

    def sample(y: int, x: int) -> np.ndarray:
        centre_y = (y + 0.5) * picture.shape[0] / height - 0.5
        centre_x = (x + 0.5) * picture.shape[1] / width - 0.5
        total = np.zeros(3)
        for row in (floor(centre_y), floor(centre_y) + 1):
            for column in (floor(centre_x), floor(centre_x) + 1):
                weight = (1 - abs(centre_y - row)) * (1 - abs(centre_x - column))
                inside_y = min(max(row, 0), picture.shape[0] - 1)
                inside_x = min(max(column, 0), picture.shape[1] - 1)
                total += weight * picture[inside_y, inside_x]
        return total

    expected = np.array([[sample(y, x) for x in range(width)] for y in range(height)])
    # Before truncation float32 is a few 1e-5 away; only values beside an integer may tip.
    assert np.all(resized >= np.floor(expected - 1e-3))
    assert np.all(resized <= np.floor(expected + 1e-3))


@given(PICTURES)
def test_grey_is_the_grey_of_pillow(picture):
    height, width, _ = picture.shape
    grey = runner_module.resize_image(picture, {"height": height, "width": width, "channels": 1})
    assert np.array_equal(grey[:, :, 0], np.asarray(Image.fromarray(picture).convert("L")))


@given(PICTURES, SIZES, SIZES)
@settings(max_examples=30)
def test_a_decoded_picture_and_its_pixels_are_prepared_alike(picture, height, width):
    spec = {"kind": "image", "height": height, "width": width, "channels": 3, "scale": 1 / 255}
    from_pixels = runner_module.preprocess(picture, spec)
    assert from_pixels.shape == (height, width, 3)
    assert from_pixels.dtype == np.float32
    assert np.array_equal(from_pixels, runner_module.preprocess(Image.fromarray(picture), spec))


def test_crop_takes_the_middle_of_a_wide_picture():
    wide = np.repeat(line(1, 1, 7, 7, 9, 9), 2, axis=0)
    spec = {"kind": "image", "height": 2, "width": 2, "channels": 1, "fit": "crop"}
    assert runner_module.preprocess_image(wide, spec).ravel().tolist() == [7, 7, 7, 7]


def test_bgr_turns_the_channels_round_before_they_are_normalized():
    red = np.array([[[255, 0, 0]]], np.uint8)
    spec = {"height": 1, "width": 1, "channels": 3, "order": "bgr", "mean": [1, 2, 3]}
    assert runner_module.preprocess_image(red, spec).ravel().tolist() == [-1, -2, 252]


def test_alpha_is_dropped_and_grey_fills_three_channels():
    spec = {"height": 1, "width": 1, "channels": 3}
    with_alpha = np.array([[[1, 2, 3, 4]]], np.uint8)
    assert runner_module.preprocess_image(with_alpha, spec).ravel().tolist() == [1, 2, 3]
    assert runner_module.preprocess_image(line(5)[0], spec).ravel().tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((2, 2, 5), np.uint8), "shape"),
        (np.zeros((0, 2, 3), np.uint8), "shape"),
        (np.zeros((2, 2, 3), np.float32), "of float32 where uint8 is expected"),
    ],
)
def test_what_is_no_picture_is_refused(pixels, words):
    with pytest.raises(ValueError, match=words):
        runner_module.preprocess_image(pixels, {"height": 2, "width": 2})


def test_affine_scales_then_subtracts_then_divides():
    spec = {"kind": "affine", "scale": 0.5, "mean": 3, "std": 2}
    assert runner_module.preprocess(np.array([10, 6], np.uint8), spec).tolist() == [1.0, 0.0]
    by_channel = runner_module.affine([[10, 20]], {"mean": [10, 10], "std": [1, 5]})
    assert by_channel.tolist() == [[0.0, 2.0]]
    assert runner_module.affine(np.uint8([7]), {}).dtype == np.float32


def test_none_hands_the_array_through():
    codes = np.array([1, 2], np.int8)
    assert runner_module.preprocess(codes, {"kind": "none"}) is codes


def test_an_unknown_kind_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'log-mle'; known: none, affine, image, log-mel"):
        runner_module.preprocess([0], {"kind": "log-mle"})


@given(st.integers(4, 38))
@settings(max_examples=12)
def test_a_pure_tone_is_loudest_in_its_own_band(band):
    # Given a tone at the middle corner of a band, in the range where bands are wider than bins
    mel = 2595 * np.log10(1 + np.array([60, 3900]) / 700)
    hertz = 700 * (10 ** (np.linspace(*mel, 42)[band + 1] / 2595) - 1)
    tone = np.sin(2 * np.pi * hertz * np.arange(8000) / 8000)
    # When its features are taken, then the loudest band is that one or its neighbour.
    features = runner_module.log_mel(tone, LOG_MEL)
    assert features.shape == (61, 40, 1)
    assert abs(int(features[30, :, 0].argmax()) - band) <= 1


def test_int16_audio_is_the_same_audio_as_floats():
    rng = np.random.default_rng(0)
    codes = rng.integers(-32768, 32768, 3000).astype(np.int16)
    # Cut short and padded: the quiet tail is the logarithm of the floor.
    features = runner_module.log_mel(codes, LOG_MEL)
    assert np.array_equal(features, runner_module.log_mel(codes / 32768.0, LOG_MEL))
    assert np.allclose(features[-1], np.log(1e-6))


def test_the_front_end_has_the_training_sets_published_mean_and_deviation(shared_data):
    stored = np.load(shared_data / "fsdd" / "fsdd.npz")
    audio, offsets = stored["audio"], stored["offsets"]
    training = np.flatnonzero(stored["index"] >= 5)
    features = [
        runner_module.log_mel(audio[offsets[k] : offsets[k + 1]], LOG_MEL) for k in training
    ]
    published = json.loads((shared_data / "baselines/baselines.json").read_text())
    official = published["fsdd_dscnn"]["official"]
    assert np.mean(features) == pytest.approx(official["mu"], abs=2e-5)
    assert np.std(features) == pytest.approx(official["sd"], abs=2e-5)


def test_the_hint_for_pictures_works_when_it_is_followed(repository, runner, tmp_path):
    """A model of arrays says where in its manifest the scaling of pictures belongs."""
    # given: a manifest as edgekit writes it for arrays, and a picture
    file = Path(
        shutil.copy(
            repository / "quantized" / "fashion-mnist" / "int8.tflite", tmp_path / "m.tflite"
        )
    )
    place, picture = file.with_suffix(".json"), tmp_path / "grey.png"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    told = {"sha256": digest, "preprocessing": {"kind": "none"}, "picture": None}
    place.write_text(json.dumps(told, indent=1))
    Image.fromarray(np.full((28, 28), 99, np.uint8)).save(picture)
    code, _, err = runner("run", file, picture)
    assert code == 4

    # when: what the hint quotes stands where the null was
    quoted = re.search(r'"picture": \{.*?\}', err)
    assert quoted is not None
    assert "there for null" in err
    entry = quoted[0].replace('"scale": S', '"scale": 1')
    place.write_text(place.read_text().replace('"picture": null', entry))

    # then
    code, out, err = runner("run", file, picture)
    assert (code, err) == (0, "")
    assert json.loads(out)["source"].endswith("grey.png")

"""Pixel scalings: told from a graph, from arrays, and as they are declared."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from edgekit.data.pixels import (
    BYTES,
    SCALINGS,
    SIGNED,
    UNIT,
    candidates,
    picture_of,
    raw_scaling,
    scaling_of,
    with_scaling,
    words_of,
)
from edgekit.data.preprocessing import check_preprocessing
from edgekit.records import InputScaling
from edgekit_runner import preprocess_image

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 10, 3), np.uint8)


def found(scale, offset=0.0, **options):
    return InputScaling(scale=tuple(np.ravel(scale)), offset=tuple(np.ravel(offset)), **options)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (found(1 / 255), BYTES),
        (found(1 / 256), BYTES),
        (found(1 / 127.5, -1), BYTES),
        (found(1 / 255, -0.5), BYTES),
        (found(np.divide(1 / 255, IMAGENET[1]), -np.divide(*IMAGENET)), BYTES),  # as torch
        (found(1, [-123.68, -116.779, -103.939]), BYTES),  # as caffe, from RGB
        (found(1, [-103.939, -116.779, -123.68]), None),  # the same, from BGR
        (found(1 / 60, -120 / 60), BYTES),  # Normalization of pixels
        (found(2, -1), UNIT),
        (found(1, -0.5), UNIT),
        (found(255), UNIT),
        (found(1 / 0.3, -0.13 / 0.3), UNIT),  # Normalization of MNIST / 255
        (found(0.5, 0.5), SIGNED),
        (found(127.5, 127.5), SIGNED),
        (found(1 / 0.6, 0.7 / 0.6), SIGNED),
        (found(1), None),
        (found(0.9995), None),  # a BatchNormalization that learned nothing
        (found(-1, 255), None),
        (found(np.nan), None),
        (found(1, limits=(0.0, 0.98)), UNIT),
        (found(1, limits=(-1.0, 1.0)), SIGNED),
        (found(1, limits=(0.0, 255.0)), BYTES),
        (found(1, limits=(-2.1, 2.6)), None),
        (None, None),
    ],
)
def test_the_first_operators_tell_the_range_they_scale_from(scaling, expected):
    assert raw_scaling(scaling) is expected


@pytest.mark.parametrize("scaling", [UNIT, SIGNED, BYTES], ids=str)
def test_arrays_tell_how_they_were_scaled(scaling):
    assert scaling_of(scaling.apply(PIXELS)) is scaling


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (PIXELS, BYTES),
        (PIXELS.astype(np.int64), BYTES),
        (PIXELS / 2.0, None),  # neither whole nor as far as 255
        ((PIXELS - 120.0) / 60, None),  # standardized
        (PIXELS / 255 - 0.5, None),
        (PIXELS // 16, None),  # bytes, but another unit: they are declared, or a trial tells
        (PIXELS[:0] / 255, None),
    ],
    ids=str,
)
def test_other_arrays_tell_nothing_but_bytes(values, expected):
    if values.dtype == np.uint8:
        expected = BYTES
    assert scaling_of(values) is expected


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_what_is_to_be_declared_does_the_same(scaling):
    # Given the lines that an error tells the user to write
    lines = "\n".join(["kind = 'image'", *_lines(scaling.declaration)])
    # When they are read
    spec = check_preprocessing(tomllib.loads(lines), "a test")
    # Then they are that scaling, by name and pixel by pixel.
    assert words_of(spec) == str(scaling)
    size = {"height": 12, "width": 10, "channels": 3}
    for pixels in PIXELS:
        there = preprocess_image(pixels, {**spec, **size})
        np.testing.assert_allclose(there, scaling.apply(pixels), rtol=1e-6, atol=1e-6)


def _lines(declaration):
    """`a = [1, 2], b = 3` in lines of TOML."""
    depth, lines = 0, [""]
    for letter in declaration:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            lines.append("")
        else:
            lines[-1] += letter
    return lines


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_an_open_spec_takes_a_scaling(scaling):
    spec = with_scaling(check_preprocessing({"kind": "image"}, "a test"), scaling)
    picture = picture_of((12, 10, 3), spec)

    np.testing.assert_array_equal(preprocess_image(PIXELS[0], picture), scaling.apply(PIXELS[0]))
    assert check_preprocessing(picture, "a test") == picture


def test_gray_images_have_no_scaling_of_three_channels():
    assert [scaling.name for scaling in candidates(1)] == ["0..255", "0..1", "-1..1"]
    assert len(candidates(3)) == 5

"""Specs are checked key by key and applied by the runner's code."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.data import bind, open_data
from edgekit.data.preprocessing import check_preprocessing, read_preprocessing
from edgekit.errors import DataError, UsageError
from edgekit.records import TensorSpec
from edgekit_runner import affine, log_mel

LOG_MEL = {
    "kind": "log-mel",
    "sample_rate": 8000,
    "samples": 2000,
    "frame": 256,
    "hop": 128,
    "bands": 20,
    "low_hz": 60,
    "high_hz": 3900,
    "floor": 1e-6,
}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, ["kind"]),
        ({"kind": "afine"}, ["'afine'", "'affine'"]),
        ({"kind": "affine", "scael": 2}, ["'scael'", "'scale'"]),
        ({"kind": "affine", "std": 0}, ["std"]),
        ({"kind": "affine", "std": [1, 0]}, ["std"]),
        ({"kind": "affine", "mean": "x"}, ["mean"]),
        ({"kind": "affine", "mean": []}, ["mean"]),
        ({"kind": "affine", "scale": float("nan")}, ["scale"]),
        ({"kind": "affine", "scale": float("inf")}, ["scale"]),
        ({"kind": "affine", "scale": 0}, ["scale", "other than 0"]),
        ({"kind": "affine", "scale": 10**400}, ["scale"]),
        ({"kind": "affine", "mean": [0, float("nan")]}, ["mean"]),
        ({"kind": "affine", "std": float("nan")}, ["std"]),
        ({"kind": "affine", "std": 1e-300}, ["std"]),
        ({"kind": "affine", "std": True}, ["std"]),
        ({"kind": "image", "height": 10**9}, ["height", "8192"]),
        ({"kind": "image", "width": 0}, ["width"]),
        ({**LOG_MEL, "samples": 10**9}, ["samples"]),
        ({**LOG_MEL, "bands": 10**9}, ["bands"]),
        ({**LOG_MEL, "frame": 2001}, ["frame of 2001", "2000 samples"]),
        ({**LOG_MEL, "high_hz": 4001}, ["4001 Hz", "sample_rate / 2"]),
        ({**LOG_MEL, "low_hz": 3900}, ["3900 to 3900 Hz"]),
        ({**LOG_MEL, "low_hz": -1}, ["-1 to"]),
        ({**LOG_MEL, "std": 0}, ["std"]),
        ({"kind": "x" * 5000}, ["unknown kind"]),
        ({"kind": "image", "height": 1.5}, ["height"]),
        ({"kind": "image", "channels": 2}, ["channels", "1 or 3"]),
        ({"kind": "image", "fit": "pad"}, ["fit", "crop"]),
        ({"kind": "none", "scale": 1}, ["'scale'"]),
        ({"kind": "log-mel", "frame": 256}, ["sample_rate", "missing"]),
    ],
)
def test_specs_that_mean_nothing(spec, says):
    with pytest.raises(DataError) as caught:
        check_preprocessing(spec, "preprocessing.toml")

    text = str(caught.value)
    assert "preprocessing.toml" in text
    assert len(text.splitlines()) <= 3
    assert len(text) < 400
    for words in says:
        assert words in text


def test_an_image_spec_without_any_scaling_leaves_it_open():
    assert not {"scale", "mean", "std"} & check_preprocessing({"kind": "image"}, "x").keys()
    assert check_preprocessing({"kind": "image", "mean": 127.5}, "x")["scale"] == 1


def test_a_file_that_is_not_toml(tmp_path):
    path = tmp_path / "preprocessing.toml"
    path.write_text("kind: image")

    with pytest.raises(DataError, match="TOML"):
        read_preprocessing(path)


def test_the_spec_is_applied_to_arrays_and_kept(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "p.npz", x_test=pixels, y_test=np.arange(12) % 2)
    spec = {"kind": "affine", "scale": 1 / 255, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}

    dataset = open_data(str(tmp_path / "p.npz"), preprocessing=spec)

    np.testing.assert_array_equal(
        dataset.test.read(np.arange(12)).inputs["x"], affine(pixels, spec)
    )
    assert dataset.preprocessing == spec


def test_arrays_of_images_are_resized_to_the_model(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 7), np.uint8)
    np.savez(tmp_path / "p.npz", x_test=pixels, y_test=np.arange(6) % 2)
    dataset = open_data(str(tmp_path / "p.npz"), preprocessing={"kind": "image", "order": "bgr"})

    bound = bind(
        dataset,
        [TensorSpec(name="image", shape=(1, 5, 5, 3), dtype="float32")],
        [TensorSpec(name="y", shape=(1, 2), dtype="float32")],
    )

    assert bound.test.read(np.arange(6)).inputs["image"].shape == (6, 5, 5, 3)
    assert bound.preprocessing["height"] == 5


def test_audio_becomes_features_once(tmp_path):
    clips = np.random.default_rng(0).integers(-999, 999, (5, 2500), np.int16)
    np.savez(tmp_path / "p.npz", x_train=clips, y_train=np.arange(5))

    train = open_data(str(tmp_path / "p.npz"), preprocessing=LOG_MEL).train

    first, again = (train.read(np.array([3, 1, 3])).inputs["x"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], log_mel(clips[3], LOG_MEL))
    np.testing.assert_array_equal(first[1], log_mel(clips[1], LOG_MEL))


def test_a_spec_that_does_not_fit_the_samples(tmp_path):
    np.savez(tmp_path / "p.npz", x_test=np.zeros((4, 3, 3, 3)), y_test=np.zeros(4))

    for spec in (
        {"kind": "affine", "mean": [1, 2]},
        LOG_MEL,
        {"kind": "image", "height": 4, "width": 4, "channels": 3},
    ):
        dataset = open_data(str(tmp_path / "p.npz"), preprocessing=spec)
        with pytest.raises(DataError, match="does not fit the samples"):
            dataset.test.read(np.arange(2))


def test_a_dataset_declares_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_dataset.py").write_text(
        "from edgekit.data import open_data\ndef data():\n    return open_data('digits')\n"
    )

    with pytest.raises(UsageError, match="already"):
        open_data("own_dataset:data", preprocessing={"kind": "affine"})


def test_a_spec_nested_beyond_reason(tmp_path):
    path = tmp_path / "preprocessing.toml"
    path.write_text("kind = " + "[" * 50_000)

    with pytest.raises(DataError, match="nested"):
        read_preprocessing(path)


def test_a_declaration_is_read_from_the_command_line():
    from edgekit.data.preprocessing import parse_preprocessing

    given = parse_preprocessing('{kind = "image", scale = 1, mean = [1.5, 2, 3], order = "bgr"}')

    assert given == {"kind": "image", "scale": 1, "mean": [1.5, 2, 3], "order": "bgr"}
    with pytest.raises(DataError, match="cannot be read as TOML"):
        parse_preprocessing('{kind = "image", scale = }')

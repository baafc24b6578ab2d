"""Features of sound beside log-mel: cepstral coefficients, and the front end of TFLite Micro."""

from __future__ import annotations

import wave

import numpy as np
import pytest

import edgekit_runner
from edgekit.data import bind, open_data
from edgekit.errors import DataError
from edgekit.records import TensorSpec

LOG_MEL = {
    "kind": "log-mel",
    "sample_rate": 16000,
    "samples": 16000,
    "frame": 480,
    "hop": 320,
    "bands": 40,
    "low_hz": 20,
    "high_hz": 8000,
    "floor": 1e-6,
}
MFCC = {**LOG_MEL, "kind": "mfcc", "coefficients": 13}
MICRO = {
    **{key: LOG_MEL[key] for key in ("sample_rate", "samples", "frame", "bands")},
    "kind": "micro",
    "hop": 160,
    "low_hz": 125,
    "high_hz": 7500,
}


DECLARED = (
    'kind = "mfcc"\nsample_rate = 16000\nsamples = 16000\nframe = 480\nhop = 320\n'
    "bands = 40\ncoefficients = 10\nlow_hz = 20\nhigh_hz = 8000\nfloor = 1e-6\n"
)


@pytest.fixture(scope="module")
def recorded(golden):
    with np.load(golden / "runner" / "micro_features.npz") as stored:
        return dict(stored)


def test_mfcc_is_the_cosine_transform_of_log_mel(recorded):
    from scipy.fft import dct

    audio = recorded["audio"][0]
    logarithms = edgekit_runner.log_mel(audio, LOG_MEL)[..., 0].astype(np.float64)

    found = edgekit_runner.preprocess(audio, {**MFCC, "mean": 1.5, "std": 2.0})

    # scipy's sum has a factor of 2, which the HTK book's has not.
    wanted = dct(logarithms, type=2, axis=1)[:, :13] / 2 * np.sqrt(2 / 40)
    assert found.shape == (49, 13, 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], (wanted - 1.5) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clip", [0, 1])
def test_micro_features_are_those_of_the_c_code_bit_for_bit(recorded, clip):
    audio, wanted = recorded["audio"][clip], recorded["features"][clip]

    found = edgekit_runner.preprocess(audio, MICRO)

    assert found.shape == (98, 40, 1)
    np.testing.assert_array_equal(found[..., 0], wanted.astype(np.float32) * np.float32(10 / 256))
    assert wanted.max() > 600  # loud enough to reach the upper end


def test_micro_features_equal_the_package(recorded):
    package = pytest.importorskip("pymicro_features", reason="pip install pymicro-features")
    dice = np.random.default_rng(3)
    audio = (recorded["audio"][0] * dice.uniform(0.01, 6)).clip(-32768, 32767).astype(np.int16)
    front_end, rows, place = package.MicroFrontend(), [], 0
    while place + 160 <= len(audio):
        part = front_end.process_samples(audio[place : place + 160].tobytes())
        place += part.samples_read
        rows += [part.features] if part.features else []

    found = edgekit_runner.micro_features(audio, MICRO)

    np.testing.assert_array_equal(found[..., 0], np.array(rows, np.float32))


def test_each_window_begins_without_a_past(recorded):
    audio = recorded["audio"][0]

    first, again = (edgekit_runner.micro_features(audio, MICRO) for _ in range(2))

    np.testing.assert_array_equal(first, again)
    floats = edgekit_runner.micro_features(audio / 32768.0, MICRO)
    np.testing.assert_array_equal(floats, first)
    scaled = edgekit_runner.micro_features(audio, {**MICRO, "mean": 13, "std": 2})
    np.testing.assert_allclose(scaled, (first - 13) / 2, rtol=1e-6)


def test_short_recordings_are_padded_and_other_sizes_work():
    for frame, rate in ((100, 8000), (512, 16000), (640, 16000)):
        spec = {**MICRO, "frame": frame, "sample_rate": rate, "high_hz": 3500, "samples": 3000}
        quiet = edgekit_runner.micro_features(np.zeros(10, np.int16), spec)
        assert quiet.shape == (1 + (3000 - frame) // 160, 40, 1)
        assert not quiet.any()
    beyond = {**MICRO, "high_hz": 8000}
    with pytest.raises(ValueError, match="high_hz 8000: bands beyond the spectrum"):
        edgekit_runner.micro_features(np.zeros(16000, np.int16), beyond)


@pytest.mark.parametrize(
    ("toml", "shape"),
    [
        ('kind = "micro"\nsamples = 16000\n', (98, 40, 1)),
        (DECLARED, (49, 10, 1)),
    ],
)
def test_a_folder_of_recordings_declares_them(tmp_path, recorded, toml, shape):
    for split in ("train", "test"):
        for name, clip in zip(("on", "off"), recorded["audio"], strict=True):
            place = tmp_path / "words" / split / name
            place.mkdir(parents=True)
            with wave.open(str(place / "a.wav"), "wb") as sound:
                sound.setparams((1, 2, 16000, 0, "NONE", ""))
                sound.writeframes(clip.astype("<i2").tobytes())
    (tmp_path / "words" / "preprocessing.toml").write_text(toml)
    inputs = [TensorSpec(name="x", shape=(1, *shape), dtype="float32")]
    outputs = [TensorSpec(name="y", shape=(1, 2), dtype="float32")]

    bound = bind(open_data(str(tmp_path / "words")), inputs, outputs)

    batch = bound.test.read(np.arange(2))
    spec = bound.preprocessing
    edgekit_runner.check_spec(spec)
    wanted = edgekit_runner.preprocess(recorded["audio"][1], spec)  # "off" comes first
    np.testing.assert_array_equal(batch.inputs["x"][0], wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"coefficients": 41}, "41 coefficients of 40 bands"),
        ({"coefficients": None}, "coefficients missing"),
        ({"kind": "micro"}, "unknown key 'floor'"),
    ],
)
def test_features_that_cannot_be_are_refused(tmp_path, change, said):
    spec = {key: value for key, value in {**MFCC, **change}.items() if value is not None}
    stored = tmp_path / "data.npz"
    np.savez(stored, x_train=np.zeros((2, 16000), np.int16))

    with pytest.raises(DataError, match=said):
        open_data(str(stored), preprocessing=spec)


@pytest.mark.parametrize(("key", "value"), [("coefficients", 41), ("coefficients", 0), ("hop", 0)])
def test_the_runner_checks_them_too(key, value):
    with pytest.raises(ValueError, match=f"of kind mfcc has {key} {value}"):
        edgekit_runner.check_spec({**MFCC, key: value})

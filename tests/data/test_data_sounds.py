"""Folders of recordings: windows and features are those of the runner, formats are checked."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit_runner
from edgekit.artifacts import open_artifact
from edgekit.cli import run
from edgekit.data import bind, open_data
from edgekit.data.formats.sounds import Recording, suggested
from edgekit.errors import DataError
from edgekit.pipeline.subjects import Opener
from edgekit.records import DataRequest, TensorSpec

RATE = 8000
CLASSES = tuple("0123456789")


def write(path: Path, samples, rate=RATE, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path):
    """Recordings of half a second to two and a half, in two classes."""
    random = np.random.default_rng(0)
    for split, n in (("train", 6), ("test", 3)):
        for name in ("left", "right"):
            for i in range(n):
                clip = random.integers(-9999, 9999, 4000 * (1 + i % 5))
                write(tmp_path / "words" / split / name / f"{i}.wav", clip)
    return tmp_path / "words"


@pytest.fixture
def model(repository):
    """A published model that takes log-mel features of one second."""
    return repository / "quantized" / "spoken-digits" / "float32.tflite"


@pytest.fixture
def features(model):
    return json.loads(model.with_suffix(".json").read_text())["preprocessing"]


def specs(shape=(1, 61, 40, 1), classes=2):
    return (
        [TensorSpec(name="sound", shape=shape, dtype="float32")],
        [TensorSpec(name="scores", shape=(1, classes), dtype="float32")],
    )


def test_windows_and_features_are_those_of_the_runner(folder, model, features):
    bound = bind(open_data(str(folder), preprocessing=features), *specs())

    # Of 0.5, 1, 1.5, 2 and 2.5 s come 1, 1, 1, 2 and 2 windows of a second.
    assert (bound.train.n, bound.test.n, bound.labels) == (16, 6, ("left", "right"))
    assert any("12 recordings were cut into 16 windows of 1 s" in note for note in bound.notes)
    host = bound.train.read(np.arange(16)).inputs["sound"]
    loaded = edgekit_runner.Model(str(model), edgekit_runner.find_runtime("litert"), 1)
    source = edgekit_runner.Source(loaded, {"preprocessing": features}, None)
    paths = sorted((folder / "train").glob("*/*.wav"))
    device = [sample.codes[0] for path in paths for sample in source.file(str(path))]
    np.testing.assert_array_equal(host, np.stack(device).reshape(host.shape))
    # Asked for again they are not computed again.
    shutil.rmtree(folder)
    np.testing.assert_array_equal(bound.train.read(np.arange(16)).inputs["sound"], host)


def test_windows_of_a_recording_stay_together(folder, features):
    dataset = open_data(str(folder / "train"), preprocessing=features, split=0.3)

    stores = dataset.train.read.store.groups
    sides = [set(stores[part.read.index]) for part in (dataset.train, dataset.test)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 4  # of 12 recordings


def test_what_the_runner_answers_is_what_eval_scores(folder, model, features, tmp_path, capsys):
    digits = tmp_path / "digits"
    for number, path in enumerate(sorted((folder / "train").glob("*/*.wav"))[:10]):
        (digits / "test" / CLASSES[number]).mkdir(parents=True)
        shutil.copy(path, digits / "test" / CLASSES[number])
    toml = "".join(f"{k} = {json.dumps(v)}\n" for k, v in features.items())
    (digits / "preprocessing.toml").write_text(toml)

    code = run(["eval", str(model), "--data", str(digits), "--json", "-q"])
    report = json.loads(capsys.readouterr().out)
    answers = []
    for path in sorted(digits.glob("test/*/*.wav")):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert edgekit_runner.main(["run", str(model), str(path)]) == 0
        told = [json.loads(line) for line in out.getvalue().splitlines()]
        answers += [one["top"][0]["class"] == int(path.parent.name) for one in told]

    assert code == 0
    assert report["rows"][0]["score"]["value"] == pytest.approx(np.mean(answers))


def test_without_a_declaration_one_is_printed_that_works(folder, tmp_path):
    with pytest.raises(DataError) as caught:
        bind(open_data(str(folder)), *specs((1, 49, 40, 1)))

    assert caught.value.exit_code == 4
    assert "[1, 49, 40, 1]" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    # Followed, it declares features of that shape.
    subprocess.run(["sh", "-c", caught.value.hint], check=True)
    bound = bind(open_data(str(folder)), *specs((1, 49, 40, 1)))
    assert bound.preprocessing["sample_rate"] == RATE
    assert bound.test.read(np.arange(2)).inputs["sound"].shape == (2, 49, 40, 1)


@pytest.mark.parametrize("shape", [(1, 8000), (1, 8000, 1), (1, 49, 40, 3)])
def test_no_features_are_suggested_for_a_model_that_takes_none(folder, shape):
    # Given a model of waves
    # When recordings are given for it, without a declaration
    with pytest.raises(DataError) as caught:
        bind(open_data(str(folder)), *specs(shape))
    # Then arrays are asked for, since no declaration would fit
    assert str(list(shape)) in caught.value.found
    assert "log-mel" not in caught.value.hint
    assert "numpy.savez" in caught.value.hint


@pytest.mark.parametrize("frames", [1, 7, 49, 61, 98, 124, 997])
@pytest.mark.parametrize("samples", [8000, 15999, 48000])
def test_what_is_suggested_has_as_many_frames_as_the_model_takes(frames, samples):
    recording = Recording(path="", rate=16000, channels=1, bits=16, frames=samples)

    spec = suggested([recording], specs((1, frames, 32, 1))[0])

    assert 1 + (spec["samples"] - spec["frame"]) // spec["hop"] == frames
    assert spec["bands"] == 32
    assert spec["frame"] <= samples
    # And the usual ones where the model does not tell.
    assert suggested([recording], specs((1, 16))[0])["frame"] == 480


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rate": 44100}, "44100 Hz, 1 channels, 16 bit"),
        ({"channels": 2}, "8000 Hz, 2 channels"),
        ({"width": 1}, "8 bit"),
    ],
)
def test_another_format_is_refused_with_the_conversion(folder, features, change, says):
    write(folder / "train" / "left" / "1.wav", np.zeros(800), **change)

    with pytest.raises(DataError) as caught:
        open_data(str(folder), preprocessing=features)

    assert "1 of 18 recordings" in str(caught.value)
    assert says in str(caught.value)
    assert "sox in.wav -r 8000 -c 1 -b 16 out.wav" in str(caught.value)


def test_samples_that_are_no_pcm_are_refused_and_damaged_files_left_out(folder, features):
    float_wav = bytearray((folder / "train" / "left" / "0.wav").read_bytes())
    float_wav[20:22] = b"\x03\x00"  # WAVE_FORMAT_IEEE_FLOAT
    (folder / "train" / "left" / "cut.wav").write_bytes(float_wav[:30])
    (folder / "train" / "left" / "empty.wav").write_bytes(b"")
    (folder / "train" / "left" / "text.wav").write_text("no sound\n" * 9)
    (folder / "train" / "left" / "read.me").write_text("x")

    dataset = open_data(str(folder), preprocessing=features)

    assert dataset.train.n == 16
    assert any("3 of 15 files in train were left out" in note for note in dataset.notes)
    assert any("no recordings were skipped: 1" in note for note in dataset.notes)
    (folder / "train" / "left" / "float.wav").write_bytes(float_wav)
    with pytest.raises(DataError, match="samples that are no PCM"):
        open_data(str(folder), preprocessing=features)


def test_other_kinds_of_preprocessing_take_no_recordings(folder):
    with pytest.raises(DataError, match="takes no recordings"):
        open_data(str(folder), preprocessing={"kind": "affine", "scale": 2.0})


def test_classes_in_the_models_order(folder, features):
    dataset = open_data(str(folder), preprocessing=features, classes=("right", "left"))

    assert dataset.labels == ("right", "left")
    assert dataset.test.read(np.arange(6)).targets.tolist() == [1, 1, 1, 0, 0, 0]


def test_recordings_without_features_have_those_of_the_manifest(folder, model, features, tmp_path):
    """Given a file whose manifest says them, then nothing has to be declared to score it."""
    copy = tmp_path / "copy.tflite"
    shutil.copy(model, copy)
    artifact = replace(open_artifact(copy), manifest={"preprocessing": features})

    opened = Opener(DataRequest(data=str(folder))).open_for(artifact)

    declared = open_data(str(folder), preprocessing=features)
    assert opened.preprocessing == declared.preprocessing
    assert opened.test.n == declared.test.n == 6

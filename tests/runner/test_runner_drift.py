"""`--watch-drift`: inputs that no longer look like the calibration data raise an alarm."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import edgekit_runner
from edgekit.artifacts import open_artifact
from edgekit.evaluation.codes import encoded
from edgekit.pipeline import calibration_inputs
from edgekit.pipeline.calibration_inputs import CalibrationInputs
from edgekit.pipeline.subjects import Opener, bind_to_file
from edgekit.records import DataRequest, Dataset, TensorSpec
from edgekit.tflite import read, signature

PUBLISHED = ("fashion-mnist", "spoken-digits", "turbofan", "bccd", "nuclei")
SEEN = 500  # test samples of each that are looked at


class Watched(NamedTuple):
    """A published int8 file with what its calibration samples were like, and its data."""

    path: Path
    dataset: Dataset
    inputs: tuple[TensorSpec, ...]

    def drift(self) -> edgekit_runner.Drift:
        """A fresh judge, as `run` and `eval` make it."""
        model = edgekit_runner.Model(str(self.path), edgekit_runner.find_runtime(), 1)
        return edgekit_runner.Drift(model, edgekit_runner.read_manifest(str(self.path)))

    def test_codes(self) -> Iterator[list[np.ndarray]]:
        """What the inputs hold of each test sample."""
        test = self.dataset.test
        batch = test.read(np.arange(min(test.n, SEEN)))
        codes = [encoded(batch.inputs[spec.name], spec, 1) for spec in self.inputs]
        for row in range(len(codes[0])):
            yield [each[row : row + 1] for each in codes]


@pytest.fixture(scope="module")
def watched(
    shared_data: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Watched]:
    known: dict[str, Watched] = {}
    folder = tmp_path_factory.mktemp("watched")

    def make(name: str) -> Watched:
        if name not in known:
            path = repository / "quantized" / name / "int8.tflite"
            dataset = bind_to_file(Opener(DataRequest(data=name)), open_artifact(path))
            inputs = signature(read(path))[0]
            manifest = json.loads(path.with_suffix(".json").read_text())
            manifest["calibration"] = CalibrationInputs(dataset.calibrate).described(inputs)
            copy = Path(shutil.copy(path, folder / f"{name}.tflite"))
            copy.with_suffix(".json").write_text(json.dumps(manifest))
            known[name] = Watched(copy, dataset, inputs)
        return known[name]

    return make


# --- The test split ---


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_test_split_raises_no_alarm(name, watched):
    # Given a published file
    model = watched(name)
    windows, whole = model.drift(), model.drift()
    told = []
    # When its test samples come in their order
    for codes in model.test_codes():
        windows.add(codes)
        whole.add(codes)
        if len(windows.window) == edgekit_runner.WINDOW:
            told.append(windows.judge())
            windows.window = []
    # Then neither a window of them nor all of them are out of line.
    told.append(whole.judge())
    assert [one["findings"] for one in told if one["alarm"]] == []
    assert told[-1]["alarm"] is False


# --- Pictures that changed ---


@pytest.fixture(scope="module")
def cells(shared_data: Path) -> list[Image.Image]:
    """Microscope pictures of the test split of BCCD."""
    names = (shared_data / "bccd" / "ImageSets" / "Main" / "test.txt").read_text().split()
    places = [shared_data / "bccd" / "JPEGImages" / f"{name}.jpg" for name in names[:24]]
    return [Image.open(place).convert("RGB") for place in places]


def brightened(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.3)


def blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(6))


def recoloured(picture: Image.Image) -> Image.Image:
    red, green, blue = picture.split()
    return Image.merge("RGB", (blue, green, red))


def saved(pictures: list[Image.Image], folder: Path) -> Path:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number:02}.png", compress_level=1)
    return folder


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (brightened, "share at the high end"),
        (blurred, "sharpness"),
        (recoloured, "balance"),
    ],
)
def test_changed_pictures_raise_an_alarm(change, expected, *, watched, cells, runner, tmp_path):
    # Given a detector, and pictures of the microscope after something happened to it
    model = watched("bccd").path
    seen = saved([change(picture) for picture in cells], tmp_path / "seen")
    # When they are run
    code, out, err = runner("run", model, seen, "--watch-drift")
    # Then a line says so, with the figure that moved, and the answers are as ever.
    assert code == 0, err
    *answers, last = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == len(cells)
    assert all("objects" in line for line in answers)
    told = last["drift"]
    assert told["alarm"] is True
    assert told["inputs"] == len(cells)
    assert expected in {one["statistic"] for one in told["findings"]}
    assert err.startswith("The input no longer looks like the calibration data:\n")
    assert max(map(len, err.splitlines())) <= 80


def test_the_same_pictures_unchanged_raise_none(watched, cells, runner, tmp_path):
    seen = saved(cells, tmp_path / "seen")

    code, out, err = runner("run", watched("bccd").path, seen, "--watch-drift")

    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["drift"]["alarm"] is False


def clothes(dataset: Dataset, n: int = 120) -> np.ndarray:
    """The first test pictures of Fashion-MNIST as uint8 `[n, 28, 28]`."""
    (values,) = dataset.test.read(np.arange(n)).inputs.values()
    return np.rint(values.reshape(n, 28, 28) * (255 if values.max() <= 1 else 1)).astype(np.uint8)


def box_blur(pictures: np.ndarray) -> np.ndarray:
    padded = np.pad(pictures.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifted = [padded[:, y : y + 28, x : x + 28] for y in range(3) for x in range(3)]
    return np.mean(shifted, axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "expected", "side"),
    [
        (lambda x: np.clip(x * 1.4, 0, 255).astype(np.uint8), "share at the high end", "above"),
        (box_blur, "sharpness", "below"),
        (lambda x: 255 - x, "share at the low end", "below"),
    ],
    ids=["brightened", "blurred", "negative"],
)
def test_changed_clothes_raise_an_alarm(change, expected, side, *, watched, runner, tmp_path):
    # Given pictures of clothes from another camera
    model = watched("fashion-mnist")
    (values,) = model.dataset.test.read(np.arange(1)).inputs.values()
    scale = 255 if values.max() <= 1 else 1
    seen = change(clothes(model.dataset))[..., None].astype(np.float32) / np.float32(scale)
    np.savez(tmp_path / "seen.npz", inputs=seen)
    # When they are evaluated, without targets
    place = tmp_path / "outputs.npz"
    words = ("--outputs", place, "--watch-drift", "--json")
    code, out, err = runner("eval", model.path, tmp_path / "seen.npz", *words)
    # Then the JSON tells of the figure that moved.
    assert code == 0, err
    told = json.loads(out)["drift"]
    assert told["alarm"] is True
    assert (expected, side) in {(one["statistic"], one["side"]) for one in told["findings"]}


def test_a_window_is_judged_as_soon_as_it_is_full(watched, runner, tmp_path):
    model = watched("fashion-mnist")
    (values,) = model.dataset.test.read(np.arange(150)).inputs.values()
    np.savez(tmp_path / "seen.npz", inputs=values)

    code, out, _ = runner("run", model.path, tmp_path / "seen.npz", "--watch-drift")

    lines = [json.loads(line) for line in out.splitlines()]
    places = [number for number, line in enumerate(lines) if "drift" in line]
    assert code == 0
    assert places == [100, 151]
    assert [lines[place]["drift"]["inputs"] for place in places] == [100, 50]


def test_too_few_inputs_are_not_judged(watched, runner, tmp_path):
    model = watched("fashion-mnist")
    (values,) = model.dataset.test.read(np.arange(3)).inputs.values()
    np.savez(tmp_path / "seen.npz", inputs=values)

    code, out, err = runner("run", model.path, tmp_path / "seen.npz", "--watch-drift")

    assert code == 0
    assert json.loads(out.splitlines()[-1])["drift"]["alarm"] is None
    assert "cannot be told" in err


# --- Manifests ---


def test_a_manifest_without_statistics_is_told_apart(watched, runner, tmp_path):
    path = watched("fashion-mnist").path
    model = Path(shutil.copy(path, tmp_path / "model.tflite"))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    model.with_suffix(".json").write_text(json.dumps({"sha256": digest}))

    code, out, err = runner("run", model, tmp_path, "--watch-drift")

    assert (code, out) == (3, "")
    what, found, hint = err.splitlines()
    assert what == f"The manifest of {model} does not say what its calibration data was like."
    assert "older edgekit" in found
    assert "drop --watch-drift" in hint


@pytest.mark.parametrize(
    "change",
    [
        lambda _: [],
        lambda told: told | {"n": "many"},
        lambda told: told | {"n": 0},
        lambda told: told | {"rank": 0},
        lambda told: told | {"rank": 1e400},
        lambda told: told | {"inputs": {}},
        lambda told: told | {"inputs": {name: {} for name in told["inputs"]}},
        lambda told: (
            told | {"inputs": {name: one | {"low": [0, 1]} for name, one in told["inputs"].items()}}
        ),
        lambda told: (
            told
            | {"inputs": {name: one | {"statistics": {}} for name, one in told["inputs"].items()}}
        ),
        lambda told: (
            told
            | {"inputs": {name: one | {"statistics": 3} for name, one in told["inputs"].items()}}
        ),
    ],
)
def test_damaged_statistics_are_an_error(change, watched, runner, tmp_path):
    path = watched("fashion-mnist").path
    model = Path(shutil.copy(path, tmp_path / "model.tflite"))
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["calibration"] = change(manifest["calibration"])
    model.with_suffix(".json").write_text(json.dumps(manifest))

    code, _, err = runner("run", model, tmp_path, "--watch-drift")

    assert code == 3
    assert len(err.splitlines()) <= 3
    assert "calibration data" in err


# --- The law ---


@pytest.mark.parametrize(("n", "rank", "inputs"), [(1, 1, 5), (20, 1, 20), (200, 5, 100)])
def test_the_limit_is_that_of_the_exact_law(n, rank, inputs):
    total = math.comb(n + inputs, inputs)
    # Of all orders of n + inputs values, those in which x of the inputs are above the rank-th.
    law = [
        math.comb(rank - 1 + x, x) * math.comb(n - rank + inputs - x, inputs - x) / total
        for x in range(inputs + 1)
    ]
    assert sum(law) == pytest.approx(1)
    for chance in (0.05, 1e-3, 1e-5):
        least = edgekit_runner.exceedance_limit(n, rank, inputs, chance)
        assert sum(law[least:]) <= chance
        assert least == 0 or sum(law[least - 1 :]) > chance


def test_inputs_like_the_calibration_samples_raise_no_more_alarms_than_stated():
    # Given 100 draws of calibration samples and inputs from one law, features that go together
    random = np.random.default_rng(7)
    spec = TensorSpec(name="x", shape=(1, 8), dtype="float32")
    tensor = edgekit_runner.Tensor(
        "x", {"index": 0, "shape": (1, 8), "dtype": np.float32, "quantization": (0.0, 0)}
    )

    class Model:
        path, inputs = "model.tflite", (tensor,)

    alarms = 0
    for _ in range(100):
        common = random.standard_gamma(0.5, (110, 1))
        values = (common + random.standard_normal((110, 8))).astype(np.float32)
        samples = samples_of(values[:60])
        told = CalibrationInputs(samples).described((spec,))
        drift = edgekit_runner.Drift(Model(), {"calibration": told})
        # When a window of inputs is judged
        for row in values[60:]:
            drift.add([row[None]])
        alarms += bool(drift.judge()["alarm"])
    # Then alarms are as rare as is said: by one in a thousand, three in 100 come once in 6,000.
    assert alarms <= 2


def samples_of(values):
    from edgekit.records import Batch, Samples

    return Samples(
        split="calibrate",
        n=len(values),
        sha256="",
        read=lambda rows: Batch(inputs={"x": values[rows]}),
    )


def test_large_data_are_described_in_the_background_as_in_the_foreground(monkeypatch):
    # Given data that are not kept, of three channels and of codes
    from edgekit.isolate import Background

    monkeypatch.setattr(calibration_inputs, "_KEPT_BYTES", 1000)
    samples = samples_of(np.random.default_rng(0).normal(size=(90, 8, 6, 3)).astype(np.float32))
    floats = TensorSpec(name="x", shape=(1, 8, 6, 3), dtype="float32")
    codes = TensorSpec(name="x", shape=(1, 8, 6, 3), dtype="int8", scale=0.03, zero_point=4)
    expected = [CalibrationInputs(samples).described((spec,)) for spec in (floats, codes)]
    # When they are described by a child
    seen = CalibrationInputs(samples)
    with Background() as background:
        started = [seen.start((spec,), background) for spec in (floats, codes, codes)]
        found = [wait() for wait in started]
        again = started[1]()
    # Then it finds the same, once for each kind of inputs.
    assert found == [*expected, expected[1]]
    assert again == expected[1]
    assert len(seen._begun) == 2


def test_statistics_are_the_same_each_time_and_small(watched):
    model = watched("turbofan")
    first, second = (
        CalibrationInputs(model.dataset.calibrate).described(model.inputs) for _ in range(2)
    )

    assert json.dumps(first) == json.dumps(second)
    assert len(json.dumps(first)) < 4000
    (told,) = first["inputs"].values()
    assert len(told["mean"]) == len(told["std"]) == len(told["low"]) == 14
    for limits in told["statistics"].values():
        assert all(low <= median <= high for low, median, high in limits)

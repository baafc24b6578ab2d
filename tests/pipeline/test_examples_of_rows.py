"""The samples that files do worst: run again, and turned back into pictures."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit_runner
from edgekit.devices import LocalDevice
from edgekit.evaluation import predict
from edgekit.pipeline.examples import as_pixels, examples, files_of_interest
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.records import TRUTH, Artifact, Batch, Dataset, Row, Samples

LABELS = (
    "top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)


def dataset_of(task: str, inputs: np.ndarray, targets: np.ndarray, labels=None) -> Dataset:
    def read(rows):
        return Batch(inputs={"x": inputs[rows]}, targets=targets[rows])

    test = Samples(split="test", n=len(inputs), sha256="", read=read)
    return Dataset(name="d", task=task, train=None, calibrate=None, test=test, labels=labels)


def measured(dataset: Dataset, **files: tuple[Path, str]) -> list[Row]:
    subjects = [
        Subject(
            artifact=Artifact(
                path=path,
                variant=variant,
                mode=mode,
                size_bytes=1,
                size_deflated_bytes=1,
                sha256=variant,
                manifest={},
            ),
            model="m",
            dataset=dataset,
        )
        for variant, (path, mode) in files.items()
    ]
    return list(measure(subjects, LocalDevice(), MeasureSettings(latency=False)))


@pytest.fixture(scope="module")
def fashion(shared_data: Path) -> Dataset:
    def read(name: str, header: int) -> np.ndarray:
        packed = (shared_data / "fashion_mnist" / name).read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)

    pixels = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)[:1500]
    labels = read("t10k-labels-idx1-ubyte.gz", 8)[:1500].astype(int)
    return dataset_of("classification", pixels / np.float32(255), labels, LABELS)


def test_what_int8_gets_wrong_is_shown_with_both_answers(fashion: Dataset, golden: Path) -> None:
    # Given two files of one trained model, on real pictures
    folder = golden / "evaluate"
    paths = {"float32": folder / "fashion_dynamic.tflite", "int8": folder / "fashion_int8.tflite"}
    rows = measured(fashion, **{name: (path, name) for name, path in paths.items()})
    batch = fashion.test.read(np.arange(fashion.test.n))
    before, after = (
        next(iter(predict(path, fashion.test).values())).argmax(axis=1) for path in paths.values()
    )
    lost = np.flatnonzero((before == batch.targets) & (after != batch.targets))
    # When the samples are looked for on which int8 is worst
    found = examples(rows, fashion)
    # Then those that it lost come first, with what is true and what both say
    assert len(lost) > 0
    assert len(found) == 4
    assert [one.index for one in found if one.worse] == lost[:4].tolist()
    for one in found[: len(lost)]:
        truth, reference, variant = one.answers
        true, wrong = LABELS[batch.targets[one.index]], LABELS[after[one.index]]
        assert (truth.name, truth.text) == (TRUTH, true)
        assert (reference.name, reference.right) == ("float32", True)
        assert reference.text.startswith(f"{true}, ")
        assert (variant.name, variant.right) == ("int8", False)
        assert variant.text.startswith(f"{wrong}, ")
        raw = (batch.inputs["x"][one.index, ..., 0] * 255).round()
        assert np.array_equal(one.picture, raw)


def test_the_masks_of_a_segmenter_are_shown(golden: Path) -> None:
    path = golden / "runner" / "segmenter.tflite"  # of red, green and blue
    random = np.random.default_rng(0)
    masks = random.integers(0, 4, (6, 4, 6)).repeat(8, axis=1).repeat(8, axis=2)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    pictures = colours[masks]
    pictures[2, :8] = 0  # what is there is not seen
    dataset = dataset_of("segmentation", pictures, masks)
    rows = measured(dataset, float32=(path, "float32"), int8=(path, "int8"))

    (found,) = examples(rows, dataset)

    assert (found.index, found.worse) == (2, False)
    assert np.array_equal(found.picture, pictures[2])
    truth, reference, variant = found.answers
    assert np.array_equal(truth.mask, masks[2])
    assert np.array_equal(variant.mask[8:], masks[2, 8:])
    assert not variant.mask[:8].any()
    assert reference.text == variant.text
    assert 0.5 < reference.quality < 0.9


def test_what_is_no_picture_and_what_cannot_be_run_is_not_shown(
    fashion: Dataset, golden: Path, tmp_path: Path
) -> None:
    path = golden / "evaluate" / "fashion_int8.tflite"
    small = replace(fashion, test=replace(fashion.test, n=40))
    rows = measured(small, float32=(path, "float32"), int8=(path, "int8"))
    assert examples(rows, small)

    def shown(dataset: Dataset, of: list[Row] = rows) -> int:
        return len(examples(of, dataset))

    streams = replace(small.test, sequences=np.zeros(40, int))
    assert shown(replace(small, test=streams)) == 0
    flat = replace(
        small.test,
        read=lambda i: replace(
            fashion.test.read(i), inputs={"x": fashion.test.read(i).inputs["x"].reshape(-1, 784)}
        ),
    )
    assert shown(replace(small, test=flat)) == 0
    assert shown(replace(small, task=None)) == 0
    gone = replace(rows[1], artifact=replace(rows[1].artifact, path=tmp_path / "gone.tflite"))
    assert shown(small, [rows[0], gone]) == 0


def test_the_recommended_file_and_int8_are_of_interest(fashion: Dataset, golden: Path) -> None:
    path = golden / "evaluate" / "fashion_int8.tflite"
    small = replace(fashion, test=replace(fashion.test, n=40))
    names = {"float32": "float32", "dynamic": "dynamic", "int8": "int8", "int8-b": "int8"}
    rows = measured(small, **{name: (path, mode) for name, mode in names.items()})

    def interest(recommended: str, *of: str) -> list[str]:
        some = [
            replace(row, recommended=row.artifact.variant == recommended)
            for row in rows
            if row.artifact.variant in of
        ]
        return [row.artifact.variant for row in files_of_interest(some)]

    assert interest("dynamic", *names) == ["dynamic", "int8"]
    assert interest("int8-b", *names) == ["int8-b", "int8"]
    assert interest("float32", *names) == ["int8"]
    assert interest("float32", "float32", "dynamic") == ["dynamic"]
    assert interest("float32", "float32") == []


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_picture_comes_back_from_its_preprocessing(order: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    spec = {
        "kind": "image", "height": 10, "width": 12, "channels": 3, "order": order,
        "mean": [103.9, 116.8, 123.7], "std": [57.0, 57.5, 58.0],
    }  # fmt: skip
    dataset = replace(dataset_of("classification", pixels, pixels), preprocessing=spec)

    assert np.array_equal(as_pixels(edgekit_runner.preprocess(pixels, spec), dataset), pixels)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_values_without_a_known_scaling_fill_a_usual_range(low: float, high: float) -> None:
    pixels = np.arange(0, 250, dtype=np.uint8).reshape(25, 10, 1)
    values = (low + pixels / 255 * (high - low)).astype(np.float32)
    dataset = dataset_of("classification", values, values)

    assert np.array_equal(as_pixels(values, dataset), pixels[..., 0])
    odd = as_pixels(pixels * np.float32(3) - 1000, dataset)
    assert (odd.min(), odd.max()) == (0, 255)
    bright = as_pixels(values * np.float32(1.2 / high), dataset)  # a little more than 1
    assert bright.max() == 255
    assert as_pixels(np.zeros((2000, 900, 1)), dataset).shape == (400, 180)

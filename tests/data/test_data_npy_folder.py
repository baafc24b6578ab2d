"""Folders of `.npy` files: the same samples as the `.npz` of the same arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import bind, open_data
from edgekit.data.formats import npy_folder
from edgekit.data.formats.npy_folder import read_npy
from edgekit.data.stored import StoredArray
from edgekit.errors import DataError
from edgekit.records import TensorSpec


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "x_train": draw.normal(size=(40, 3, 5)).astype(np.float32),
        "y_train": np.arange(40) % 4,
        "x_test": draw.normal(size=(12, 3, 5)).astype(np.float32),
        "y_test": np.arange(12) % 4,
    }


@pytest.fixture
def folder(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array)
    return place


def test_a_folder_holds_what_an_npz_of_the_same_arrays_holds(
    tmp_path: Path, folder: Path, arrays: dict[str, np.ndarray]
) -> None:
    # given the same arrays in one file
    np.savez(tmp_path / "data.npz", **arrays)

    ours, theirs = open_data(str(folder)), open_data(str(tmp_path / "data.npz"))

    for split in ("train", "calibrate", "test"):
        mine, other = getattr(ours, split), getattr(theirs, split)
        assert mine.sha256 == other.sha256
        rows = np.arange(mine.n)[::-1]
        np.testing.assert_array_equal(mine.read(rows).inputs["x"], other.read(rows).inputs["x"])
        np.testing.assert_array_equal(mine.read(rows).targets, other.read(rows).targets)
    assert ours.name == theirs.name == "data"


def test_rows_are_read_where_they_lie(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    stored = read_npy(folder / "x_train.npy").by_rows()

    assert isinstance(stored, StoredArray)
    np.testing.assert_array_equal(
        stored[np.array([7, 8, 2])], arrays["x_train"][np.array([7, 8, 2])]
    )


def test_an_array_in_fortran_order_is_read_as_it_is_meant(
    folder: Path, arrays: dict[str, np.ndarray]
) -> None:
    np.save(folder / "x_test.npy", np.asfortranarray(arrays["x_test"]))

    read = read_npy(folder / "x_test.npy")

    np.testing.assert_array_equal(read.in_memory(), arrays["x_test"])
    np.testing.assert_array_equal(read.by_rows()[:], arrays["x_test"])


def test_labels_and_preprocessing_lie_beside_the_arrays(folder: Path) -> None:
    (folder / "labels.txt").write_text("ash\nbirch\ncedar\ndogwood\n")
    (folder / "preprocessing.toml").write_text('kind = "affine"\nscale = 2.0\n')

    dataset = open_data(str(folder))
    fitted = bind(
        dataset,
        [TensorSpec(name="input", shape=(1, 3, 5), dtype="float32")],
        [TensorSpec(name="output", shape=(1, 4), dtype="float32")],
    )

    raw = np.load(folder / "x_test.npy")
    assert fitted.labels == ("ash", "birch", "cedar", "dogwood")
    assert fitted.task == "classification"
    np.testing.assert_allclose(fitted.test.read(np.arange(3)).inputs["input"], raw[:3] * 2)
    plain = open_data(str(folder), preprocessing={"kind": "none"})
    np.testing.assert_array_equal(plain.test.read(np.arange(3)).inputs["x"], raw[:3])


def test_several_inputs_are_several_files(folder: Path) -> None:
    for split, n in (("train", 40), ("test", 12)):
        (folder / f"x_{split}.npy").rename(folder / f"x_{split}_image.npy")
        np.save(folder / f"x_{split}_depth.npy", np.zeros((n, 2), np.float32))

    dataset = open_data(str(folder))

    assert sorted(dataset.test.read(np.arange(2)).inputs) == ["depth", "image"]


@pytest.mark.parametrize("name", ["x_train.npy", "y_test.npy"])
@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_file_that_was_cut_short_is_named(folder: Path, name: str, keep: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(DataError, match=name):
        open_data(str(folder))


def test_pickled_objects_are_not_loaded(folder: Path) -> None:
    np.save(folder / "y_test.npy", np.array([{"a": 1}], object), allow_pickle=True)

    with pytest.raises(DataError, match="Python objects"):
        open_data(str(folder))


def test_a_pipe_among_the_files_is_refused_rather_than_waited_for(folder: Path) -> None:
    import os

    (folder / "y_test.npy").unlink()
    os.mkfifo(folder / "y_test.npy")

    with pytest.raises(DataError, match="named pipe"):
        open_data(str(folder))


def test_a_folder_of_images_with_a_stray_array_stays_one(tmp_path: Path) -> None:
    np.save(tmp_path / "mean_image.npy", np.zeros(3))

    assert not npy_folder.has_npy(tmp_path)


@pytest.mark.parametrize("value", [np.array(True), np.repeat([4, 2], 6)])
def test_sequences_are_declared_as_in_an_npz(folder, value):
    np.save(folder / "sequence_test.npy", value)

    found = open_data(str(folder)).test.starts()

    assert np.flatnonzero(found).tolist() == ([0] if value.shape == () else [0, 6])


def test_one_file_of_samples_without_labels(tmp_path):
    x = np.arange(80, dtype=np.float32).reshape(20, 4)
    np.save(tmp_path / "frames.npy", x)
    spec = [TensorSpec(name="v", shape=(1, 4), dtype="float32")]

    bound = bind(open_data(str(tmp_path / "frames.npy")), spec, [replace(spec[0], name="y")])

    assert (bound.name, bound.task, bound.train.n, bound.test.n) == ("frames", None, 20, 20)
    np.testing.assert_array_equal(bound.test.read(np.arange(20)).inputs["v"], x)
    assert any("take the same ones" in note for note in bound.notes)
    np.save(tmp_path / "frames.npy", np.float32(1))
    with pytest.raises(DataError, match="single value"):
        open_data(str(tmp_path / "frames.npy"))

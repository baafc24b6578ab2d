"""IDX files, plain and compressed, whole and broken."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from edgekit.data import open_data
from edgekit.data.formats.idx import DTYPES, read_idx
from edgekit.data.pixels import names_scaling
from edgekit.errors import DataError
from edgekit_runner import preprocess_image


def idx(array):
    code = next(code for code, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype)
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
LABELS = np.arange(6, dtype=np.uint8) % 3


def write_set(folder, prefix="", test_word="t10k", pack=gzip.compress, suffix=".gz"):
    for split in ("train", test_word):
        for what, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            path = folder / f"{prefix}{split}-{what}-ubyte{suffix}"
            path.write_bytes(pack(idx(array)))


@pytest.mark.parametrize("dtype", sorted(DTYPES.values()))
def test_every_type_is_read(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))

    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), array)


@pytest.mark.parametrize(
    "options", [{}, {"pack": bytes, "suffix": ""}, {"test_word": "test"}], ids=str
)
def test_a_folder_of_idx_files(tmp_path, options):
    write_set(tmp_path, **options)

    dataset = open_data(str(tmp_path))

    batch = dataset.test.read(np.arange(6))
    expected = np.stack([preprocess_image(image, dataset.preprocessing) for image in IMAGES])
    np.testing.assert_array_equal(batch.inputs["x"], expected)
    np.testing.assert_array_equal(batch.inputs["x"][..., 0], IMAGES)
    np.testing.assert_array_equal(batch.targets, LABELS)
    assert dataset.preprocessing["kind"] == "image"
    assert not names_scaling(dataset.preprocessing)
    assert dataset.notes == ()


def test_a_prefix_chooses_among_several_sets(tmp_path):
    write_set(tmp_path, "emnist-letters-", "test")
    write_set(tmp_path, "emnist-digits-", "test")

    assert open_data(str(tmp_path / "emnist-letters")).name == "emnist-letters"
    with pytest.raises(DataError, match="several sets"):
        open_data(str(tmp_path))


def test_another_preprocessing_replaces_the_default(tmp_path):
    write_set(tmp_path)
    spec = {"kind": "image", "height": 10, "width": 8, "channels": 3, "mean": 127.5, "std": 127.5}

    dataset = open_data(str(tmp_path), preprocessing=spec)

    x = dataset.train.read(np.arange(6)).inputs["x"]
    assert x.shape == (6, 10, 8, 3)
    np.testing.assert_array_equal(x[2], preprocess_image(IMAGES[2], dataset.preprocessing))
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: gzip.compress(raw[:-1]), "truncated"),
        (lambda raw: gzip.compress(raw[:9]), "truncated"),
        (lambda raw: gzip.compress(raw + b"x"), "too long"),
        (lambda raw: gzip.compress(raw)[:-30], "cannot be read"),
        (lambda _: gzip.compress(b"hello world"), "not an IDX file"),
        (lambda _: gzip.compress(b""), "not an IDX file"),
        (lambda raw: raw, "cannot be read"),
    ],
)
def test_damaged_files(tmp_path, damage, says):
    write_set(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(idx(IMAGES)))

    with pytest.raises(DataError, match=says) as caught:
        open_data(str(tmp_path))
    assert path.name in str(caught.value)


def test_labels_of_other_images(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:4])))

    with pytest.raises(DataError, match="4 labels, 6 images"):
        open_data(str(tmp_path))

"""Large `.npz` files: read in place, row by row, the same values and digests as in memory."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from edgekit.archives import unpacked_limit
from edgekit.data import bind, open_data
from edgekit.data.digest import digest_arrays, digest_rows
from edgekit.data.formats import arrays as arrays_module
from edgekit.data.formats import npz
from edgekit.data.formats.npz import read_members, read_npz
from edgekit.data.store import first_unusable_row
from edgekit.data.stored import StoredArray
from edgekit.errors import DataError
from edgekit.records import TensorSpec

SAVERS = [np.savez, np.savez_compressed]
MODEL = (
    [TensorSpec(name="x", shape=(1, 3, 5), dtype="float32")],
    [TensorSpec(name="y", shape=(1, 4), dtype="float32")],
)


def arrays(dtype="<f4", n=60):
    values = np.random.default_rng(0).integers(0, 100, (n, 3, 5)).astype(dtype)
    classes = np.arange(n) % 4
    return {
        "x_train": values[20:],
        "y_train": classes[20:],
        "x_test": values[:20],
        "y_test": classes[:20],
    }


@pytest.fixture
def nothing_resident(monkeypatch):
    monkeypatch.setattr(npz, "RESIDENT_BYTES", 0)


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "|u1", "<i2", "?"])
def test_rows_come_out_as_saved(tmp_path, nothing_resident, save, dtype):
    content = arrays(dtype)
    save(tmp_path / "a.npz", **content)

    stored = read_members(tmp_path / "a.npz")["x_train"].by_rows()

    assert isinstance(stored, StoredArray)
    assert (stored.shape, stored.dtype, stored.ndim) == ((40, 3, 5), np.dtype(dtype), 3)
    rows = np.array([7, 8, 9, 3, 39, 0, 0])
    for chosen in (rows, slice(None), slice(5, 30, 7), slice(38, 100), slice(3, 3), rows[:0]):
        np.testing.assert_array_equal(stored[chosen], content["x_train"][chosen])
    with pytest.raises(IndexError):
        stored[np.array([40])]
    with pytest.raises(IndexError):
        stored[np.array([-1])]


@pytest.mark.parametrize("save", SAVERS)
def test_digests_are_those_of_arrays_in_memory(tmp_path, monkeypatch, save):
    content = arrays()
    save(tmp_path / "a.npz", **content)
    resident = open_data(str(tmp_path / "a.npz"))
    monkeypatch.setattr(npz, "RESIDENT_BYTES", 0)

    left = open_data(str(tmp_path / "a.npz"))

    for split in ("train", "calibrate", "test"):
        assert getattr(left, split).sha256 == getattr(resident, split).sha256
    whole = {"x_x": content["x_train"], "y": content["y_train"]}
    assert left.train.sha256 == digest_arrays(whole)
    rows = np.arange(40)
    stored = {"x": read_members(tmp_path / "a.npz")["x_train"].by_rows()}
    assert digest_rows(stored, rows) == digest_rows({"x": content["x_train"]}, rows)


def test_the_digest_of_a_split_is_what_it_was_before_arrays_stayed_in_their_file(tmp_path):
    x = np.arange(24, dtype="<f4").reshape(4, 6)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(4, dtype="<i8"))

    dataset = open_data(str(tmp_path / "a.npz"))

    assert dataset.train.sha256.startswith("24463eb9d710db2f")


@pytest.mark.parametrize("save", SAVERS)
def test_a_bound_split_reads_the_same_batches(tmp_path, monkeypatch, save):
    save(tmp_path / "a.npz", **arrays())
    resident = bind(open_data(str(tmp_path / "a.npz")), *MODEL)
    monkeypatch.setattr(npz, "RESIDENT_BYTES", 0)

    left = bind(open_data(str(tmp_path / "a.npz")), *MODEL)

    assert (left.task, left.notes) == (resident.task, resident.notes)
    for one, other in zip(left.train.batches(7), resident.train.batches(7), strict=True):
        np.testing.assert_array_equal(one.inputs["x"], other.inputs["x"])
        np.testing.assert_array_equal(one.targets, other.targets)


def test_the_first_unusable_row_is_found_in_a_file(tmp_path, nothing_resident):
    values = np.ones((5000, 300), np.float32)
    values[4321, 17] = np.nan
    np.savez(tmp_path / "a.npz", x_test=values)

    assert first_unusable_row(read_members(tmp_path / "a.npz")["x_test"].by_rows()) == 4321


@pytest.mark.parametrize("save", SAVERS)
def test_arrays_in_fortran_order(tmp_path, nothing_resident, save):
    content = np.asfortranarray(arrays()["x_train"])
    save(tmp_path / "a.npz", x_train=content)

    stored = read_members(tmp_path / "a.npz")["x_train"].by_rows()

    np.testing.assert_array_equal(stored[np.array([3, 9, 4])], content[[3, 9, 4]])


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("resident", [0, npz.RESIDENT_BYTES])
def test_a_changed_byte_is_refused(tmp_path, monkeypatch, save, resident):
    monkeypatch.setattr(npz, "RESIDENT_BYTES", resident)
    path = tmp_path / "a.npz"
    save(path, **arrays())
    content = bytearray(path.read_bytes())
    content[700] ^= 8
    path.write_bytes(content)

    with pytest.raises(DataError, match="damaged") as no:
        open_data(str(path))

    assert len(str(no.value).splitlines()) == 3


def test_a_file_cut_off_while_it_is_read(tmp_path, nothing_resident):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    dataset = open_data(str(path))

    os.truncate(path, 400)

    with pytest.raises(DataError, match="changed or became unreadable"):
        dataset.test.read(np.arange(20))


def test_a_file_replaced_while_it_is_read_keeps_its_content(tmp_path, nothing_resident):
    content = arrays()
    np.savez(tmp_path / "a.npz", **content)
    dataset = open_data(str(tmp_path / "a.npz"))

    np.savez(tmp_path / "b.npz", **{key: value + 1 for key, value in content.items()})
    (tmp_path / "b.npz").replace(tmp_path / "a.npz")

    read = dataset.test.read(np.arange(20)).inputs["x"]
    np.testing.assert_array_equal(read, content["x_test"])


def test_what_is_inflated_leaves_no_file_behind(tmp_path, nothing_resident, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    np.savez_compressed(tmp_path / "a.npz", **arrays())

    dataset = open_data(str(tmp_path / "a.npz"))

    assert dataset.train.n == 40
    assert list(place.iterdir()) == []


def test_no_room_to_inflate(tmp_path, nothing_resident, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", **arrays())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    with pytest.raises(DataError, match="TMPDIR") as no:
        open_data(str(tmp_path / "a.npz"))

    assert "damaged" not in str(no.value)


def test_a_large_split_that_is_not_needed_stays_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays_module, "SPARED_BYTES", 1000)
    path = tmp_path / "a.npz"
    content = arrays(n=1020)
    content["x_train"][:20] = content["x_test"]  # a leak, were it looked for
    np.savez(path, **content)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        raw[archive.getinfo("x_train.npy").header_offset + 50_000] ^= 1
    path.write_bytes(raw)

    dataset = open_data(str(path), needed="test")

    assert dataset.train is dataset.calibrate is None
    assert dataset.test.n == 20
    assert any("x_train (0 MB) was not read" in note for note in dataset.notes)
    with pytest.raises(DataError, match="damaged"):
        open_data(str(path))


def test_a_large_split_is_read_where_the_needed_one_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays_module, "SPARED_BYTES", 1000)
    content = arrays(n=1020)
    np.savez(tmp_path / "a.npz", x_train=content["x_train"])

    dataset = open_data(str(tmp_path / "a.npz"), needed="test")

    assert (dataset.train.n, dataset.test) == (len(content["x_train"]), None)
    assert not dataset.notes


def test_text_labels_are_numbered_over_a_split_that_stays_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays_module, "SPARED_BYTES", 1000)
    content = arrays()
    content["y_train"] = np.array(["a", "b", "c", "d"])[content["y_train"]]
    content["y_test"] = np.array(["b"] * 20)
    np.savez(tmp_path / "a.npz", **content)

    dataset = open_data(str(tmp_path / "a.npz"), needed="test")

    assert dataset.labels == ("a", "b", "c", "d")
    assert set(dataset.test.read(np.arange(20)).targets) == {1}


def written(path, name, header, body, method=zipfile.ZIP_STORED):
    described = io.BytesIO()
    np.lib.format.write_array_header_1_0(described, header)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, described.getvalue() + body)


@pytest.mark.parametrize(
    "header",
    [
        {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)},
        {"descr": "<f4", "fortran_order": False, "shape": (-1, 3)},
        {"descr": "<U0", "fortran_order": False, "shape": (10**12,)},
        {"descr": "<f4", "fortran_order": False, "shape": (10**12, 0)},
    ],
)
def test_shapes_that_the_file_does_not_hold(tmp_path, header):
    written(tmp_path / "a.npz", "x_test.npy", header, b"")

    with pytest.raises(DataError) as no:
        open_data(str(tmp_path / "a.npz"))

    assert len(str(no.value).splitlines()) == 3


def test_a_bomb_is_refused_and_the_hint_works(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x_test=np.zeros((3000, 1000), np.float32))

    with unpacked_limit(1 << 20):
        with pytest.raises(DataError, match=r"would unpack to 12\.0 MB") as no:
            open_data(str(path))
        assert "--max-unpacked 12M" in str(no.value)
    with unpacked_limit(12 << 20):
        assert open_data(str(path)).test.n == 3000


def test_a_bomb_in_an_idx_file(tmp_path):
    import gzip

    head = b"\0\0\x08\x03" + struct.pack(">3I", 3000, 28, 28)
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(head + bytes(3000 * 28 * 28))

    with unpacked_limit(1 << 20), pytest.raises(DataError, match="--max-unpacked"):
        open_data(str(tmp_path))
    assert open_data(str(tmp_path)).test.n == 3000


@pytest.mark.parametrize(
    "axes", [b"\0\0\x08\xff" + b"\0\0\0\1" * 255, b"\0\0\x08\2" + b"\xff" * 4 + bytes(4)]
)
def test_idx_headers_that_mean_nothing(tmp_path, axes):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(axes + b"\0")

    with pytest.raises(DataError, match=r"IDX|announced"):
        open_data(str(tmp_path))


def test_too_little_memory_is_not_called_damage(tmp_path):
    np.savez(tmp_path / "a.npz", x_test=np.zeros((4000, 1000), np.float32))
    script = (
        "import resource, sys\n"
        "from edgekit.data.formats import npz\n"
        "npz.RESIDENT_BYTES = 1 << 30\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (12 << 20),) * 2)\n"
        "from edgekit.errors import DataError\n"
        "try:\n"
        "    npz.read_npz(__import__('pathlib').Path(sys.argv[1]))\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.npz")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "not enough memory" in done.stdout, done.stderr
    assert "damaged" not in done.stdout


def test_a_large_file_is_walked_through_in_little_memory(tmp_path):
    path = tmp_path / "a.npz"
    block = np.random.default_rng(0).random((1000, 10_000), np.float32)
    with zipfile.ZipFile(path, "w") as archive, archive.open("x_test.npy", "w") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10_000, 10_000)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(10):
            stream.write(block.data)
    script = (
        "import sys\n"
        "from edgekit.data import open_data\n"
        "dataset = open_data(sys.argv[1])\n"
        "for batch in dataset.test.batches(): pass\n"
        "status = open('/proc/self/status').read()\n"  # getrusage tells of the parent, too
        "print(dataset.test.n, status.partition('VmHWM:')[2].split()[0])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )

    n, peak_kb = map(int, done.stdout.split())
    assert n == 10_000
    assert peak_kb < 150_000  # the array takes 400,000 kB


def test_all_arrays_at_once(tmp_path):
    content = arrays()
    np.savez(tmp_path / "a.npz", **content)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("README.txt", "Not an array.")

    found = read_npz(tmp_path / "a.npz")

    assert found.keys() == content.keys()
    for name, values in content.items():
        np.testing.assert_array_equal(found[name], values)

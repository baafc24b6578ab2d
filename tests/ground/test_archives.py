"""Archives are judged by what they declare; nothing is inflated before."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile

import h5py
import numpy as np
import pytest

from edgekit.archives import (
    MEMBERS,
    VARIABLE,
    ArchiveError,
    allowed_bytes,
    check_weights,
    checked_members,
    data_offset,
    parse_size,
    read_gzip,
    read_member,
    refuse_larger,
    unpacked_limit,
)


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return checked_members(archive)


def declared(path, name, size):
    """Make the directory declare another size for a member, as a hostile file does."""
    content = bytearray(path.read_bytes())
    at = content.rindex(name.encode()) - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    struct.pack_into("<I", content, at + 24, size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("text", "size"),
    [("700", 700), ("500M", 500 << 20), ("8G", 8 << 30), ("8gb", 8 << 30), ("1.5 GiB", 3 << 29)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1e9", "8X", "9" * 30, "G", "8 8"])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_an_archive_within_the_limit_is_read(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"x" * 1000), ("b", b"y")])

    assert [member.filename for member in members_of(path)] == ["a", "b"]
    assert read_member(path, "a") == b"x" * 1000


def test_a_small_file_that_declares_gigabytes(tmp_path):
    path = zipped(tmp_path / "bomb.zip", [("a", b"x" * 1000)])
    declared(path, "a", 4_000_000_000)

    with pytest.raises(
        ArchiveError, match=r"would unpack to 4\.0 GB; the limit is 268\.4 MB"
    ) as no:
        members_of(path)

    assert "--max-unpacked 3815M" in no.value.hint
    with unpacked_limit(parse_size("3815M")):
        assert len(members_of(path)) == 1
    with pytest.raises(ArchiveError):
        members_of(path)


def test_stored_members_are_as_large_as_the_file(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"x" * 100_000)], zipfile.ZIP_STORED)

    with unpacked_limit(1000):
        (member,) = members_of(path)

    with zipfile.ZipFile(path) as archive:
        start = data_offset(archive, member)
    assert path.read_bytes()[start : start + 100_000] == b"x" * 100_000


def test_a_stored_member_of_two_sizes(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"x" * 1000)], zipfile.ZIP_STORED)
    declared(path, "a", 4_000_000_000)

    with pytest.raises(ArchiveError, match="two sizes"):
        members_of(path)


def test_members_of_one_name(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "a.zip", [("a", b"x"), ("a", b"y")])

    with pytest.raises(ArchiveError, match="'a' twice"):
        members_of(path)


def test_members_that_share_bytes(tmp_path):
    path = zipped(tmp_path / "a.zip", [("aa", b"x" * 90), ("bb", b"y" * 90)], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"bb") - 46
    struct.pack_into("<I", content, at + 42, 0)  # where its local header is: at the first one's
    path.write_bytes(content)

    with pytest.raises(ArchiveError, match="overlaps"):
        members_of(path)


def test_too_many_members(tmp_path):
    path = zipped(tmp_path / "a.zip", ((f"{i}", b"") for i in range(MEMBERS + 1)))

    with pytest.raises(ArchiveError, match="10,001 members"):
        members_of(path)


def test_encrypted_and_exotic_members(tmp_path):
    exotic = zipped(tmp_path / "a.zip", [("a", b"x" * 99)], zipfile.ZIP_LZMA)
    encrypted = zipped(tmp_path / "b.zip", [("a", b"x" * 99)])
    content = bytearray(encrypted.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    encrypted.write_bytes(content)

    for read in (members_of, lambda path: read_member(path, "a")):
        with pytest.raises(ArchiveError, match="method 14"):
            read(exotic)
        with pytest.raises(ArchiveError, match="encrypted"):
            read(encrypted)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"?"),  # the signature of the member
        (26, b"\xff\xff"),  # the length of its name
        (31, b"\xff" * 9),  # the deflated bytes
    ],
)
def test_a_damaged_member_is_refused(place, value, tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"x" * 99)])
    content = bytearray(path.read_bytes())
    content[place : place + len(value)] = value
    path.write_bytes(content)

    with pytest.raises(ArchiveError):
        read_member(path, "a")


def test_a_member_larger_than_its_reader_expects(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"x" * 1000)])

    with pytest.raises(ArchiveError, match=r"a would unpack to 1\.0 kB"):
        read_member(path, "a", limit=999)
    with pytest.raises(KeyError):
        read_member(path, "b")


def test_gzip_is_read_up_to_the_limit(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))

    assert read_gzip(path) == bytes(5_000_000)
    with unpacked_limit(1 << 20), pytest.raises(ArchiveError, match=r"more than 1\.0 MB") as no:
        read_gzip(path)
    assert "--max-unpacked 4M" in no.value.hint

    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArchiveError, match="end-of-stream"):
        read_gzip(path)


def test_the_limit_grows_with_the_file_and_ends(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)

    assert allowed_bytes(1000) == 256 << 20
    assert allowed_bytes(30 << 20) == 3000 << 20
    assert allowed_bytes(1 << 30) == 4 << 30
    monkeypatch.setenv(VARIABLE, "8G")
    assert allowed_bytes(1000) == 8 << 30
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(ArchiveError, match="EDGEKIT_MAX_UNPACKED is 'much'"):
        allowed_bytes(1000)


def test_a_limit_holds_inside_and_is_taken_back(monkeypatch):
    monkeypatch.setenv(VARIABLE, "8G")

    with unpacked_limit(1000):
        with pytest.raises(ArchiveError):
            refuse_larger(1001, 1)
        with unpacked_limit(None):
            assert os.environ[VARIABLE] == "1000"
        refuse_larger(1000, 1)

    assert os.environ[VARIABLE] == "8G"


@pytest.mark.parametrize("inside", [False, True])
def test_weights_that_declare_what_was_never_written(tmp_path, inside):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b", (10**11,), "f4", chunks=(1 << 20,), compression="gzip")
        file.create_dataset("c", data=np.ones(3))
    if inside:
        path = zipped(tmp_path / "m.keras", [("model.weights.h5", path.read_bytes())])

    with pytest.raises(ArchiveError, match=r"would unpack to 400\.0 GB") as no:
        check_weights(path)

    with unpacked_limit(parse_size(no.value.hint.split()[-1].rstrip("."))):
        check_weights(path)


def test_weights_that_hdf5_cannot_read_are_left_to_keras(tmp_path, demo_model):
    broken = tmp_path / "w.h5"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))

    check_weights(broken)
    check_weights(demo_model)

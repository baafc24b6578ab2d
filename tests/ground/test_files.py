"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import OutputError
from edgekit.files import refuse_existing, sha256_of, staging, writing


def contents(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_written_file_has_its_content_and_nothing_else_remains(tmp_path):
    with writing(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert contents(tmp_path) == ["new", "new/a.txt"]


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path):
    goal = tmp_path / "a.txt"
    goal.write_text("old")

    def fail() -> None:
        with writing(goal) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert goal.read_text() == "old"
    assert contents(tmp_path) == ["a.txt"]


def test_a_staged_folder_moves_as_one_and_keeps_strangers(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with staging(tmp_path) as stage:
        (stage / "a.tflite").write_bytes(b"a")
        (stage / "a.json").write_text("{}")
    assert contents(tmp_path) == ["a.json", "a.tflite", "mine.txt"]


def test_a_failed_stage_leaves_no_folder_behind(tmp_path):
    def fail() -> None:
        with staging(tmp_path / "deep" / "er") as stage:
            (stage / "a.tflite").write_bytes(b"a")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert contents(tmp_path) == []


def test_a_place_below_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"), writing(tmp_path / "file" / "a.txt"):
        pass


def test_a_foreign_missing_file_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out" / "a.txt"):
        Path("/nonexistent/input").read_text()


def test_an_existing_file_needs_force(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="exists already"):
        refuse_existing(tmp_path / "a", force=False)
    refuse_existing(tmp_path / "a", force=True)
    refuse_existing(tmp_path / "b", force=False)


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = sha256_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = sha256_of(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, sha256_of(tmp_path)}) == 3


@pytest.fixture
def tiny_disk(tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tiny_disk):
    with pytest.raises(OutputError, match="No space left"), staging(tiny_disk) as stage:
        (stage / "big.tflite").write_bytes(os.urandom(1 << 20))
    assert contents(tiny_disk) == []


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    with writing(tmp_path / "a") as temporary:
        temporary.write_text("")
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_errors_survive_the_way_between_processes():
    script = (
        "import pickle, sys; from edgekit.errors import ModelError;"
        "sys.stdout.buffer.write(pickle.dumps(ModelError('what', found='found', hint='hint')))"
    )
    import pickle

    sent = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    error = pickle.loads(sent)
    assert (error.exit_code, str(error)) == (3, "what\nfound\nhint")

"""Files appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import DataError, ModelError, OutputError
from edgekit.files import (
    FILE,
    FOLDER,
    check_input,
    refuse_existing,
    sha256_of,
    staging,
    writing,
)


def contents(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def write(path: Path, text: str, **options: bool) -> None:
    with writing(path, **options) as temporary:
        temporary.write_text(text)


def stage_all(
    folder: Path, names: list[str], text: str = "new", *, meanwhile=lambda: None, **options: bool
) -> None:
    with staging(folder, **options) as stage:
        for name in names:
            (stage / name).write_text(text)
        meanwhile()


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


@pytest.mark.parametrize("replace", [False, True])
def test_each_file_gets_its_own_content_in_whatever_order_the_disk_lists_them(
    tmp_path, monkeypatch, replace
):
    # given a folder that exists, a subfolder, and a disk that lists names backwards
    names = [f"{stem}.{end}" for stem in ("int8", "float32", "sub/b") for end in ("json", "tflite")]
    walk = os.walk

    def backwards(*given, **options):
        for root, folders, files in walk(*given, **options):
            yield root, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)

    with staging(tmp_path, replace=replace) as stage:
        (stage / "sub").mkdir()
        for name in names:
            (stage / name).write_text(name)

    assert {name: (tmp_path / name).read_text() for name in names} == {n: n for n in names}


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
    path = tmp_path / "file" / "a.txt"
    with pytest.raises(OutputError, match="Cannot write") as caught, writing(path):
        pass
    # There is space enough.
    assert caught.value.hint == "Nothing was changed. Give another name."


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
    says = "No space left"
    with pytest.raises(OutputError, match=says) as caught, staging(tiny_disk) as stage:
        (stage / "big.tflite").write_bytes(os.urandom(1 << 20))
    assert contents(tiny_disk) == []
    assert "Free some space" in str(caught.value.hint)


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


# --- what may be read, and what may be replaced -------------------------------------------------


@pytest.fixture
def places(tmp_path):
    """Something of every kind, by the words for it."""
    folder = tmp_path / "places"
    folder.mkdir()
    (folder / "file").write_text("content")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's whole path has 108 bytes
        server.bind("socket")
        os.chdir(here)
        yield {
            "a folder": folder / "folder",
            "a named pipe": folder / "pipe",
            "a socket": folder / "socket",
            "a device": Path(os.devnull),
            "out of reach (Too many levels of symbolic links)": folder / "loop",
            "out of reach (File name too long)": folder / ("a" * 300),
            "out of reach (embedded null byte)": folder / "a\0b",
        }


def test_only_a_file_is_read(places, tmp_path):
    for words, path in places.items():
        with pytest.raises(DataError) as raised:
            check_input(path, DataError, hint="Give a file.")
        assert str(raised.value).splitlines()[0].endswith(f" is {words}.")
    with pytest.raises(DataError, match="does not exist"):
        check_input(tmp_path / "none", DataError)
    assert check_input(tmp_path / "places" / "file", DataError) == FILE
    assert check_input(tmp_path / "places", DataError, folder=True) == FOLDER


def test_only_a_file_is_replaced_whatever_was_asked_for(places):
    kinds = {words: path for words, path in places.items() if "null byte" not in words}
    for path in kinds.values():
        before = os.lstat(path) if os.path.lexists(path) else None
        for force in (True, False):
            with pytest.raises(OutputError):
                refuse_existing(path, force=force)
        with pytest.raises(OutputError):
            write(path, "new")
        after = os.lstat(path) if os.path.lexists(path) else None
        assert (before and before.st_ino) == (after and after.st_ino)


def test_a_link_within_its_folder_is_followed_and_one_out_of_it_refused(tmp_path):
    inside, outside = tmp_path / "out", tmp_path / "elsewhere"
    inside.mkdir()
    outside.write_text("theirs")
    (inside / "v1.json").write_text("old")
    (inside / "latest.json").symlink_to("v1.json")
    (inside / "away.json").symlink_to(outside)
    (inside / "nowhere.json").symlink_to(tmp_path / "none")
    with writing(inside / "latest.json") as temporary:
        temporary.write_text("new")
    assert (inside / "v1.json").read_text() == "new"
    assert (inside / "latest.json").is_symlink()
    for name in ("away.json", "nowhere.json"):
        with pytest.raises(OutputError, match="is a link to"):
            refuse_existing(inside / name, force=True)
        with pytest.raises(OutputError, match="is a link to"):
            stage_all(inside, ["a.json", name], replace=True)
    assert outside.read_text() == "theirs"
    assert contents(inside) == ["away.json", "latest.json", "nowhere.json", "v1.json"]


# --- all or nothing -----------------------------------------------------------------------------


def test_files_that_appeared_meanwhile_are_kept_and_the_whole_is_refused(tmp_path):
    def first() -> None:
        stage_all(tmp_path / "out", ["b.json", "report.json"], "first")
        write(tmp_path / "out.md", "first")

    with pytest.raises(OutputError, match=r"report\.json exists already"):
        stage_all(tmp_path / "out", ["a.json", "report.json"], "second", meanwhile=first)
    assert contents(tmp_path) == ["out", "out.md", "out/b.json", "out/report.json"]
    assert (tmp_path / "out" / "report.json").read_text() == "first"
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "out.md", "second", replace=False)
    assert (tmp_path / "out.md").read_text() == "first"


def test_what_was_replaced_comes_back_where_a_later_file_cannot_be_placed(tmp_path):
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "z.html").mkdir()
    with pytest.raises(OutputError, match=r"z\.html is a folder"):
        stage_all(tmp_path, ["a.json", "new.json", "z.html"], replace=True)
    assert (tmp_path / "a.json").read_text() == "old"
    assert contents(tmp_path) == ["a.json", "z.html"]


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_that_is_removed_meanwhile_is_an_error(existed, tmp_path):
    folder = tmp_path / "deep" / "out"
    if existed:
        folder.mkdir(parents=True)
    with pytest.raises(OutputError, match="was removed while this command ran"):
        stage_all(folder, ["a.json"], meanwhile=lambda: shutil.rmtree(tmp_path / "deep"))
    assert contents(tmp_path) == []


def test_a_new_folder_has_the_permissions_of_any_new_folder(tmp_path):
    with staging(tmp_path / "a") as stage:
        (stage / "file").touch()
    (tmp_path / "b").mkdir()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def remove_and_miss(folder: Path) -> None:
    shutil.rmtree(folder)
    raise ModelError(f"{folder / '.edgekit-1' / 'a'} does not exist.")


def test_whoever_misses_a_removed_stage_the_error_names_the_output_folder(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"The output folder .*out was removed") as caught:
        stage_all(folder, ["a"], meanwhile=lambda: remove_and_miss(folder))
    assert ".edgekit-" not in str(caught.value)
    assert "Run it again" in caught.value.hint
    assert contents(tmp_path) == []


def test_a_stage_that_alone_is_removed_is_an_error_too(tmp_path):
    def remove() -> None:
        (stage,) = tmp_path.iterdir()
        remove_and_miss(stage)

    with pytest.raises(OutputError, match=r"The temporary folder for .*out was removed"):
        stage_all(tmp_path / "out", ["a"], meanwhile=remove)
    assert contents(tmp_path) == []


def test_whoever_misses_a_removed_file_the_error_names_its_folder(tmp_path):
    folder = tmp_path / "sub"
    found = r"The output folder .*sub was removed"
    with pytest.raises(OutputError, match=found), writing(folder / "a.json"):
        remove_and_miss(folder)


def test_an_error_with_the_stage_in_place_stays_as_it_is(tmp_path):
    with pytest.raises(ModelError, match="Odd"), staging(tmp_path / "out"):
        raise ModelError("Odd.")

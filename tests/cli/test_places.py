"""Inputs and outputs that are no files: an immediate error, and no file is changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgekit.cli import run

RECIPE = 'schema = 1\n{name}[[step]]\nkind = "quantize"\nmode = "float16"\n'
TOO_LONG = "a" * 300

# Commands with an input that is PLACE, and the exit code of one that cannot be read.
INPUTS = [
    (["inspect", "PLACE"], 3),
    (["bench", "PLACE"], 3),
    (["eval", "PLACE", "--data", "digits"], 3),
    (["eval", "model.tflite", "--data", "PLACE.npz"], 4),
    (["eval", "model.tflite", "--data", "digits", "--preprocess", "PLACE"], 4),
    (["quantize", "PLACE.keras"], 3),
    (["quantize", "PLACE.tflite", "--mode", "float16"], 3),
    (["quantize", "model.tflite", "--recipe", "PLACE"], 2),
    (["compress", "PLACE.keras", "--recipe", "small.toml", "--data", "digits"], 3),
    (["import", "PLACE.keras", "-o", "out.tflite"], 3),
    (["prune", "PLACE.keras", "--data", "digits", "-o", "out.keras"], 3),
    (["train", "PLACE.toml", "-o", "out.keras"], 2),
    (["report", "PLACE"], 2),
    (["deploy", "PLACE", "--device", "nowhere"], 3),
    (["deploy", "model.tflite", "--device", "nowhere", "--run", "PLACE"], 4),
    (["deploy", "model.tflite", "--device", "nowhere", "--run", "x.npz", "--labels", "PLACE"], 4),
]
# Commands with an output that is PLACE.
OUTPUTS = [
    ["import", "model.tflite", "-o", "PLACE.tflite"],
    ["prune", "model.keras", "--data", "digits", "-o", "PLACE.keras"],
    ["train", "cnn", "--data", "digits", "-o", "PLACE.keras"],
    ["report", "report.json", "-o", "PLACE.md"],
    ["deploy", "model.tflite", "--device", "nowhere", "-o", "PLACE.md"],
]


@pytest.fixture
def here(tmp_path, monkeypatch, golden, repository):
    """A folder with one good file of every kind, and a pipe for each ending."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shutil.copy(golden / "quantize" / "speech_float32.tflite", "model.tflite")
    (tmp_path / "model.keras").touch()
    (tmp_path / "x.npz").touch()
    (tmp_path / "small.toml").write_text(RECIPE.format(name=""))
    shutil.copy(min((repository / "quantized").glob("*/report.json")), "report.json")
    for ending in ("", ".npz", ".keras", ".tflite", ".toml", ".md", ".json"):
        os.mkfifo(f"pipe{ending}")
    return tmp_path


def ends(words, place, capsys) -> tuple[int, str]:
    """Run a command with PLACE replaced by a path; return its exit code and message."""
    code = run([word.replace("PLACE", place) for word in words] + ["--quiet"] * needs_quiet(words))
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert 1 <= len(said) <= 3, said
    return code, said[0]


def needs_quiet(words) -> bool:
    return words[0] not in {"inspect", "report"}


@pytest.mark.parametrize(("words", "code"), INPUTS, ids=lambda value: str(value)[:60])
def test_an_input_that_is_no_file(words, code, here, capsys):
    before = sorted(here.rglob("*"))
    for place, reason in (
        ("pipe", "is a named pipe."),
        (TOO_LONG, "is out of reach (File name too long)."),
        ("none", "does not exist."),
    ):
        ended, said = ends(words, place, capsys)
        assert ended == code, said
        # Of data and pages that are not there, each form has its own words.
        assert said.endswith(reason) or place == "none", said
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("words", OUTPUTS, ids=lambda words: words[0])
@pytest.mark.parametrize("force", [True, False])
def test_an_output_that_is_no_file(words, force, here, capsys):
    more = ["--force"] if force else []
    for place, reason in (
        ("pipe", "is a named pipe."),
        (TOO_LONG, "is out of reach (File name too long)."),
    ):
        ended, said = ends([*words, *more], place, capsys)
        assert ended == 2, said
        assert said.endswith(reason), said


def test_a_device_is_never_replaced(here, capsys):
    before = Path(os.devnull).stat()
    # A name that reports and folders may have, too.
    for words in (["report", "report.json", "--format", "md"], ["quantize", "model.tflite"]):
        ended, said = ends([*words, "--force", "-o", os.devnull], "", capsys)
        assert (ended, said) == (2, f"{os.devnull} is a device.")
    after = Path(os.devnull).stat()
    assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)


def test_what_is_no_file_in_the_output_folder_is_not_replaced(here, capsys):
    out = here / "out"
    out.mkdir()
    os.mkfifo(out / "report.json")
    words = ["quantize", "model.tflite", "--mode", "float16", "-o", "out", "--force"]
    assert ends(words, "", capsys) == (2, "out/report.json is a named pipe.")
    assert [path.name for path in out.iterdir()] == ["report.json"]
    words = ["deploy", "model.tflite", "--device", "nowhere", "-o", "out", "--force"]
    assert ends(words, "", capsys) == (2, "out/report.json is a named pipe.")


@pytest.mark.parametrize("name", ["report", "Report", "REPORT", "source", "Source"])
def test_a_variant_cannot_take_the_place_of_the_report_or_the_source(name, here, capsys):
    (here / f"{name}.toml").write_text(RECIPE.format(name=""))
    (here / "other.toml").write_text(RECIPE.format(name=f'name = "{name}"\n'))
    for recipe in (f"{name}.toml", "other.toml"):
        words = ["quantize", "model.tflite", "--recipe", recipe, "--no-bench", "-o", "out"]
        ended, said = ends(words, "", capsys)
        assert (ended, said) == (2, f"{recipe}: a variant must not be called {name!r}.")
    assert not (here / "out").exists()


def test_names_that_differ_in_case_only_are_one_name_on_some_disks(here, capsys):
    (here / "Float16.toml").write_text(RECIPE.format(name=""))
    words = ["quantize", "model.tflite", "--recipe", "Float16.toml", "--mode", "float16"]
    ended, said = ends(words, "", capsys)
    assert ended == 2
    assert said.startswith("Two variants are called")

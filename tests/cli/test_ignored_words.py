"""Words of a command line that would be ignored, and hints that name the right option."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.cli.commands import COMMANDS, SEVERAL_ELSEWHERE, load


@pytest.mark.parametrize(
    "words",
    [
        ("check", "a.tflite", "--target", "micro:ram=1k", "--target", "coral"),
        ("check", "a.tflite", "--target=micro:ram=1k", "--target=coral"),
        ("check", "a.tflite", "-D", "pi", "--device", "pico"),
        ("sensitivity", "a.tflite", "--mode", "int8", "--mode", "int4"),
        ("export", "a.tflite", "-o", "c", "--target", "micro", "--target", "esp32-s3"),
    ],
)
def test_a_second_value_is_refused_and_replaces_none(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(words)) == 2
    error = capsys.readouterr().err
    assert "is given 2 times" in error
    assert words[0] in error


def test_commands_that_repeat_it_still_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Then the missing file is what is wrong."""
    assert run(["inspect", "none.tflite", "--target", "cpu", "--target", "coral"]) == 3
    assert "none.tflite" in capsys.readouterr().err


def test_each_of_them_is_repeated_by_some_command_and_not_by_another() -> None:
    kinds = {
        (option, own.multiple)
        for name in COMMANDS
        for own in load(name).params
        for option in SEVERAL_ELSEWHERE.intersection(own.opts)
    }

    assert kinds == {(option, several) for option in SEVERAL_ELSEWHERE for several in (True, False)}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--mode", "int8", "--io", "int16"), "--mode int16x8"),
        (("--mode", "float16", "--io", "uint8"), "--mode int8"),
        (("--io", "int16"), "--mode int16x8"),
    ],
)
def test_types_that_no_mode_takes_are_refused(
    words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quantize", "none.tflite", *words]) == 2
    error = capsys.readouterr().err
    assert "has no effect" in error
    assert hint in error


@pytest.mark.parametrize("words", [("--mode", "int16x8", "--io", "int16"), ("--io", "uint8")])
def test_types_that_a_mode_takes_are_not(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quantize", "none.tflite", *words]) == 3
    assert "none.tflite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("check", "a.tflite", "--max-size", "1k", "--junit"),
        ("compare", "a.tflite", "b.tflite", "--data", "d.npz", "--graph"),
        ("inspect", "a.tflite", "--output"),
    ],
)
def test_a_file_that_exists_is_named_with_its_option(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "page.html"
    place.touch()

    assert run([*words, str(place)]) == 2
    assert f"Give another {words[-1]}, or --force" in capsys.readouterr().err

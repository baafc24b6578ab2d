"""Invalid numbers, names and files of options: exit code 2 to 4, three lines, no traceback."""

from __future__ import annotations

import os

import pytest
import typer

from edgekit.archives import VARIABLE
from edgekit.cli import app, options, run
from edgekit.cli.training_options import number_of
from edgekit.recipe.settings import settings_of
from edgekit.recipe.steps import Training

COMMANDS = typer.main.get_command(app).commands
LONG = "n" * 300
NUMBER, WHOLE = (reader(0).__qualname__ for reader in (options.number, options.whole))
FIELD = number_of(settings_of(Training)["seed"], int).__qualname__
READERS = [
    pytest.param(parameter.type.func, id=f"{command}-{parameter.name}")
    for command, found in COMMANDS.items()
    for parameter in found.params
    if hasattr(parameter.type, "func") and parameter.name != "max_unpacked"
]


def complaint(words, capsys, code=2):
    """Return stderr, after checking its form."""
    assert run([str(word) for word in words]) == code
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert 1 <= len(said) <= 3, said
    return "\n".join(said)


def test_every_number_goes_through_one_of_the_readers():
    others = [
        (command, parameter.name, type(parameter.type).__name__)
        for command, found in COMMANDS.items()
        for parameter in found.params
        if type(parameter.type).__name__ in {"FloatParamType", "FloatRange", "IntParamType"}
        or type(parameter.type).__name__ == "IntRange"
    ]

    assert others == []
    assert {reader.values[0].__qualname__ for reader in READERS} == {NUMBER, WHOLE, FIELD}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "-inf", "1e999", "1" + "0" * 400, "x", ""])
def test_no_option_takes_what_is_no_finite_number(reader, text):
    with pytest.raises(typer.BadParameter) as no:
        reader(text)

    assert len(str(no.value)) < 120


@pytest.mark.parametrize(
    ("reader", "fits", "refused"),
    [
        (options.number(0), ["0", "-0", "1e30"], ["-1e-9"]),
        (options.number(0, above=True), ["1e-6", "1"], ["0", "-0", "1e-300"]),
        (options.number(0, 1, below=True), ["0", "0.999"], ["1", "1.5", "-0.1"]),
        (options.number(0, 1), ["1"], ["1.0001"]),
        (options.whole(1, 5), ["1", "5"], ["0", "6", "1.5", "-1"]),
    ],
)
def test_bounds(reader, fits, refused):
    for text in fits:
        assert reader(text) == float(text)
        assert not str(reader(text)).startswith("-")
    for text in refused:
        with pytest.raises(typer.BadParameter):
            reader(text)


@pytest.mark.parametrize(
    "words",
    [
        ["quantize", "m.keras", "--max-drop", "nan"],
        ["quantize", "m.keras", "--max-drop", "inf"],
        ["prune", "m.keras", "-d", "digits", "-o", "p.keras", "--sparsity", "1"],
        ["prune", "m.keras", "-d", "digits", "-o", "p.keras", "--learning-rate", "nan"],
        ["shrink", "m.keras", "-d", "digits", "-o", "p.keras", "--share", "0"],
        ["qat", "m.keras", "-d", "digits", "-o", "p.keras", "--seed", str(2**32)],
        ["train", "cnn", "-d", "digits", "-o", "p.keras", "--learning-rate", "-0"],
        ["bench", "m.tflite", "--duration", "inf"],
        ["bench", "m.tflite", "--threads", "100000"],
        ["quantize", "m.keras", "--max-unpacked", "8X"],
    ],
)
def test_the_option_is_named(words, capsys):
    assert f"Invalid value for '{words[-2]}'" in complaint(words, capsys)


@pytest.mark.parametrize(
    "pattern",
    ["5:0", "0:4", "4:2", "4:4", "-1:4", "block 0x4", "block 4", "99999999999:4", "٢:٤", ""],
)
def test_patterns_that_mean_nothing(pattern, capsys, demo_model, tmp_path):
    words = ["prune", demo_model, "-d", "digits", "-o", tmp_path / "p.keras", "--pattern", pattern]

    assert "2:4" in complaint(words, capsys)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["quantize", LONG], 3),
        (["quantize", "DEMO", "-d", LONG + ".npz"], 4),
        (["quantize", "DEMO", "--recipe", LONG], 2),
        (["quantize", "DEMO", "-d", "digits", "--preprocess", LONG], 4),
        (["eval", LONG, "-d", "digits"], 3),
        (["bench", LONG], 3),
        (["inspect", LONG], 3),
        (["train", LONG + ".toml", "-o", "p.keras"], 2),
        (["train", "cnn", "-d", "digits", "-o", "."], 2),
        (["quantize", "a\x1b[2Jb\nc\nd\ne"], 3),
        (["quantize", "DEMO", "-d", "a\nb\nc\nd"], 4),
    ],
)
def test_names_that_no_file_has(words, code, capsys, monkeypatch, demo_model):
    # The worker is started before the data is read; here it need not come up.
    monkeypatch.setattr("edgekit.worker.client.start", lambda *_, **__: None)
    given = [str(demo_model) if word == "DEMO" else word for word in words]

    said = complaint(given, capsys, code)

    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["quantize", "m.keras", "--recipe"], 2),
        (["train", "-o", "p.keras"], 2),
        (["quantize", "m.keras", "-d", "digits", "--preprocess"], 4),
    ],
)
def test_toml_nested_beyond_reason(words, code, capsys, tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 50_000)

    assert "nested" in complaint([*words, path], capsys, code)


def test_max_unpacked_holds_for_the_command_only(capsys, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    seen = []
    monkeypatch.setattr(
        "edgekit.api.quantize", lambda *_, **__: seen.append(os.environ[VARIABLE]) or 1 / 0
    )

    with pytest.raises(ZeroDivisionError):
        run(["quantize", "m.keras", "--max-unpacked", "8G"])

    assert seen == [str(8 << 30)]
    assert VARIABLE not in os.environ


def test_too_little_memory_is_said(capsys, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("edgekit.api.quantize", fail)

    assert "not enough memory" in complaint(["quantize", "m.keras"], capsys, 4)

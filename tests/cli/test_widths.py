"""What commands print for people, on terminals of 80 and 60 columns and in pipes."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit_runner
from edgekit import folding
from edgekit.cli import run
from edgekit.cli.commands import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "quantized"
FASHION, TURBOFAN = FILES / "fashion-mnist", FILES / "turbofan"
COPIED = re.compile(r"\b(edgekit|pip|python3|sudo) .*|\S*/\S+$")
"""A command, or a path at the end of a line."""
BOARD = "micro:ram=256k,flash=1M"
"""Words of commands that read published files, and print for people."""
READING = [
    ["doctor"],
    ["train", "--list"],
    ["inspect", FASHION / "int8.tflite"],
    ["inspect", FILES / "bccd" / "int16x8.tflite", "--target", "coral", "--target", BOARD],
    ["inspect", FILES / "spoken-digits-small" / "small.tflite.gz", "--target", "ethos-u55"],
    ["check", FASHION / "int8.tflite", "--max-size", "5k", "--target", BOARD],
    ["check", TURBOFAN / "int8.tflite", "--no-float", "--max-latency", "5s"],
    ["check", FASHION / "none.tflite", "--max-size", "5k"],
    ["check", FASHION / "int8.tflite"],
    ["bench", TURBOFAN / "float32.tflite", TURBOFAN / "int8.tflite"],
    ["bench", TURBOFAN / "int8.tflite", "--duration", "1", "--sweep"],
    ["compare", FASHION / "float32.tflite", FASHION / "int8.tflite"],
    ["compare", TURBOFAN / "float32.tflite", FASHION / "int8.tflite"],
    ["sensitivity", TURBOFAN / "float32.tflite", "--data", "turbofan"],
    ["eval", TURBOFAN / "float32.tflite", TURBOFAN / "int8.tflite", "--data", "turbofan"],
    ["eval", FILES / "spoken-digits" / "int8.tflite", "--data", "spoken-digits"],
    ["eval", FASHION / "int8.tflite", "--data", "turbofan"],
    ["report", *sorted(FILES.glob("*/report.json"))],
    ["report", FASHION / "int8.json"],
    ["quantize", FASHION / "int8.tflite", "--data", "fashion-mnist"],
    ["quantize", FASHION / "none.keras", "--mode", "int9"],
    ["deploy", FASHION / "int8.tflite", "--device", "no such device"],
    ["rebuild", FASHION / "report.json"],
    ["verify", FASHION / "report.json"],
]
RUNNER = [
    ["info", FASHION / "int8.tflite"],
    ["info", FILES / "bccd" / "int8.tflite"],
    ["info", FASHION / "none.tflite"],
    ["bench", TURBOFAN / "int8.tflite", "--seconds", "0.1", "--sweep"],
    ["bench", TURBOFAN / "int8.tflite", "--delegate", "libnone.so"],
    ["eval", TURBOFAN / "int8.tflite", REPOSITORY / "README.md"],
]


def too_wide(text: str, width: int) -> Iterator[str]:
    """Yield the lines that are wider than they need be: a path or a command is one word."""
    for line in text.splitlines():
        rest = COPIED.sub("", line)
        longest = max(map(len, rest.split()), default=0)
        if len(rest.rstrip()) > width and longest + len(folding.HANG) < width:
            yield line


@pytest.fixture(autouse=True)
def at_home(monkeypatch, shared_data):
    """Commands are given paths as users give them, below the current folder."""
    monkeypatch.chdir(REPOSITORY)


def named(words):
    return [str(w.relative_to(REPOSITORY)) if isinstance(w, Path) else w for w in words]


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("words", READING, ids=lambda words: " ".join(named(words))[:60])
def test_no_line_is_wider_than_the_terminal(words, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))

    run(named(words))

    told = capsys.readouterr()
    assert told.out or told.err
    assert list(too_wide(told.out + told.err, width)) == []


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("words", RUNNER, ids=lambda words: " ".join(named(words))[:60])
def test_no_line_of_the_runner_is_wider_than_the_terminal(words, width, monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", str(width))

    edgekit_runner.main(named(words))

    told = capfd.readouterr()
    assert told.out or told.err
    assert list(too_wide(told.out + told.err, width)) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_of_a_help_is_wider_than_80_columns(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    run([name, "--help"])

    assert list(too_wide(capsys.readouterr().out, 80)) == []


def test_a_terminal_without_columns_is_asked_for_its_width():
    # given: a terminal of 50 columns, and nothing in the environment
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    words = named(["check", FASHION / "int8.tflite", "--target", BOARD, "--max-size", "5k"])

    # when
    with subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words], stdout=theirs, stderr=theirs, env=environment
    ) as command:
        os.close(theirs)
        told = b""
        while True:
            try:
                told += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)

    # then
    assert command.returncode == 6
    lines = told.decode().splitlines()
    assert any(line.startswith(" " * 17) for line in lines)
    assert list(too_wide("\n".join(lines), 50)) == []


def test_in_a_pipe_a_sentence_is_a_line_and_a_table_has_80_columns(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)

    run(named(["check", FASHION / "int8.tflite", "--target", BOARD, "--max-size", "5k"]))
    checked = capsys.readouterr()
    run(named(["report", FASHION / "report.json"]))
    reported = capsys.readouterr().out
    edgekit_runner.main(named(["info", FASHION / "int8.tflite"]))
    described = capsys.readouterr().out

    assert [line.split()[0] for line in checked.out.splitlines()] == ["met", "UNMET"]
    assert len(checked.err.splitlines()) == 1
    table, _, sentences = reported.partition("* best of its column")
    assert 60 < max(map(len, table.splitlines())) <= 80
    assert max(map(len, sentences.splitlines())) > 80
    assert [line for line in described.splitlines() if "preprocessing" in line] == [
        line for line in described.splitlines() if line.endswith("(from the manifest)")
    ][:1]


def test_commands_and_paths_stay_whole():
    path = "/" + 90 * "x"
    command = "edgekit quantize 'my model.keras' --data data.npz --mode int8"

    for width in (20, 40):
        assert command in "\n".join(folding.fold(f"Make it again: {command}, or leave it.", width))
        assert path in "\n".join(folding.fold(f"Cannot read {path} here.", width))
        assert path in "\n".join(edgekit_runner.fold(f"Cannot read {path} here.", width))
        found = "\n".join(edgekit_runner.fold("Install with: pip install ai-edge-litert.", width))
        assert "pip install ai-edge-litert" in found


def test_commands_print_in_one_place():
    """What is printed elsewhere would not be folded."""
    home = REPOSITORY / "toolkit" / "edgekit" / "cli"
    printing = {
        path.name
        for path in home.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    }
    assert printing == {"output.py"}

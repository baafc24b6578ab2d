"""Standard streams that are closed, full, or have no reader."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from killing import DRAWING

EDGEKIT = [sys.executable, "-m", "edgekit"]


@pytest.fixture
def model(golden):
    return golden / "runner" / "fsdd_int8.tflite"


def shell(line: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which "$edgekit" is the command."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        ["bash", "-c", f'edgekit() {{ "{sys.executable}" -m edgekit "$@"; }}\n{line}'],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('edgekit inspect "$model" >/dev/full', "No space left on device"),
        ('edgekit inspect "$model" --json >/dev/full', "No space left on device"),
        ("edgekit --help >/dev/full", "No space left on device"),
        ('edgekit inspect "$model" >&-', "Bad file descriptor"),
    ],
)
def test_output_that_cannot_be_written_is_an_error(line, reason, model):
    ended = shell(line, model=model)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[0] == f"Cannot write to stdout: {reason}."
    assert len(ended.stderr.splitlines()) <= 3


@pytest.mark.parametrize("command", ['inspect "$model"', 'inspect "$model" --json', "--help"])
def test_a_reader_that_has_seen_enough_is_no_error(command, model):
    for reader in ("head -1", "true"):
        ended = shell(f"edgekit {command} | {reader}; exit ${{PIPESTATUS[0]}}", model=model)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_stderr_gets_nothing_and_nobody_else_does(model, tmp_path):
    ended = shell('edgekit inspect "$none" 2>&-', none=tmp_path / "none")
    assert (ended.returncode, ended.stdout) == (3, "")
    ended = shell('edgekit inspect "$model" 2>/dev/full', model=model)
    assert ended.returncode == 0
    assert str(model) in ended.stdout
    # Files that are opened do not become a stream that was closed.
    ended = shell('edgekit inspect "$model" --json <&- 2>&-', model=model)
    assert ended.returncode == 0
    assert ended.stdout.startswith("{")


@pytest.mark.parametrize("streams", [">/dev/full", ">&-", ">/dev/full 2>&-", "2>&1 | true"])
def test_files_are_complete_whatever_becomes_of_the_streams(streams, golden, tmp_path):
    model = golden / "quantize" / "speech_float32.tflite"
    (tmp_path / "vl_convert.py").write_text(DRAWING)
    line = 'edgekit quantize "$model" --mode float16 --no-bench -o "$out" ' + streams
    place = {"model": model, "out": tmp_path / "out", "PYTHONPATH": tmp_path}
    ended = shell(f"{line}; exit ${{PIPESTATUS[0]}}", **place)
    assert ended.returncode == (0 if "|" in streams else 2), ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".html", ".tflite"}


def test_a_name_that_is_no_text_is_printed_all_the_same(repository, tmp_path):
    rows = min((repository / "quantized").glob("*/report.json"))
    goal = tmp_path / os.fsdecode(b"\xff.md")
    ended = subprocess.run([*EDGEKIT, "report", rows, "-o", goal], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"\\xff.md" in ended.stdout
    assert goal.exists()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["typer", "edgekit.api", "numpy._core.multiarray", "rich"])
def test_a_signal_while_something_is_imported(module, number, model, tmp_path):
    """It comes when the module is looked for: before the first line of it runs."""
    hook = (
        "import os, signal, sys\n"
        "module, number = sys.argv[1:3]\n"
        "class Signals:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == module: os.kill(os.getpid(), getattr(signal, number))\n"
        "sys.meta_path.insert(0, Signals())\n"
        "sys.argv[1:3] = []\n"
        "from edgekit.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", hook, module, number, "inspect", str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    by = "" if number == "SIGINT" else f" by {number}"
    assert ended.stderr == f"Interrupted{by}; nothing half-written was left.\n"
    assert ended.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[number]


def test_an_error_stands_behind_what_was_printed_before_it(model):
    ended = shell('edgekit check "$model" --max-size 1k 2>&1', model=model)

    first, last = ended.stdout.splitlines()
    assert ended.returncode == 6
    assert first.startswith("UNMET")
    assert "1 of 1 conditions unmet" in last

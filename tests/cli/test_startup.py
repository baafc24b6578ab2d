"""What must be fast imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "altair", "vl_convert", "PIL", "sklearn", "scipy")


def loaded_after(*words: str) -> set[str]:
    """Modules of the process after `edgekit words`."""
    script = (
        "import sys; from edgekit.cli import run\n"
        f"code = run({list(words)!r})\n"
        "assert code == 0, code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    "words", [["--help"], ["quantize", "--help"], ["train", "--help"], ["--version"]]
)
def test_help_imports_neither_tensorflow_nor_numpy(words):
    assert not loaded_after(*words) & {*HEAVY, "numpy", "rich", "ai_edge_litert"}


def test_inspect_imports_no_tensorflow(golden):
    loaded = loaded_after("inspect", str(min(golden.rglob("*.tflite"))))
    assert not loaded & set(HEAVY)


def test_microcontrollers_need_no_tensorflow(golden, tmp_path):
    source = str(golden / "evaluate" / "two_in_two_out.tflite")
    for words in (
        ["inspect", source, "--target", "micro:ram=64k"],
        ["expand", source, "--target", "micro", "-o", str(tmp_path / "micro.tflite")],
        ["export", source, "-o", str(tmp_path / "firmware")],
    ):
        assert not loaded_after(*words) & {"tensorflow", "keras"}


def test_importing_the_package_imports_nothing_heavy():
    script = "import edgekit, sys; print('\\n'.join(sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert not set(out.split()) & {*HEAVY, "numpy"}


def test_every_help_text_has_an_example_to_copy():
    import typer

    from edgekit.cli import app

    for name, command in typer.main.get_command(app).commands.items():
        assert f"edgekit {name}" in command.help, name


def test_help_imports_no_command():
    script = "from edgekit.cli import run; run(['--help']); import sys; print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    loaded = {name for name in out if name.startswith("edgekit.cli.")}
    assert loaded == {"edgekit.cli.commands", "edgekit.cli.streams"}


def test_the_summary_of_a_command_is_the_first_sentence_of_its_help():
    from edgekit.cli.commands import COMMANDS, load

    for name, entry in COMMANDS.items():
        first = " ".join(load(name).help.split("\n\n")[0].split())
        assert entry.summary == first, name

"""README.md says what the code and the reports say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def test_the_generated_parts_are_up_to_date(repository):
    done = subprocess.run(
        [sys.executable, repository / "docs" / "build.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_option_and_command_it_names_exists(repository):
    import typer

    from edgekit.cli import app

    text = (repository / "README.md").read_text()
    commands = typer.main.get_command(app).commands
    for name, rest in re.findall(r"^edgekit (\w+)(.*)$", text, re.MULTILINE):
        assert name in commands, name
        known = {option for p in commands[name].params for option in p.opts}
        for option in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest):
            assert option in known, (name, option)


def test_every_file_it_links_to_exists(repository):
    text = (repository / "README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    for link in links:
        assert (repository / link).exists(), link


@pytest.mark.parametrize("folder", ["quantized", "models"])
def test_the_published_models_keep_their_promises(repository, folder):
    """The bounds that were set for them, on what is in the repository."""
    import json

    if folder == "models":
        sizes = [p.stat().st_size for p in (repository / "models").rglob("*.keras")]
        assert len(list((repository / "models").glob("*/*.keras"))) == 3
        assert len(list((repository / "models").glob("*/small/*-qat.keras"))) == 3
        assert max(sizes) < 2_000_000
        return
    floats = {}
    for path in (repository / "quantized").glob("*/report.json"):
        rows = json.loads(path.read_text())["rows"]
        floats[path.parent.name] = rows[0]
        parameters = rows[0]["manifest"]["source"]["parameters"]
        if path.parent.name == "fashion-mnist":
            assert parameters <= 100_000
    for path in (repository / "quantized").glob("*-small/report.json"):
        first, *_, last = json.loads(path.read_text())["rows"]
        assert last["size_deflated_bytes"] < first["size_deflated_bytes"] / 5, path
        if path.parent.name == "fashion-mnist-small":
            assert last["size_deflated_bytes"] < first["size_deflated_bytes"] / 12
            assert last["drop"] <= 0.01
    assert floats["fashion-mnist"]["score"]["value"] >= 0.920
    assert floats["spoken-digits"]["score"]["value"] >= 0.985
    assert floats["turbofan"]["score"]["value"] <= 16.2

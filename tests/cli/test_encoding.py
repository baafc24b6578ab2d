"""Every command works on a terminal that accepts ASCII only, also with names outside ASCII."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

ASCII = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
)
COMMANDS = (
    *(
        "demo",
        "train",
        "import",
        "adapt",
        "prune",
        "shrink",
        "cluster",
        "qat",
        "compress",
        "quantize",
    ),
    *("inspect", "eval", "bench", "deploy", "report", "doctor"),
)


def edgekit(*words, environment, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "edgekit.cli", *words],
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=300,
    )


@pytest.fixture(params=ASCII, ids=lambda variables: next(iter(variables)))
def terminal(request):
    return request.param


@pytest.fixture(
    params=["größe 多.tflite".encode(), b"caf\xe9\x1b[31m.tflite"], ids=["text", "bytes"]
)
def model(request, golden, tmp_path):
    path = os.fsencode(tmp_path) + b"/" + request.param
    shutil.copy(min(golden.rglob("*.tflite"), key=lambda p: p.stat().st_size), path)
    return path


def test_every_help_can_be_encoded(terminal):
    script = (
        "import sys; from edgekit.cli import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0, (command, end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        env={**os.environ, **terminal},
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert all(f"edgekit {command}".encode() in done.stdout for command in COMMANDS)


def test_a_table_and_json_about_any_name(terminal, model):
    table = edgekit("inspect", model, environment=terminal)
    assert table.returncode == 0, table.stderr
    assert b"\x1b" not in table.stdout
    assert b"operator" in table.stdout
    found = edgekit("inspect", model, "--json", environment=terminal)
    assert found.returncode == 0, found.stderr
    assert os.fsencode(json.loads(found.stdout)["path"]) == model


def test_an_error_about_any_name(terminal, model):
    done = edgekit("inspect", model + b"\nx", environment=terminal)
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert b"\x1b" not in done.stderr


def test_a_report_about_any_name(terminal, repository, tmp_path):
    document = json.loads((repository / "quantized" / "turbofan" / "report.json").read_text())
    document["title"] = document["rows"][0]["model"] = "größe 多\udce9\x1b"
    document["reason"] = document["rows"][0]["variant"] = "größe\u202e"
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(document))
    for form in ("terminal", "md", "csv", "json"):
        done = edgekit("report", path, "--format", form, environment=terminal)
        assert done.returncode == 0, (form, done.stderr)
        assert b"\x1b" not in done.stdout
    assert json.loads(done.stdout)["title"] == document["title"]
    refused = edgekit("report", path, "--format", "größe\n\x1b", environment=terminal)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) <= 3
    assert b"\x1b" not in refused.stderr

"""docs/ci.md: the scripts of its two jobs are extracted and run, in a repository like a user's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

JOBS = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def scripts(job: str) -> list[str]:
    """The scripts of a job, in order: `run:` of GitHub, the list below `script:` of GitLab."""
    blocks = re.finditer(r"^( +)(?:- )?run: \|\n((?:\1 .*\n|\n)+)", job, re.MULTILINE)
    found = [textwrap.dedent(match[2]) for match in blocks]
    if below := re.search(r"^  script:\n((?:    - .*\n)+)", job, re.MULTILINE):
        found += [line.removeprefix("    - ") for line in below[1].splitlines()]
    return [script for script in found if not script.startswith("pip install")]


def jobs(repository: Path) -> dict[str, str]:
    github, gitlab = JOBS.findall((repository / "docs" / "ci.md").read_text(encoding="utf-8"))
    return {"github": github, "gitlab": gitlab}


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """A clone whose `main` ships the float file as int8.tflite, and whose branch the int8 file."""
    files = repository / "quantized" / "fashion-mnist"
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    (origin / "model").mkdir(parents=True)
    # samples that both files answer alike, which is taken for the truth
    x = np.random.default_rng(0).random((80, 28, 28, 1), np.float32)
    float32, int8 = (answers(files / f"{name}.tflite", x) for name in ("float32", "int8"))
    same = float32 == int8
    assert same.sum() > 40
    np.savez(origin / "model" / "test.npz", x_test=x[same], y_test=float32[same])
    for name in ("float32", "int8"):
        shutil.copy(files / "float32.tflite", origin / "model" / f"{name}.tflite")
    git(origin, "init", "-q", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "one")
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    shutil.copy(files / "int8.tflite", clone / "model" / "int8.tflite")
    return clone


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    """The classes that a file gives images `[n, 28, 28, 1]`, as int64 `[n]`."""
    from edgekit.tflite import read, signature

    (taken,), _ = signature(read(path))
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    runner = interpreter.get_signature_runner()
    given = x if taken.scale is None else np.round(x / taken.scale) + taken.zero_point
    given = given.astype(taken.dtype)
    return np.array([np.argmax(runner(image=one[None])["output"]) for one in given])


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True)


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as the services do: by bash, which stops at the first command that fails."""
    place = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(("service", "summary"), [("github", "summary.md"), ("gitlab", "diff.md")])
def test_the_job_checks_and_compares(
    checkout: Path, repository: Path, service: str, summary: str
) -> None:
    steps = scripts(jobs(repository)[service])
    assert any("edgekit check" in step for step in steps)
    assert any("edgekit diff" in step for step in steps)

    for step in steps:
        done = run(step, checkout)
        assert done.returncode == 0, (step, done.stdout, done.stderr)

    cases = ET.parse(checkout / "check.xml").getroot().findall(".//testcase")
    assert len(cases) >= 3
    assert not ET.parse(checkout / "check.xml").getroot().findall(".//failure")
    told = (checkout / summary).read_text(encoding="utf-8")
    assert "| size | 341 kB | 91.8 kB | -73.1% |" in told


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_the_job_fails_where_the_model_does(checkout: Path, repository: Path, service: str) -> None:
    # given a branch that ships the float file again
    git(checkout, "checkout", "-q", "--", "model/int8.tflite")
    check = next(s for s in scripts(jobs(repository)[service]) if "edgekit check" in s)

    done = run(check, checkout)

    assert done.returncode == 6
    root = ET.parse(checkout / "check.xml").getroot()
    failed = {
        case.get("name") for case in root.iter("testcase") if case.find("failure") is not None
    }
    assert {"--max-size", "--no-float"} <= failed
    assert "UNMET  no-float" in done.stdout

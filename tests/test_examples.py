"""The programs of examples/, run as a user runs them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.tflite.stored import packed

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *words: str | Path, fails: int = 0, **options: object) -> str:
    """Run an example; return what it prints."""
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", str(EXAMPLES / name)]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == fails, done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> tuple[Path, str]:
    """What `quantize_model.py` makes of the demo's model, and what it prints."""
    folder = tmp_path_factory.mktemp("quantized")
    return folder, run("quantize_model.py", demo_model, "digits", folder)


def test_every_example_is_run_here_and_listed() -> None:
    listed = re.findall(r"\[(\w+\.py)\]", (EXAMPLES / "README.md").read_text())
    here = Path(__file__).read_text()

    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert all(f'run("{name}"' in here for name in listed)


@pytest.mark.tensorflow
def test_quantize_from_python(quantized: tuple[Path, str]) -> None:
    folder, printed = quantized

    recommended = re.search(r"^Ship (\S+\.tflite): ", printed, re.MULTILINE)

    assert recommended is not None
    assert (folder / recommended[1]).is_file()
    assert [line.split()[0] for line in printed.splitlines()[:4]] == [
        *("float32", "float16", "dynamic", "int8")
    ]


def test_a_small_file_in_an_interpreter_of_one_s_own(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "small.tflite.gz"
    path.write_bytes(packed((repository / "quantized/turbofan-small/small.tflite").read_bytes()))

    printed = run("unpack_and_run.py", path).splitlines()
    path.write_bytes(path.read_bytes()[:4000])
    refused = run("unpack_and_run.py", path, fails=3)

    assert printed[0] == "6431 bytes on flash, 27312 bytes in memory"
    assert re.fullmatch(r"\S+: \[[-\d. ]+\]", printed[1])
    assert "cannot be inflated" in refused


@pytest.mark.tensorflow
def test_a_metric_of_one_s_own(quantized: tuple[Path, str]) -> None:
    folder, _ = quantized

    printed = run("own_metric.py", "digits", folder / "float32.tflite", folder / "int8.tflite")

    first, second = printed.splitlines()
    value, low, high = map(float, re.findall(r"\d\.\d{4}", first))
    assert 0.9 < low < value < high < 1
    assert re.search(r"drop [+-]0\.0\d+ \(.*\), (kept|unproven|lost)$", second)


@pytest.mark.tensorflow
def test_prune_in_one_s_own_fit(tmp_path: Path, demo_model: Path) -> None:
    printed = run("prune_in_fit.py", demo_model, "digits", tmp_path / "pruned.keras")

    assert "60% of the pruned weights are zero" in printed
    assert (tmp_path / "pruned.keras").is_file()


def test_the_runner_in_a_loop_without_edgekit(tmp_path: Path, repository: Path) -> None:
    # given what a device has: the example, the runner's one file, the model and its manifest
    model = repository / "quantized" / "turbofan" / "int8.tflite"
    for path in (
        EXAMPLES / "sensor_loop.py",
        repository / "device_scripts" / "edgekit_runner.py",
        model,
        model.with_suffix(".json"),
    ):
        shutil.copy(path, tmp_path)

    printed = run("sensor_loop.py", tmp_path / model.name, "3", cwd=tmp_path)

    cycles = [float(re.search(r"\[(.+)\]", line)[1]) for line in printed.splitlines()]
    assert len(cycles) == 3
    assert np.isfinite(cycles).all()


def test_the_loop_ends_with_the_runner_s_own_error(tmp_path: Path) -> None:
    printed = run("sensor_loop.py", tmp_path / "none.tflite", fails=3)

    assert "none.tflite" in printed
    assert "Traceback" not in printed


def test_read_a_report(repository: Path) -> None:
    report = repository / "quantized" / "fashion-mnist" / "report.json"

    printed = run("read_report.py", report)

    assert printed.count("<- recommended") == 1
    assert "accuracy 0." in printed
    assert re.search(r"CONV_2D +\d+\.\d kB", printed)

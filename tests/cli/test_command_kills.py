"""quantize, compress and sensitivity, ended by a signal at seeded moments."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from killing import Command, moments, whole

RECIPE = """schema = 1
name = "small"
[[step]]
kind = "prune"
sparsity = 0.5
epochs = 1
[[step]]
kind = "quantize"
mode = "float16"
"""


def kill_again_and_again(command: Command, default: int, seed: int, files: set[str]) -> None:
    """`out` has all files or does not exist; the next run removes what SIGKILL leaves."""
    out = command.folder / "out"
    command.finish()
    assert whole(out) == files
    shutil.rmtree(out)
    met = 0
    for number, share in moments(default, seed):
        met += command.kill(number, share)
        if out.exists():
            assert whole(out) == files, (number, share)
            shutil.rmtree(out)
    assert met
    command.finish()
    assert whole(out) == files
    assert command.leftovers() == set()


def stems(*names: str) -> set[str]:
    return {f"{name}{end}" for name in (*names, "report") for end in (".tflite", ".json")} - {
        "report.tflite"
    } | {"report.html"}


def test_quantize(tmp_path, golden):
    model = golden / "quantize" / "speech_float32.tflite"
    words = ["quantize", model, "--mode", "float16", "--mode", "int4", "-o", "out"]
    words += ["--no-bench"]
    files = stems("float32", "float16", "int4")
    kill_again_and_again(Command(words, tmp_path), 8, 6, files)


def test_bench_which_has_a_process_of_its_own(tmp_path, golden):
    model = golden / "runner" / "fsdd_int8.tflite"
    command = Command(["bench", model, "--runs", "900000"], tmp_path, duration=4)
    met = sum(command.kill(number, share) for number, share in moments(4, 8))
    assert met


def test_sensitivity_whose_children_write_files(tmp_path, golden):
    x = np.random.default_rng(0).standard_normal((20, 61, 40, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x)
    model = golden / "quantize" / "speech_float32.tflite"
    words = ["sensitivity", model, "--data", "data.npz", "-o", "mixed.toml", "--force"]
    command = Command(words, tmp_path)
    command.finish()
    written = (tmp_path / "mixed.toml").read_bytes()
    met = 0
    for number, share in moments(4, 9):
        met += command.kill(number, share)
        assert (tmp_path / "mixed.toml").read_bytes() == written
    assert met
    command.finish()
    assert command.leftovers() == set()


@pytest.mark.tensorflow
def test_compress(tmp_path, demo_model):
    (tmp_path / "small.toml").write_text(RECIPE)
    words = ["compress", demo_model, "--recipe", "small.toml", "--data", "digits", "-o", "out"]
    files = stems("float32", "1-prune", "small") | {"1-prune.keras"}
    kill_again_and_again(Command([*words, "--no-bench"], tmp_path), 4, 7, files)

"""Compression passes from the command line, on the packaged digits and CNN."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli import run
from edgekit.errors import OutputError
from edgekit.recipe import Prune, Training

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def demo_model(repository):
    return str(repository / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras")


@pytest.fixture(scope="module")
def before(demo_model, tmp_path_factory) -> dict:
    """The rows of the model that all passes begin with."""
    return quantized(demo_model, tmp_path_factory.mktemp("before"))


def quantized(model, folder) -> dict:
    """The rows of a float32 and an int8 file of `model`."""
    words = ["quantize", str(model), "--data", "digits", "--mode", "int8", "--no-bench"]
    assert run([*words, "-o", str(folder / "made"), "--quiet"]) == 0
    rows = json.loads((folder / "made" / "report.json").read_text())["rows"]
    return {row["variant"]: row for row in rows}


def test_a_pruned_model_is_a_plain_one_with_a_smaller_download(
    demo_model, before, tmp_path, capsys
):
    goal = tmp_path / "digits_cnn.keras"  # the metadata of its files name it
    words = ["prune", demo_model, "--data", "digits", "--sparsity", "0.5", "--epochs", "6"]
    assert run([*words, "-o", str(goal), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "Predicted for float32 at 50% zeros" in said
    assert "faster (XNNPACK): no" in said
    assert "zeros: 50.0%" in said
    assert "validation accuracy" in said
    after = quantized(goal, tmp_path)
    for variant in ("float32", "int8"):
        assert after[variant]["size_bytes"] == before[variant]["size_bytes"]
        assert after[variant]["size_deflated_bytes"] < 0.8 * before[variant]["size_deflated_bytes"]
    assert after["int8"]["score"]["value"] >= before["int8"]["score"]["value"] - 0.02


def test_a_shrunk_model_is_smaller_and_does_less(demo_model, before, tmp_path, capsys):
    goal = tmp_path / "shrunk.keras"
    words = ["shrink", demo_model, "--data", "digits", "--share", "0.4", "--epochs", "10"]
    assert run([*words, "-o", str(goal), "--quiet"]) == 0
    assert "multiply-accumulates" in capsys.readouterr().out
    after = quantized(goal, tmp_path)
    assert after["float32"]["size_bytes"] < 0.8 * before["float32"]["size_bytes"]
    macs = [rows["float32"]["inspection"]["macs"] for rows in (before, after)]
    assert macs[1] <= 0.6 * macs[0]
    assert after["int8"]["score"]["value"] >= 0.93


def test_a_clustered_model_has_a_smaller_download(demo_model, before, tmp_path, capsys):
    goal = tmp_path / "clustered.keras"
    words = ["cluster", demo_model, "--data", "digits", "--clusters", "16", "--epochs", "2"]
    assert run([*words, "-o", str(goal), "--quiet"]) == 0
    assert "at most 16 per kernel" in capsys.readouterr().out
    before, after = before["float32"], quantized(goal, tmp_path)["float32"]
    assert after["size_deflated_bytes"] < 0.5 * before["size_deflated_bytes"]
    assert after["score"]["value"] >= before["score"]["value"] - 0.01


def test_nothing_is_trained_with_no_epochs_and_nothing_overwritten(demo_model, tmp_path, capsys):
    # Given data with weights of samples, which are not used
    with np.load(Path(demo_model).with_name("digits.npz")) as arrays:
        images = arrays["images"].reshape(-1, 8, 8, 1)[:400].astype(np.float32) / 16
        labels = arrays["labels"][:400]
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, w_train=np.ones(400))
    goal = tmp_path / "pruned.keras"
    data = str(tmp_path / "data.npz")
    words = ["prune", demo_model, "--data", data, "--pattern", "2:4", "--epochs", "0"]
    assert run([*words, "-o", str(goal), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "left alone: conv1_1" in said
    assert "Arrays not used: w_train" in said
    assert run([*words, "-o", str(goal), "--quiet"]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "prune"])
@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_appears_during_training(command, force, demo_model, tmp_path):
    # Given a place that is free when the command begins, and taken when training does
    goal = tmp_path / "new.keras"

    told = []

    def listener(progress):
        if not told:
            goal.write_text("of somebody else")
        told.append(progress)

    def train():
        options = {"data": "digits", "output": goal, "force": force, "listener": listener}
        if command == "train":
            edgekit.train("cnn", epochs=1, **options)
        else:
            edgekit.prune(demo_model, Prune(training=Training(epochs=1)), **options)

    if force:
        # Then it is replaced where that was asked for
        train()
        assert zipfile.is_zipfile(goal)
    else:
        # and kept where it was not.
        with pytest.raises(OutputError, match="was created while this command ran"):
            train()
        assert goal.read_text() == "of somebody else"
    assert {path.name for path in tmp_path.iterdir()} <= {"new.keras", "new.checkpoint.keras"}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["prune", "--pattern", "3:7:9"], "2:4"),
        (["prune", "--pattern", "2:4", "--sparsity", "0.9"], "0.5"),
        (["prune", "--scope", "galaxy"], "global, layer"),
        (["prune", "--exclude", "nothing"], "nothing"),
        (["shrink", "--importance", "luck"], "taylor"),
        (["cluster", "--initial", "luck"], "density"),
    ],
)
def test_what_means_nothing_is_refused(words, hint, demo_model, tmp_path, capsys):
    command, *rest = words
    base = [command, demo_model, "--data", "digits", "--epochs", "0", "--quiet"]
    assert run([*base, *rest, "-o", str(tmp_path / "x.keras")]) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "x.keras").exists()

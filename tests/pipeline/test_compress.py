"""A recipe of several stages, and single passes, on the packaged digits and CNN."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import edgekit
from edgekit.cli import run
from edgekit.data import open_data
from edgekit.errors import UsageError
from edgekit.recipe import parse_recipe
from edgekit.tflite.graph import constant, read
from edgekit.training.saving import read_notes

pytestmark = pytest.mark.tensorflow

RECIPE = """
schema = 1
name = "tiny"
[[step]]
kind = "shrink"
share = 0.4
epochs = 8
distill = true
[[step]]
kind = "prune"
sparsity = 0.5
epochs = 6
[[step]]
kind = "cluster"
clusters = 16
epochs = 2
[[step]]
kind = "qat"
epochs = 3
learning_rate = 0.001
distill = true
[[step]]
kind = "quantize"
mode = "int8"
"""


@pytest.fixture(scope="session")
def made(demo_model, tmp_path_factory):
    """The report of the whole recipe, and the folder of its files."""
    folder = tmp_path_factory.mktemp("compress")
    (folder / "tiny.toml").write_text(RECIPE)
    goal = folder / "made"
    report = edgekit.compress(
        demo_model, folder / "tiny.toml", data="digits", output=goal, latency=False
    )
    return report, goal


def weights(path):
    """The constants of a file that are weights, as stored codes or values."""
    model = read(path.read_bytes())
    graph = model.subgraphs[0]
    for op in graph.operators:
        for index in map(int, op.inputs[1:2]):
            tensor = graph.tensors[index]
            # The second input of a mean is a shape.
            if model.buffers[tensor.buffer].data is not None and len(tensor.shape) > 1:
                yield constant(model, tensor)


def test_each_stage_is_a_row_with_its_files(made):
    report, folder = made
    names = ["float32", "1-shrink", "2-prune", "3-cluster", "4-qat", "tiny"]
    assert [row.artifact.variant for row in report.files] == names
    assert report.rows[0].is_source
    for name in names:
        assert (folder / f"{name}.tflite").exists()
        assert (folder / f"{name}.json").exists()
    assert not list(folder.glob("*.npy"))
    manifest = json.loads((folder / "tiny.json").read_text())
    assert [step["kind"] for step in manifest["recipe"]] == ["shrink", "prune", "cluster", "qat"]


def test_it_gets_smaller_from_stage_to_stage_and_keeps_the_accuracy(made):
    rows = {row.artifact.variant: row for row in made[0].rows}
    deflated = {name: row.artifact.size_deflated_bytes for name, row in rows.items()}
    assert rows["1-shrink"].inspection.macs <= 0.6 * rows["float32"].inspection.macs
    assert deflated["2-prune"] < 0.75 * deflated["1-shrink"]
    assert deflated["3-cluster"] < 0.75 * deflated["2-prune"]
    assert deflated["tiny"] < deflated["float32"] / 6
    assert rows["tiny"].score.value >= rows["float32"].score.value - 0.02


def test_the_zeros_and_the_few_values_are_still_there_in_the_last_file(made):
    zeros, size, few = 0, 0, 0
    stages = [weights(made[1] / f"{name}.tflite") for name in ("2-prune", "3-cluster", "tiny")]
    for pruned, clustered, codes in zip(*stages, strict=True):
        assert codes.dtype == np.int8
        assert not clustered[pruned == 0].any()
        assert not codes[pruned == 0].any()
        distinct = len(np.unique(clustered))
        assert distinct <= 16
        # Smaller ones are not taken for clustered ones (`palettes_of`).
        if clustered.size >= 8 * distinct:
            assert len(np.unique(codes)) <= distinct
            few += 1
        zeros, size = zeros + np.sum(codes == 0), size + codes.size
    assert few == 3
    assert zeros / size >= 0.5


def test_the_trained_ranges_travel_in_the_file(made, tmp_path):
    trained = made[1] / "4-qat.keras"
    assert read_notes(trained)["qat"]["bits"] == 8
    # No training samples: nothing can be calibrated.
    data = dataclasses.replace(open_data("digits"), train=None, calibrate=None)
    report = edgekit.quantize(
        trained, data=data, modes=["int8"], output=tmp_path / "q", latency=False
    )
    again = (tmp_path / "q" / "int8.tflite").read_bytes()
    assert again == (made[1] / "tiny.tflite").read_bytes()
    assert [row.artifact.variant for row in report.files] == ["float32", "int8"]


def test_four_bits_make_a_smaller_file(demo_model, tmp_path, capsys):
    goal = tmp_path / "four.keras"
    words = ["qat", str(demo_model), "--data", "digits", "--bits", "4", "--epochs", "2", "-q"]
    assert run([*words, "-o", str(goal)]) == 0
    assert "int4 weights" in capsys.readouterr().out
    report = edgekit.quantize(
        goal, data="digits", modes=["int8"], output=tmp_path / "q", latency=False
    )
    rows = {row.artifact.variant: row for row in report.rows}
    assert rows["int8"].inspection.weight_dtypes["int4"] > 1000
    assert rows["int8"].artifact.size_bytes < rows["float32"].artifact.size_bytes / 3.5
    assert rows["int8"].score.value >= rows["float32"].score.value - 0.02


def test_an_excluded_layer_is_float_in_training_and_in_the_file(demo_model, tmp_path, capsys):
    goal = tmp_path / "part.keras"
    words = ["qat", str(demo_model), "--data", "digits", "--exclude", "conv2_.*", "--epochs", "1"]
    assert run([*words, "-o", str(goal), "-q"]) == 0
    assert "left alone: conv2_1: excluded, it stays float" in capsys.readouterr().out
    report = edgekit.quantize(
        goal, data="digits", modes=["int8"], output=tmp_path / "q", latency=False
    )
    row = next(row for row in report.rows if row.artifact.variant == "int8")
    left = {entry["layer"] for entry in row.artifact.manifest["left_in_float"]}
    assert left == {"conv2_1", "conv2_2"}
    dtypes = [kernel.dtype for kernel in weights(row.artifact.path)]
    assert dtypes == [np.int8, np.float32, np.float32, np.int8]
    assert row.agreement >= 0.99


def test_an_interrupted_pass_leaves_the_best_so_far_and_goes_on(demo_model, tmp_path):
    goal = tmp_path / "pruned.keras"
    checkpoint = tmp_path / "pruned.checkpoint.keras"
    words = ["prune", str(demo_model), "-d", "digits", "--epochs", "600", "-o", str(goal), "-q"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit.cli", *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said.decode()
    assert not goal.exists()

    done = read_notes(checkpoint)["epochs"]
    assert done >= 1
    assert run([*words[:5], str(done + 1), *words[6:], "--resume"]) == 0
    assert goal.exists()
    assert not checkpoint.exists()


def test_a_file_that_keras_would_not_write_is_refused_before_any_work(demo_model, tmp_path):
    with pytest.raises(UsageError, match=r"--output .*x\.keras"):
        edgekit.prune(demo_model, data="digits", output=tmp_path / "x.h5")
    with pytest.raises(UsageError, match=r"--output .*x\.keras"):
        edgekit.train("cnn", data="digits", output=tmp_path / "x")


def test_a_last_step_of_rules_alone_makes_a_file(demo_model, tmp_path):
    recipe = parse_recipe(
        'schema = 1\nname = "some"\n[[step]]\nkind = "quantize"\nmode = "float32"\n'
        'rules = [{ layers = "^conv2_2$", mode = "float16" }]\n',
        "some.toml",
    )
    report = edgekit.compress(
        demo_model, recipe, data="digits", output=tmp_path / "some", latency=False
    )
    assert [row.artifact.variant for row in report.files] == ["float32", "some"]
    assert report.files[1].artifact.size_bytes < report.files[0].artifact.size_bytes


@pytest.mark.parametrize("name", ["float32", "1-shrink"])
def test_a_recipe_cannot_take_the_name_of_another_file(demo_model, tmp_path, name):
    recipe = parse_recipe(RECIPE.replace('"tiny"', f'"{name}"'), "tiny.toml")
    with pytest.raises(UsageError, match=f"Two variants are called '{name}'"):
        edgekit.compress(demo_model, recipe, data="digits", output=tmp_path / "taken")
    assert not (tmp_path / "taken").exists()


def test_an_interrupted_recipe_goes_on_behind_its_finished_stages(demo_model, tmp_path):
    # Given a recipe that is interrupted in its second pass
    path, goal = tmp_path / "two.toml", tmp_path / "made"
    steps = ("prune", "cluster")
    text = "".join(f'[[step]]\nkind = "{kind}"\nepochs = 1\n' for kind in steps)
    path.write_text(f'schema = 1\n{text}[[step]]\nkind = "quantize"\nmode = "float32"\n')
    seen: list[str] = []

    def stop(progress):
        seen.append(progress.stage)
        if progress.stage.startswith("cluster"):
            raise KeyboardInterrupt

    words = {"data": "digits", "output": goal, "latency": False}
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(demo_model, path, **words, listener=stop)
    kept = tmp_path / "made.checkpoint"
    pruned = (kept / "1-prune.keras").read_bytes()
    assert not goal.exists()

    # When it goes on
    seen.clear()
    edgekit.compress(
        demo_model,
        path,
        **words,
        resume=True,
        listener=lambda progress: seen.append(progress.stage),
    )

    # Then the first pass is not trained again, and nothing is left of the interruption
    assert "cluster fine-tuning" in seen
    assert "prune fine-tuning" not in seen
    assert (goal / "1-prune.keras").read_bytes() == pruned
    assert not kept.exists()


def test_there_is_nothing_to_resume_after_another_pass(demo_model, tmp_path):
    with pytest.raises(UsageError, match="no interrupted cluster"):
        edgekit.cluster(demo_model, data="digits", output=tmp_path / "x.keras", resume=True)

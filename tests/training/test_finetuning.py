"""How passes train: losses, distillation, what is kept, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from edgekit.cli import run

pytestmark = pytest.mark.tensorflow

SUBCLASSED = """
import keras

@keras.saving.register_keras_serializable("mine")
class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.convolution = keras.layers.Conv2D(16, 3, strides=2, activation="relu")
        self.flatten = keras.layers.Flatten()
        self.logits = keras.layers.Dense(10)

    def call(self, inputs):
        return self.logits(self.flatten(self.convolution(inputs)))
"""


@pytest.fixture(scope="session")
def found(run_session, demo_model) -> dict[str, Any]:
    return run_session("finetuning", demo_model)


def test_half_of_the_loss_is_how_far_a_student_is_from_its_teacher(found):
    told = found["distilled"]
    assert told["rows"] == 0
    assert told["own"] == pytest.approx(told["labels"] / 2, abs=1e-4)
    assert told["ignorant"] > told["own"] + 0.5
    assert told["trained"] > 0.9


def test_a_model_that_training_makes_worse_stays_as_it_came(found):
    worse = found["worse"]
    assert worse["same"]
    assert worse["figures"][0] == pytest.approx(worse["figures"][1])


def test_training_stops_when_nothing_gets_better_and_tells_the_time_left(found):
    assert found["worse"]["epochs"] <= 4
    assert "val_accuracy" in found["worse"]["told"]
    assert "left" in found["worse"]["told"]


def test_a_loss_that_is_no_number_is_an_error(found):
    assert "diverged" in found["diverged"]
    assert "learning rate" in found["diverged"]


def test_the_same_seed_gives_the_same_file(found):
    assert found["repeated"]


@pytest.mark.parametrize(
    ("name", "used", "logits"),
    [
        ("one-hot", "SparseCategoricalCrossentropy", False),
        ("hinge", "of_labels", None),
        ("uncompiled logits", "SparseCategoricalCrossentropy", True),
        ("uncompiled probabilities", "SparseCategoricalCrossentropy", False),
    ],
)
def test_the_compiled_loss_is_kept_and_the_usual_one_fits_the_outputs(found, name, used, logits):
    assert found["losses"][name]["used"] == used
    assert found["losses"][name]["logits"] == logits
    if name == "hinge":  # the mean absolute error to the one-hot labels: 1/2 of one unit in ten
        assert found["losses"][name]["value"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("name", "task", "metric"),
    [
        ("labels", "multi-label", "binary_accuracy"),
        ("masks", "segmentation", "mean_iou"),
        ("compiled masks", "segmentation", "mean_iou"),
        ("binary masks", "segmentation", "mean_iou"),
        ("ignored binary masks", "segmentation", "mean_iou"),
        ("compiled binary masks", "segmentation", "mean_iou"),
    ],
)
def test_labels_and_masks_are_learned_by_their_losses_without_ignored_pixels(
    found, name, task, metric
):
    told = found["of each task"][name]
    assert told["task"] == task
    assert told["before"]["loss"] == pytest.approx(told["by hand"], rel=1e-3)
    assert metric in told["before"]
    assert told["taught"]["loss"] <= told["trained"]["loss"] * 1.01 < told["before"]["loss"]


def test_a_change_after_each_step_is_made_by_the_step_or_by_the_call(found):
    assert found["changed after steps"] == {"Functional": [0, 11], "Learner": [6, 10]}


def test_mixed_types_are_trained_as_float32(found):
    assert found["mixed"]["policy"] == "float32"
    assert found["mixed"]["stored"] == "float32"
    assert found["mixed"]["zeros"] == pytest.approx(0.5, abs=0.3)


def test_normalization_is_folded_before_kernels_are_clustered(found):
    assert "BatchNormalization" not in found["clustered"]["layers"]
    assert max(found["clustered"]["distinct"].values()) <= 8


def test_an_excluded_nested_model_is_not_clustered(found):
    inner, last = found["excluded"].values()
    assert inner > 100
    assert last <= 8


def test_a_subclassed_model_gets_what_needs_no_graph(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_net.py").write_text(SUBCLASSED)
    program = (
        "import my_net, numpy as np\n"
        "model = my_net.Net()\n"
        "model(np.zeros((1, 8, 8, 1), 'float32'))\n"
        "model.save('net.keras')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    common = ["net.keras", "-d", "digits", "--custom", "my_net", "--epochs", "1", "-q"]

    assert run(["prune", *common, "--distill", "-o", "pruned.keras"]) == 0
    assert "zeros: 50.0%" in capsys.readouterr().out
    for command in ("shrink", "qat"):
        assert run([command, *common, "-o", f"{command}.keras"]) == 3
        assert "subclassed" in capsys.readouterr().err
        assert not (tmp_path / f"{command}.keras").exists()

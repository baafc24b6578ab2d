"""What a model was compiled with is what it is judged by."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import edgekit
from edgekit.cli import run
from edgekit.evaluation.metrics.keras_names import metrics_compiled
from edgekit.pipeline.report import accepted_loss, as_compiled
from edgekit.records import Batch, Dataset, Samples


def auc(**config: object) -> dict[str, object]:
    return {"module": "keras.metrics", "class_name": "AUC", "config": config}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"metrics": ["accuracy", auc()]}, ("roc_auc",)),
        ({"metrics": [auc(curve="PR"), "mae"]}, ("average_precision", "mae")),
        ({"metrics": [["mean_absolute_error"], ["R2Score"]]}, ("mae", "r2")),
        ({"metrics": {"a": ["RootMeanSquaredError"], "b": [auc()]}}, ("rmse", "roc_auc")),
        ({"metrics": None, "loss": "mae"}, ("mae",)),
        ({"loss": {"class_name": "MeanAbsoluteError", "config": {}}}, ("mae",)),
        ({"loss": "mse", "metrics": ["Precision", "Recall", "accuracy"]}, ()),
        ({"metrics": [{"class_name": "TopKCategoricalAccuracy", "config": {"k": 3}}]}, ()),
        (
            {"metrics": [{"class_name": "TopKCategoricalAccuracy", "config": {}}]},
            ("top5_accuracy",),
        ),
        ({"metrics": [{"class_name": "own>F1Score", "config": 3}, 7, {"class_name": 1}]}, ("f1",)),
        ({}, ()),
    ],
)
def test_keras_s_names_are_known(config, names) -> None:
    assert metrics_compiled(config) == names


def dataset(targets: np.ndarray, task: str) -> Dataset:
    from edgekit.data.store import adopted

    samples = Samples(
        split="test",
        n=len(targets),
        sha256="",
        read=lambda rows: Batch(inputs={"x": np.zeros((len(rows), 1))}, targets=targets[rows]),
    )
    return Dataset(name="d", task=task, train=None, calibrate=None, test=adopted(samples))


@pytest.mark.parametrize(
    ("targets", "task", "names", "metric"),
    [
        (np.arange(20) % 2, "classification", ("roc_auc",), "roc_auc"),
        (np.arange(20) % 3, "classification", ("roc_auc", "f1"), "f1"),  # of two classes only
        (np.arange(20) // 19, "classification", ("roc_auc",), None),  # a single sample of class 1
        (np.arange(20.0), "regression", ("roc_auc", "mae"), "mae"),
        (np.arange(20.0), "regression", (), None),
    ],
)
def test_it_is_judged_by_where_task_and_targets_have_it(targets, task, names, metric) -> None:
    found = as_compiled(dataset(targets, task), names)

    assert found is not None
    assert found.metric == metric
    reason = "because the model was compiled with it"
    assert (reason in accepted_loss(0.5, found, None)) == (metric is not None)
    assert reason not in accepted_loss(0.5, found, "rmse" if task == "regression" else "f1")


TRAIN = """
import sys
import keras
import numpy as np
data = np.load(sys.argv[2])
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
model.fit(data["x_train"], data["y_train"], epochs=20, verbose=0)
model.save(sys.argv[1])
"""


@pytest.mark.tensorflow
def test_a_model_compiled_with_auc_is_judged_by_it_here_and_by_the_manifest(
    tmp_path, capsys, warm_tensorflow
) -> None:
    # Given a detector of eights that was compiled with AUC
    pixels, shown = load_digits(return_X_y=True)
    x, y = (pixels / 16).astype(np.float32), (shown == 8).astype(np.int64)
    data, model = tmp_path / "eights.npz", tmp_path / "eights.keras"
    np.savez(data, x_train=x[:1200], y_train=y[:1200], x_test=x[1200:], y_test=y[1200:])
    warm_tensorflow.script(TRAIN, model, data)
    # When
    words = ["quantize", str(model), "--data", str(data), "--mode", "int8", "--no-bench"]
    assert run([*words, "--output", str(tmp_path / "q"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    # Then the source and the files are judged by it, and the report says why
    assert {row["score"]["metric"] for row in document["rows"]} == {"roc_auc"}
    assert document["asked"]["accepted loss"] == (
        "0.5 points of ROC AUC, because the model was compiled with it"
    )
    # And the file says so to whoever scores it later
    file = tmp_path / "q" / "int8.tflite"
    assert edgekit.evaluate([file], str(data)).rows[0].score.metric == "roc_auc"
    assert edgekit.evaluate([file], str(data), metric="f1").rows[0].score.metric == "f1"
    runner = [sys.executable, "device_scripts/edgekit_runner.py", "eval", str(file), str(data)]
    done = subprocess.run([*runner, "--json"], check=True, capture_output=True, text=True)
    score = json.loads(done.stdout)["score"]
    assert (score["metric"], score["reason"]) == ("roc_auc", "the model was compiled with it")

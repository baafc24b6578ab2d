"""Targets of several outputs, each with a task of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import edgekit
from edgekit.cli import run
from edgekit.data import bind, open_data
from edgekit.errors import DataError, UsageError
from edgekit.evaluation import Evaluation, evaluate, paired_drop, recommend
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.records import Artifact, Batch, OutputScore, OutputTask, Row, TensorSpec
from edgekit.reports import render
from edgekit.schema import report_from_json

IN = [
    TensorSpec(name="a", shape=(1, 3), dtype="float32"),
    TensorSpec(name="b", shape=(1, 3), dtype="float32"),
]
OUT = [TensorSpec(name=name, shape=(1, 3), dtype="float32") for name in ("total", "product")]


def arrays(n: int = 80, split: str = "test") -> dict[str, np.ndarray]:
    """Inputs of a model that adds and multiplies; sums are quantities, products are classes."""
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=(2, n, 3)).astype(np.float32)
    return {
        f"x_{split}_a": a,
        f"x_{split}_b": b,
        f"y_{split}_total": a + b + 0.1 * generator.normal(size=(n, 3)),
        f"y_{split}_product": (a * b + 0.3 * generator.normal(size=(n, 3))).argmax(axis=1),
    }


def replace_score(found: Evaluation) -> Evaluation:
    """Return the evaluation with the scores of its other outputs in its own."""
    scores = tuple(
        OutputScore(output=name, task=one.task.name, score=one.score)
        for name, one in found.others.items()
    )
    return replace(found, score=replace(found.score, per_output=scores))


@pytest.fixture
def model(golden):
    return golden / "evaluate" / "two_in_two_out.tflite"


def test_each_output_has_a_task_of_its_own() -> None:
    bound = bind(open_data(edgekit.data.take({**arrays(), **arrays(60, "train")})), IN, OUT)

    assert (bound.task, bound.output) == ("regression", "total")
    assert bound.others == {"product": OutputTask(task="classification")}
    assert bound.test is not None
    batch = bound.test.read(np.arange(5))
    assert batch.targets is not None
    assert batch.targets.dtype == np.float32
    assert batch.others["product"].tolist() == arrays()["y_test_product"][:5].tolist()
    # The calibration subset and its targets are rows of the training split
    assert bound.calibrate is not None
    assert len(bound.calibrate.read(np.arange(7)).others["product"]) == 7


def test_targets_without_a_name_are_of_the_first_output_and_texts_are_classes() -> None:
    given = arrays()
    given["y_test"] = given.pop("y_test_total")
    given["y_test_product"] = np.array(["x", "y", "z"])[given["y_test_product"]]

    bound = bind(open_data(edgekit.data.take(given)), IN, OUT)

    assert (bound.task, bound.labels) == ("regression", None)
    assert bound.others["product"] == OutputTask(task="classification", labels=("x", "y", "z"))


def test_the_output_to_score_is_the_first_that_has_targets() -> None:
    given = arrays()
    del given["y_test_total"]

    bound = bind(open_data(edgekit.data.take(given)), IN, OUT)

    assert (bound.task, bound.output, bound.others) == ("classification", "product", {})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y_test_sum": "y_test_total", "y_test_prod": "y_test_product"}, "has no output 'sum'"),
        ({"y_test": "y_test_total", "y_test_total": "y_test_total"}, "has targets twice"),
    ],
)
def test_names_that_do_not_fit_are_said(changes, says) -> None:
    stored = arrays()
    given = {key: value for key, value in stored.items() if key.startswith("x")}
    given |= {key: stored[of].copy() for key, of in changes.items()}

    with pytest.raises(DataError, match=says) as refused:
        bind(open_data(edgekit.data.take(given)), IN, OUT)

    assert "y_test" in str(refused.value)


def test_lengths_of_all_targets_are_compared() -> None:
    given = arrays()
    given["y_test_product"] = given["y_test_product"][:-1]

    with pytest.raises(DataError, match="differ in length") as refused:
        open_data(edgekit.data.take(given))

    assert "y_test_product: 79" in str(refused.value)


def test_every_output_is_scored_shown_and_read_back(model, tmp_path, capsys) -> None:
    # Given targets of both outputs, as a dict in Python and in a file
    np.savez(tmp_path / "both.npz", **arrays())
    report = edgekit.evaluate([model, model], str(tmp_path / "both.npz"))
    nested = {
        "x_test": {"a": arrays()["x_test_a"], "b": arrays()["x_test_b"]},
        "y_test": {key: arrays()[f"y_test_{key}"] for key in ("total", "product")},
    }
    again = edgekit.evaluate([model, model], nested)
    # Then both say the same of each
    for row in (report.rows[0], again.rows[0]):
        (other,) = row.score.per_output
        assert (row.score.metric, other.output, other.score.metric) == (
            "rmse",
            "product",
            "accuracy",
        )
        assert 0.6 < other.score.value < 1
        assert other.score.confusion
    assert report.rows[0].score == again.rows[0].score
    assert report.data["task of product"] == "classification"
    drop = report.rows[1].drop
    assert [one.output for one in drop.per_output] == ["product"]
    assert drop.verdict == drop.per_output[0].drop.verdict == "unproven"
    # And the report shows it in every form, also once it is read back
    document = json.loads(render(report, "json"))
    assert json.loads(render(report_from_json(document), "json")) == document
    value = report.rows[0].score.per_output[0].score.value
    for form in ("html", "md", "terminal"):
        text = render(report, form)
        assert "product" in text
        assert f"{100 * value:.2f}" in text
    assert f"product accuracy {value!r}" in render(report, "csv")


def test_the_output_to_score_is_named(model, tmp_path) -> None:
    np.savez(tmp_path / "both.npz", **arrays())

    (row,) = edgekit.evaluate([model], str(tmp_path / "both.npz"), score_output="product").rows
    assert (row.score.metric, row.score.per_output[0].output) == ("accuracy", "total")

    one = {key: value for key, value in arrays().items() if key != "y_test_total"}
    with pytest.raises(UsageError, match="no targets for the output 'total'"):
        edgekit.evaluate([model], one, score_output="total")


def test_tasks_are_declared_by_output(model, tmp_path, capsys) -> None:
    given = arrays()
    given["y_test_product"] = np.eye(3)[given["y_test_product"]]
    np.savez(tmp_path / "both.npz", **given)
    words = ["eval", str(model), "--data", str(tmp_path / "both.npz"), "--json"]

    assert run([*words, "--task", "product=multi-label", "--task", "total=regression"]) == 0
    (other,) = json.loads(capsys.readouterr().out)["rows"][0]["score"]["per_output"]
    assert (other["task"], other["score"]["metric"]) == ("multi-label", "f1")
    assert run([*words, "--task", "regression", "--task", "regression"]) == 2
    assert run([*words, "--task", "product=nothing"]) == 2
    assert run([*words, "--task", "sum=regression"]) == 4


def test_a_lost_output_is_the_verdict_on_the_file(model) -> None:
    # Given a float file, and one that tells the products of other samples
    before = evaluate(model, bind(open_data(edgekit.data.take(arrays(400))), IN, OUT))
    told = before.others["product"].columns
    outputs = np.eye(3)[np.roll(told["predicted"], 1)]
    columns = CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=told["target"]))
    after = replace(before, others={"product": aggregate(columns, CLASSIFICATION)})
    # When
    drop = paired_drop(before, after, max_drop=5)
    # Then the sums are kept, and the file is not
    assert drop.value == 0
    assert drop.verdict_alone == "kept"
    (lost,) = drop.per_output
    assert lost.drop.value > 0.2
    assert drop.verdict == "lost"
    # And it is not recommended, with the reason
    small, large = (
        Row(
            model="m",
            artifact=Artifact(
                path=model,
                variant=name,
                mode=name,
                size_bytes=size,
                size_deflated_bytes=size,
                sha256="",
            ),
            score=found.score,
            drop=loss,
        )
        for name, size, found, loss in (
            ("int8", 10, replace_score(after), drop),
            ("float32", 40, before, None),
        )
    )
    (_, best), reason = recommend([small, large], prefer="size")
    assert best.recommended
    assert "int8 (0.0 kB) was rejected: output 'product': accuracy falls by" in reason


TWO_HEADS = """
import sys
import keras
import numpy as np
layers = keras.layers
keras.utils.set_random_seed(0)
x = keras.Input((8,), name="x")
hidden = layers.Dense(32, activation="relu")(x)
size = layers.Dense(1, name="size")(hidden)
kind = layers.Dense(4, activation="softmax", name="kind")(hidden)
model = keras.Model(x, {"size": size, "kind": kind})
data = np.load(sys.argv[2])
model.compile("adam", {"size": "mae", "kind": "sparse_categorical_crossentropy"})
model.fit(
    data["x_train"],
    {"size": data["y_train_size"], "kind": data["y_train_kind"]},
    epochs=60,
    verbose=0,
)
model.save(sys.argv[1])
"""


@pytest.mark.tensorflow
def test_a_model_with_two_heads_is_quantized_judged_and_pruned(
    tmp_path, capsys, warm_tensorflow
) -> None:
    # Given a model that tells a quantity and a class, and targets of both
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1500, 8)).astype(np.float32)
    size, kind = x[:, :2].sum(axis=1, keepdims=True), x[:, 4:].argmax(axis=1)
    parts = {"train": slice(0, 1000), "test": slice(1000, None)}
    given = {f"x_{split}": x[rows] for split, rows in parts.items()}
    given |= {f"y_{split}_size": size[rows] for split, rows in parts.items()}
    given |= {f"y_{split}_kind": kind[rows] for split, rows in parts.items()}
    data, model = tmp_path / "heads.npz", tmp_path / "heads.keras"
    np.savez(data, **given)
    warm_tensorflow.script(TWO_HEADS, model, data)
    # When it is quantized
    words = ["quantize", str(model), "--data", str(data), "--mode", "int8", "--no-bench"]
    words += ["--output", str(tmp_path / "q"), "--score-output", "kind", "--max-drop", "5"]
    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    # Then the source and every file have a score of each output
    for row in document["rows"]:
        assert row["score"]["metric"] == "accuracy"
        assert [one["output"] for one in row["score"]["per_output"]] == ["size"]
        assert row["score"]["per_output"][0]["score"]["metric"] == "rmse"
    int8 = next(row for row in document["rows"] if row["variant"] == "int8")
    assert [one["output"] for one in int8["drop_per_output"]] == ["size"]
    # And eval knows the tasks by the manifest
    assert run(["eval", str(tmp_path / "q" / "int8.tflite"), "--data", str(data), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert {row["score"]["metric"], row["score"]["per_output"][0]["score"]["metric"]} <= {
        "accuracy",
        "rmse",
        "mae",
    }
    # And a pass takes the data
    words = ["prune", str(model), "--data", str(data), "--output", str(tmp_path / "p.keras")]
    assert run([*words, "--epochs", "1", "--sparsity", "0.3", "--quiet"]) == 0

"""Every figure that both the runner and the host compute is the same figure."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

import edgekit
import edgekit_runner
from edgekit.devices import answers
from edgekit.errors import EdgekitError
from edgekit.evaluation import intervals
from edgekit.evaluation.metrics import AVERAGE_PRECISION, ECE, F1, ROC_AUC, TOP5_ACCURACY
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import (
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    SEGMENTATION,
    Evidence,
    infer_task,
)
from edgekit.records import Batch, Score, TensorSpec

MACRO = {"balanced_accuracy", "f1", "precision", "recall", "ece"}
AREAS = {"average_precision", "roc_auc"}


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pictures `[n, 64]` from 0 to 1, and what they show."""
    pixels, shown = load_digits(return_X_y=True)
    return (pixels[1200:] / 16).astype(np.float32), shown[1200:]


@pytest.fixture
def classification(digits, tmp_path) -> tuple[Path, Path]:
    """The model that the runner carries, on digits."""
    packed = zlib.decompress(base64.b85decode("".join(edgekit_runner.SELFTEST)))
    model, data = tmp_path / "digits.tflite", tmp_path / "digits.npz"
    model.write_bytes(packed[740:])
    np.savez(data, x_test=digits[0].reshape(-1, 8, 8, 1), y_test=digits[1])
    return model, data


@pytest.fixture
def few_classes(classification, digits) -> tuple[Path, Path]:
    """The same, where five samples of one class are all there is."""
    model, data = classification
    chosen = np.flatnonzero(digits[1] == 1)[:5]
    np.savez(data, x_test=digits[0][chosen].reshape(-1, 8, 8, 1), y_test=digits[1][chosen])
    return model, data


@pytest.fixture
def one_unit(golden, digits, tmp_path) -> tuple[Path, Path]:
    """A sigmoid that tells eights from the rest."""
    data = tmp_path / "eights.npz"
    np.savez(data, x_test=digits[0], y_test=(digits[1] == 8).astype(np.int64))
    return golden / "evaluate" / "is_eight_sigmoid.tflite", data


@pytest.fixture
def regression(golden) -> tuple[Path, Path]:
    """Thirty turbofan windows through integer inputs."""
    return golden / "runner" / "cmapss_uint8.tflite", golden / "runner" / "cmapss.npz"


@pytest.fixture
def reconstruction(golden, digits, tmp_path) -> tuple[Path, Path]:
    """An autoencoder of zeros and ones, to which all other digits are anomalies."""
    data = tmp_path / "anomalies.npz"
    np.savez(data, x_test=digits[0], y_test=(digits[1] > 1).astype(np.int64))
    return golden / "runner" / "digits_autoencoder.tflite", data


@pytest.mark.parametrize(
    ("case", "extras"),
    [
        ("classification", {"top5_accuracy"} | MACRO),
        ("few_classes", {"top5_accuracy"} | MACRO),
        ("one_unit", MACRO | AREAS),
        ("regression", {"mae", "r2"}),
        ("reconstruction", {"average_precision"}),
    ],
)
def test_eval_gives_the_figures_of_the_host(runner, request, case, extras):
    # Given a model of each task and its data
    model, data = request.getfixturevalue(case)
    # When both score it
    code, out, err = runner("eval", model, data, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    here = answer["score"]
    (row,) = edgekit.evaluate([model], str(data)).rows
    there = row.score
    assert isinstance(there, Score)
    # Then metric, value, interval and every extra agree, and so do the facts of the file.
    assert (here["metric"], here["n"]) == (there.metric, there.n)
    assert here["value"] == pytest.approx(there.value, rel=1e-12)
    assert here["ci95"] == pytest.approx(list(there.ci95), rel=1e-12)
    assert here["ci95"][0] < here["value"] <= here["ci95"][1]
    assert set(here["extras"]) == set(there.extras) == extras
    for name, value in here["extras"].items():
        assert value == pytest.approx(there.extras[name], rel=1e-12)
    assert answer["sha256"] == row.artifact.sha256
    assert answer["size_bytes"] == row.artifact.size_bytes


@pytest.mark.parametrize(
    ("case", "metric"),
    [
        *(("one_unit", metric) for metric in CLASSIFICATION.metrics if metric is not TOP5_ACCURACY),
        *(("classification", metric) for metric in (TOP5_ACCURACY, ECE)),
        *(("regression", metric) for metric in REGRESSION.metrics),
        ("classification", F1),
        ("reconstruction", AVERAGE_PRECISION),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_eval_judges_by_the_metric_that_is_named(runner, request, case, metric):
    model, data = request.getfixturevalue(case)

    code, out, err = runner("eval", model, data, "--metric", metric.name, "--json")

    assert (code, err) == (0, "")
    here = json.loads(out)["score"]
    (row,) = edgekit.evaluate([model], str(data), metric=metric.name).rows
    assert (here["metric"], here["reason"]) == (row.score.metric, "") == (metric.name, "")
    assert here["value"] == pytest.approx(row.score.value, rel=1e-12)
    assert here["ci95"] == pytest.approx(list(row.score.ci95), rel=1e-12)
    assert set(here["extras"]) == set(row.score.extras)


# What decides how an interval is computed: one unit or more, a rare class, one that is never or
# always found, few samples, and so many that no resampling is needed.
@pytest.mark.parametrize(
    ("units", "shares", "n"),
    [
        (1, [0.5, 0.5], 40),
        (1, [0.97, 0.03], 900),
        (1, [0.97, 0.03], 6000),
        (2, [0.7, 0.3], 300),
        (2, [0.5, 0.5], 6000),
        (3, [0.9, 0.08, 0.02], 500),
        (4, [0.5, 0.49, 0.01, 0.0], 200),
        (30, [1 / 30] * 30, 100),
    ],
)
@pytest.mark.parametrize("logits", [True, False])
def test_every_metric_of_classes_has_the_figures_of_the_host(units, shares, n, logits):
    # Given outputs and targets
    generator = np.random.default_rng(n + units)
    target = generator.choice(len(shares), n, p=shares)
    outputs = generator.normal(size=(n, units)) * 2
    outputs += 3 * (np.eye(len(shares))[target] if units > 1 else target[:, None])
    outputs = outputs if logits else 1 / (1 + np.exp(-outputs))
    columns = CLASSIFICATION.per_sample(outputs, Batch(inputs={}, targets=target))
    there = aggregate(columns, CLASSIFICATION)
    for metric in (None, *CLASSIFICATION.metrics_of(there.columns)):
        # When both score them
        host = aggregate(columns, CLASSIFICATION, metric=metric).score
        name = metric and metric.name
        scorer = edgekit_runner.Scorer("classification", n, ["a", "b"], units, name)
        for position in range(n):
            scorer.add(position, list, outputs[position], target[position])
        here = scorer.score()
        # Then
        assert here["metric"] == host.metric
        assert here["value"] == pytest.approx(host.value, rel=1e-12)
        assert here["ci95"] == pytest.approx(list(host.ci95), rel=1e-12)
        assert here["extras"] == pytest.approx(dict(host.extras), rel=1e-12)
        _, reason = CLASSIFICATION.default_metric(there.columns, ["a", "b"])
        assert here["reason"] == ("" if metric else reason)


@pytest.mark.parametrize(("n", "width"), [(3, 1), (40, 1), (300, 4), (5001, 2), (60, 70)])
def test_every_metric_of_quantities_has_the_figures_of_the_host(n, width):
    # Given targets far from 0, one column of which is constant where there are several
    generator = np.random.default_rng(n)
    target = 1e4 + generator.normal(size=(n, width))
    target[:, 3:4] = 7.0
    outputs = target + generator.normal(size=target.shape)
    columns = REGRESSION.per_sample(outputs, Batch(inputs={}, targets=target))
    for metric in (None, *REGRESSION.metrics):
        # When both score them
        host = aggregate(columns, REGRESSION, metric=metric).score
        name = metric and metric.name
        scorer = edgekit_runner.QuantityScorer("regression", n, [], width, name)
        for position in range(n):
            scorer.add(position, list, outputs[position], target[position])
        here = scorer.score()
        # Then
        assert here["metric"] == host.metric
        assert here["value"] == pytest.approx(host.value, rel=1e-12)
        assert here["ci95"] == pytest.approx(list(host.ci95), rel=1e-12)
        assert here["extras"] == pytest.approx(dict(host.extras), rel=1e-12)


def test_r2_of_targets_that_are_all_alike_is_refused_by_both(runner, regression, tmp_path):
    model, data = regression
    with np.load(data) as stored:
        arrays = {name: stored[name] for name in stored}
    name = next(key for key in arrays if key.startswith(("y", "targets")))
    arrays[name] = np.full_like(arrays[name], 5)
    np.savez(tmp_path / "alike.npz", **arrays)

    code, _, err = runner("eval", model, tmp_path / "alike.npz", "--metric", "r2")

    assert code == 4
    assert err.splitlines()[0] == "r2 needs targets that differ."
    assert runner("eval", model, tmp_path / "alike.npz")[0] == 0


def test_eval_shows_further_metrics_in_the_order_they_were_asked_for(runner, classification):
    model, data = classification

    code, out, err = runner(
        "eval", model, data, "--metric", "f1", "--metric", "ece", "--metric=top5_accuracy", "--json"
    )

    assert (code, err) == (0, "")
    score = json.loads(out)["score"]
    assert (score["metric"], score["shown"]) == ("f1", ["ece", "top5_accuracy"])
    assert list(score["extras"])[:2] == score["shown"]
    (row,) = edgekit.evaluate([model], str(data), metric=["f1", "ece", "top5_accuracy"]).rows
    assert (list(row.score.shown), row.score.metric) == (score["shown"], "f1")
    assert score["extras"] == pytest.approx(dict(row.score.extras), rel=1e-12)


def test_eval_refuses_a_metric_of_ones_own(runner, classification):
    model, data = classification

    code, _, err = runner("eval", model, data, "--metric", "f1", "--metric", "mine.py:cost")

    assert code == 2
    assert err.splitlines()[0] == "eval computes no metric of your own."


def test_a_rare_class_chooses_the_metric_as_on_the_host(runner, one_unit, digits, tmp_path):
    # Given few eights
    eights, others = np.flatnonzero(digits[1] == 8)[:6], np.flatnonzero(digits[1] != 8)[:294]
    chosen = np.concatenate([eights, others])
    data = tmp_path / "rare.npz"
    np.savez(data, x_test=digits[0][chosen], y_test=(digits[1][chosen] == 8).astype(np.int64))
    # When
    code, out, err = runner("eval", one_unit[0], data)
    report = edgekit.evaluate([one_unit[0]], str(data))
    # Then both judge by balanced accuracy, and say why
    assert (code, err) == (0, "")
    assert "  balanced_accuracy, because '1' is 2 % of the samples" in out.splitlines()
    assert report.rows[0].score.metric == "balanced_accuracy"
    assert report.asked["accepted loss"] == (
        "0.5 points of balanced accuracy, because '1' is 2 % of the samples"
    )


@pytest.mark.parametrize(
    ("case", "metric", "says"),
    [
        ("classification", "roc_auc", "There is no metric 'roc_auc' of 10 classes."),
        ("classification", "rmse", "There is no metric 'rmse' of a classification."),
        ("regression", "f1", "There is no metric 'f1' of a regression."),
    ],
)
def test_a_metric_that_the_task_does_not_have_names_those_there_are(
    runner, request, case, metric, says
):
    model, data = request.getfixturevalue(case)

    code, _, err = runner("eval", model, data, "--metric", metric)

    assert code == 2
    first, *_, last = err.splitlines()
    assert first == says
    # The hint works
    known = last.partition("Known here: ")[2].rstrip(".").split(", ")
    assert runner("eval", model, data, "--metric", known[-1])[0] == 0


def test_a_metric_needs_targets(runner, one_unit, digits, tmp_path):
    np.savez(tmp_path / "inputs.npz", x_test=digits[0][:3])

    code, _, err = runner(
        "eval", one_unit[0], tmp_path / "inputs.npz", "--metric", "f1", "--outputs",
        tmp_path / "outputs.npz",
    )  # fmt: skip

    assert code == 2
    assert err.splitlines()[0] == "--metric has no effect without targets."


@pytest.mark.parametrize("n", [1, 2, 3, 30, 700, 5000, 5001])
def test_rmse_has_the_interval_of_the_host(n):
    squared = np.random.default_rng(n).normal(size=n) ** 2
    host = intervals.bootstrap(squared[:, None], lambda means: np.sqrt(means[..., 0]))
    assert edgekit_runner.rmse_interval(squared) == pytest.approx(host, rel=1e-12)


def test_errors_that_are_all_alike_have_an_interval_of_no_width():
    assert edgekit_runner.rmse_interval(np.full(9, 4.0)) == (2.0, 2.0)


@pytest.mark.parametrize(("n", "apart"), [(4, 0.0), (40, 1.0), (900, 0.3), (40, 99.0), (40, -99.0)])
def test_roc_auc_has_the_interval_of_the_host(n, apart):
    # Also with a perfect separation, which has no variance, and with ties
    generator = np.random.default_rng(n)
    flags = np.arange(n) % 2
    errors = np.round(generator.normal(size=n) + apart * flags, 1)
    columns = {"score": errors, "target": flags.astype(bool)}
    area, *ends = edgekit_runner.roc_auc(errors, flags)
    assert area == pytest.approx(ROC_AUC.value(columns), rel=1e-12)
    assert ends == pytest.approx(list(ROC_AUC.interval(columns)), rel=1e-12)


@pytest.mark.parametrize("n", [1, 7, 263])
def test_wilson_is_the_interval_of_the_host(n):
    for right in range(n + 1):
        assert edgekit_runner.wilson(right, n) == intervals.wilson(right, n)


def test_roc_auc_needs_two_samples_of_either_kind_as_on_the_host(runner, golden, tmp_path):
    data = tmp_path / "one.npz"
    np.savez(data, x_test=np.zeros((3, 64), np.float32), y_test=np.array([0, 0, 1]))
    code, _, err = runner("eval", golden / "runner" / "digits_autoencoder.tflite", data)
    assert code == 4
    assert err.splitlines()[1] == "There are 2 of class 0 and 1 of class 1."


@pytest.mark.parametrize(
    "targets",
    [
        np.arange(6) % 2,
        (np.arange(6) % 2).astype(np.float32)[:, None],
        np.arange(6),
        np.arange(6.0),
        np.arange(6) + 0.5,
        np.eye(10, dtype=np.float32)[:6],
        np.full((6, 10), 0.1, np.float32),
        (np.arange(60).reshape(6, 10) % 3 == 0).astype(np.int64),
    ],
)
@pytest.mark.parametrize("case", ["classification", "one_unit", "reconstruction"])
def test_a_task_that_nobody_names_is_inferred_as_on_the_host(request, case, targets, tmp_path):
    model, data = request.getfixturevalue(case)
    with np.load(data) as archive:
        x_test = archive["x_test"][:6]
    np.savez(tmp_path / "few.npz", x_test=x_test, y_test=targets)
    loaded = edgekit_runner.Model(str(model), edgekit_runner.find_runtime("litert"), 1)
    stored = edgekit_runner.read_arrays(str(tmp_path / "few.npz"))
    inputs, outputs = (
        [TensorSpec(name=t.name, shape=t.shape, dtype="float32") for t in side]
        for side in (loaded.inputs, loaded.outputs)
    )
    evidence = Evidence(targets=targets, unlabelled_train=False, inputs=inputs, output=outputs[0])
    task = infer_task(evidence)
    assert task is not None
    assert edgekit_runner.infer_task_from_targets(loaded, stored["y_test"]) == task.name


MASKS = np.array([[[0, 1], [1, 0]], [[0, 0], [1, 1]]])


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize(
    "targets",
    [
        MASKS,
        MASKS[..., None].astype(np.float32),
        MASKS == 1,
        MASKS * 255,
        MASKS - 1,
        MASKS * 9,
        MASKS * 0.5,
        MASKS[:, :1],
        MASKS[:, :1] * 1.0,
        np.eye(3)[MASKS],
        np.eye(3)[MASKS] * 0.5,
        np.ones((2, 2, 2, 3)),
        np.arange(2),
    ],
)
def test_masks_that_nobody_names_are_inferred_as_on_the_host(units, targets):
    specs = [TensorSpec(name="a", shape=(1, 2, 2, units), dtype="float32")]
    evidence = Evidence(targets=targets, unlabelled_train=False, inputs=specs, output=specs[0])
    task = infer_task(evidence)
    assert task is not None
    model = SimpleNamespace(inputs=specs, outputs=specs)
    stored = edgekit_runner.StoredArray(
        "y_test", targets.shape, targets.dtype, lambda: iter(targets)
    )
    assert edgekit_runner.infer_task_from_targets(model, stored) == task.name


def test_windows_of_a_clip_are_averaged_as_on_the_host(runner, reconstruction, digits, tmp_path):
    # Given an autoencoder, and pictures in groups of three with one flag each
    model, data = reconstruction
    generator = np.random.default_rng(0)
    rows = np.concatenate(
        [
            generator.choice(np.flatnonzero((digits[1] > 1) == anomalous), (25, 3), replace=False)
            for anomalous in (False, True)
        ]
    ).ravel()
    arrays = {"x_test": digits[0][rows], "y_test": (digits[1][rows] > 1).astype(np.int64)}
    clips = np.array([f"clip {i}" for i in np.repeat(generator.permutation(50), 3)])
    np.savez(data, **arrays)
    alone = edgekit.evaluate([model], str(data)).rows[0].score
    np.savez(data, **arrays, group_test=clips)
    # When both score them
    code, out, err = runner("eval", model, data, "--json")
    there = edgekit.evaluate([model], str(data)).rows[0].score
    # Then the clips are scored, by their mean error
    assert (code, err) == (0, "")
    here = json.loads(out)["score"]
    assert (here["n"], there.n, alone.n) == (50, 50, 150)
    assert here["value"] == pytest.approx(there.value, rel=1e-12)
    assert here["ci95"] == pytest.approx(list(there.ci95), rel=1e-12)
    assert here["extras"] == pytest.approx(dict(there.extras), rel=1e-12)
    assert there.value > alone.value  # the mean of three errors tells more than one


def test_a_clip_with_both_flags_is_refused_by_both(runner, reconstruction, digits, tmp_path):
    model, data = reconstruction
    np.savez(data, x_test=digits[0][:6], y_test=[0, 0, 0, 1, 1, 1], group_test=[7, 7, 8, 8, 9, 9])

    code, _, err = runner("eval", model, data)
    with pytest.raises(EdgekitError) as refused:
        edgekit.evaluate([model], str(data))

    assert code == refused.value.exit_code == 4
    assert err.splitlines()[0] == "Group 8 has both flags."
    assert err.splitlines()[1] == str(refused.value).splitlines()[1]


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"group_test": np.arange(3)}, "group_test declares no groups."),
        ({"ignore_label": np.array(0.5)}, "ignore_label is no class number."),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_by_both(
    runner, reconstruction, digits, declared, says
):
    model, data = reconstruction
    np.savez(data, x_test=digits[0][:4], y_test=[0, 0, 1, 1], **declared)

    code, _, err = runner("eval", model, data)
    with pytest.raises(EdgekitError) as refused:
        edgekit.evaluate([model], str(data))

    assert code == refused.value.exit_code == 4
    assert err.splitlines()[:2] == str(refused.value).splitlines()[:2]
    assert err.splitlines()[0].endswith(says)


def test_bench_gives_the_percentiles_of_the_host(runner, golden):
    model = golden / "runner" / "cmapss_uint8.tflite"
    _, out, _ = runner("bench", model, "--runs", 50, "--json")
    facts = json.loads(out)
    timing = answers.timing(facts, "local")
    for share in (50, 90, 99):
        assert facts[f"p{share}_ms"] == pytest.approx(timing.percentile_ms(share), rel=1e-12)


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize(
    ("n", "shares"), [(60, [0.5, 0.02, 0.0]), (2500, [0.5, 0.1] * 5), (5001, [0.3, 0.2, 0.1])]
)
def test_every_metric_of_labels_has_the_figures_of_the_host(n, shares, logits):
    # Given outputs and targets: also a label that no sample has, and one that is always right
    generator = np.random.default_rng(n)
    target = (generator.random((n, len(shares))) < shares).astype(np.int64)
    outputs = 2 * target - 1 + generator.normal(size=target.shape)
    outputs[:, 0] = 2 * target[:, 0] - 1
    outputs = np.round(outputs if logits else 1 / (1 + np.exp(-outputs)), 2)
    columns = MULTI_LABEL.per_sample(outputs, Batch(inputs={}, targets=target))
    for metric in (None, *MULTI_LABEL.metrics):
        name = metric and metric.name
        # When both score them
        host = aggregate(columns, MULTI_LABEL, metric=metric).score
        scorer = edgekit_runner.LabelScorer("multi-label", n, [], len(shares), name)
        for position in range(n):
            scorer.add(position, list, outputs[position], target[position])
        here = scorer.score()
        # Then
        assert here["metric"] == host.metric
        assert here["value"] == pytest.approx(host.value, rel=1e-12)
        assert here["ci95"] == pytest.approx(list(host.ci95), rel=1e-12)
        assert here["extras"] == pytest.approx(dict(host.extras), rel=1e-12)


@pytest.mark.parametrize("units", [1, 2, 4])
@pytest.mark.parametrize("form", ["numbers", "one-hot", "void", "0 and 255", "negative"])
@pytest.mark.parametrize("logits", [True, False])
def test_every_metric_of_masks_has_the_figures_of_the_host(units, form, logits):
    # Given masks as people have them, and scores of some pictures
    generator = np.random.default_rng(units)
    classes, n = max(2, units), 30
    masks = generator.choice(
        classes, (n, 6, 5), p=np.arange(classes, 0, -1) / sum(range(classes + 1))
    )
    scores = 2 * np.eye(classes)[masks] + generator.normal(size=(n, 6, 5, classes))
    scores = scores[..., 1:2] - scores[..., :1] if units == 1 else scores
    scores = np.round(scores if logits else 1 / (1 + np.exp(-scores)), 2)
    targets = {
        "numbers": masks[..., None].astype(np.float32),
        "one-hot": np.eye(classes)[masks] if units > 1 else masks,
        "void": np.where(generator.random(masks.shape) < 0.1, 255, masks).astype(np.uint8),
        "0 and 255": (masks > 0).astype(np.uint8) * 255,
        "negative": np.where(generator.random(masks.shape) < 0.1, -1, masks),
    }[form]
    spec = TensorSpec(name="out", shape=(1, 6, 5, units), dtype="float32")
    bound = SEGMENTATION.bind(targets, spec, split="test", labels=None, place="d")
    columns = SEGMENTATION.per_sample(scores, Batch(inputs={}, targets=bound.targets))
    for metric in SEGMENTATION.metrics:
        # When both score them
        host = aggregate(columns, SEGMENTATION, metric=metric).score
        scorer = edgekit_runner.MapScorer("segmentation", n, [], 30 * units, metric.name)
        for position in range(n):
            scorer.add(position, list, scores[position], targets[position])
        here = scorer.score()
        # Then
        assert (here["metric"], here["n"]) == (host.metric, n)
        assert here["value"] == pytest.approx(host.value, rel=1e-12)
        assert here["ci95"] == pytest.approx(list(host.ci95), rel=1e-12)
        assert here["extras"] == pytest.approx(dict(host.extras), rel=1e-12)

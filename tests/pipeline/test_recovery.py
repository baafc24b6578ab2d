"""Remedies for variants that lose more than is accepted, and rounding of four-bit weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT
from float_nets import RELU, Net

import edgekit
from edgekit.data import open_data
from edgekit.evaluation.trial_runs import TrialRun
from edgekit.pipeline import narrow_search, precision_search, recovery
from edgekit.pipeline.report import reported_metric
from edgekit.quantization.judgement import ENOUGH_DB
from edgekit.records import Array, Report, Row
from edgekit.reports.recovery_text import recovery_card, recovery_line
from edgekit.tflite import write

WIDE = 2000.0


def sum_with_a_wide_channel() -> ModelT:
    """A sum of two convolutions whose channels differ: they share it, so none can be equalized."""
    net = Net(1, 8, 8, 2, seed=3)
    first = net.rng.normal(0, 0.2, (16, 3, 3, 2)).astype(np.float32)
    first[3] *= WIDE
    both = net.add(net.conv("x", 16, act=RELU, weights=first), net.conv("x", 16, act=RELU))
    reader = net.rng.normal(0, 0.1, (32, 3, 3, 16)).astype(np.float32)
    reader[..., 3] /= WIDE
    hidden = net.conv(both, 32, act=RELU, weights=reader, name="reader")
    hidden = net.pool(net.conv(hidden, 32, act=RELU))
    return named(net, net.dense(net.flat(hidden), 4))


def usual() -> ModelT:
    net = Net(1, 8, 8, 2, seed=5)
    hidden = net.pool(net.conv(net.conv("x", 48, act=RELU), 32, act=RELU))
    return named(net, net.dense(net.flat(hidden), 4))


def figure() -> ModelT:
    """A figure without bounds, whose summands have one sign: noise is far below its spread."""
    net = Net(1, 8, 8, 2, seed=5)
    hidden = net.pool(net.conv(net.pool(net.conv("x", 48, act=RELU)), 16, act=RELU))
    weights = np.abs(net.rng.normal(0, 0.1, (1, 64))).astype(np.float32)
    return named(net, net.dense(net.flat(hidden), 1, weights=weights))


def named(net: Net, output: str) -> ModelT:
    """Finish a network with a signature, as converters write it."""
    model = net.done(output)
    (graph,) = model.subgraphs
    given, found = (
        [schema.TensorMapT(name=name, tensorIndex=int(tensors[0]))]
        for name, tensors in (("x", graph.inputs), ("scores", graph.outputs))
    )
    model.signatureDefs = [
        schema.SignatureDefT(
            signatureKey="serving_default", subgraphIndex=0, inputs=given, outputs=found
        )
    ]
    return model


def some(n: int, seed: int) -> Array:
    """Pictures whose neighbouring values go together, as those of cameras do."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.5, 1, (n, 1, 1, 2))
    return (coarse + rng.normal(0, 0.4, (n, 8, 8, 2))).astype(np.float32)


def made(model: ModelT, folder: Path, *modes: str, **given: Any) -> Report:
    folder.mkdir(exist_ok=True)
    source = folder / "model.tflite"
    source.write_bytes(write(model))
    arrays = {"x_train": some(140, 1), "x_test": given.pop("test", some(40, 2))}
    if "noise" in given:  # targets that the model nearly tells
        noise, rng = given.pop("noise"), np.random.default_rng(3)
        for split in ("train", "test"):
            exact = outputs(model, arrays[f"x_{split}"])
            arrays[f"y_{split}"] = exact + rng.normal(0, noise * exact.std(), exact.shape)
    np.savez(folder / "data.npz", **arrays)
    return edgekit.quantize(
        source,
        data=str(folder / "data.npz"),
        modes=modes,
        output=folder / "out",
        calibration_samples=40,
        latency=False,
        **given,
    )


def outputs(model: ModelT, samples: Array) -> Array:
    interpreter = Interpreter(model_content=write(model), num_threads=1)
    interpreter.allocate_tensors()
    found = []
    for values in samples:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(found)


def told(row: Row) -> dict[str, Any]:
    path = row.artifact.path.with_suffix(".json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder = tmp_path_factory.mktemp("recovery") / "plain"
    return made(sum_with_a_wide_channel(), folder, "int8", recover=False).files[-1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder = tmp_path_factory.mktemp("recovery") / "recovered"
    return made(sum_with_a_wide_channel(), folder, "int8").files[-1]


def worst_db(row: Row) -> float:
    return min(one.sqnr_db for one in row.fidelity)


def test_a_lost_variant_is_recovered_by_default(lost: Row, found: Row) -> None:
    # given a network that int8 damages, and nothing that equalizes it
    assert worst_db(lost) < 20

    # then few operators in float save it, on the test split too
    assert worst_db(found) > 20
    assert found.artifact.size_bytes < 2 * lost.artifact.size_bytes


def test_the_manifest_tells_each_step_and_the_plan_that_was_found(found: Row) -> None:
    described = told(found)
    steps = {step["remedy"]: step for step in described["recovery"]["steps"]}

    assert described["recovery"]["before"]["lost"] is True
    assert described["recovery"]["after"]["lost"] is False
    assert described["recovery"]["held_back"] is True
    assert described["recovery"]["samples"] == 100  # training samples that calibration left
    assert steps["higher_precision"]["helped"] is True
    assert " operators are in float32: " in steps["higher_precision"]["note"]
    assert " on 100 training samples; " in steps["higher_precision"]["note"]
    assert {rule["mode"] for rule in described["plan"]["rules"]} == {"float32"}
    assert "round_weights" not in steps  # there are no weights of four bits


def test_the_report_says_what_was_done_in_a_line(found: Row) -> None:
    line = recovery_line(found)

    assert line is not None
    assert line.startswith("int8: ")
    assert "few operators in a higher precision: " in line
    assert " instead of " in line
    assert " on 100 training samples" in line
    assert "<td>yes</td>" in recovery_card(found)
    assert "that no range was taken from" in recovery_card(found)


def test_the_file_is_made_again_from_its_manifest(found: Row) -> None:
    manifest = found.artifact.path.with_suffix(".json")

    assert edgekit.rebuild(manifest).sha256 == found.artifact.sha256


def test_the_test_split_changes_nothing(found: Row, tmp_path: Path) -> None:
    # given other test samples, far from the training ones
    other = made(sum_with_a_wide_channel(), tmp_path, "int8", test=9 * some(30, 7)).files[-1]

    assert other.artifact.sha256 == found.artifact.sha256


def test_a_variant_that_is_not_lost_is_the_same_without(tmp_path: Path) -> None:
    with_it, without = (
        made(usual(), tmp_path / str(recover), "int8", "dynamic", recover=recover).files
        for recover in (True, False)
    )

    assert [row.artifact.sha256 for row in with_it] == [row.artifact.sha256 for row in without]
    assert [told(row)["recovery"] for row in with_it] == [None] * 3
    assert [recovery_line(row) for row in with_it] == [None] * 3


def test_four_bit_weights_are_rounded_by_outputs(tmp_path: Path) -> None:
    plain = made(usual(), tmp_path / "plain", "int4", recover=False).files[-1]
    rounded = made(usual(), tmp_path / "rounded", "int4").files[-1]

    assert worst_db(rounded) > worst_db(plain) + 1
    assert rounded.artifact.size_bytes == plain.artifact.size_bytes
    assert told(rounded)["plan"]["passes"] == ["round_weights"]
    assert told(rounded)["recovery"]["before"]["lost"] is False
    line = recovery_line(rounded)
    assert line is not None
    assert line.startswith("int4: weights rounded by outputs: ")
    manifest = rounded.artifact.path.with_suffix(".json")
    assert edgekit.rebuild(manifest).sha256 == rounded.artifact.sha256


def test_no_remedy_is_begun_after_the_time_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Row
) -> None:
    monkeypatch.setattr(recovery, "SECONDS", -1)

    row = made(sum_with_a_wide_channel(), tmp_path, "int8").files[-1]

    assert row.artifact.sha256 == lost.artifact.sha256
    steps = told(row)["recovery"]["steps"]
    assert steps
    assert not any(step["helped"] for step in steps)
    assert "seconds were spent" in steps[-1]["note"]
    line = recovery_line(row)
    assert line is not None
    assert "no remedy was tried: " in line
    assert "seconds were spent on those before)" in line
    # and what it names then is not limited
    assert line.endswith("Next: --mode mixed takes the time that it needs to find the operators.")
    assert worst_db(made(sum_with_a_wide_channel(), tmp_path, "mixed", force=True).files[-1]) > 20


def test_operators_too_many_to_be_tried_one_by_one_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a limit below this graph's operators, as an unrolled recurrent network is above it
    monkeypatch.setattr(recovery, "MOST_TRIED", 1)

    row = made(sum_with_a_wide_channel(), tmp_path, "int8").files[-1]

    last = told(row)["recovery"]["steps"][-1]
    assert last["remedy"] == recovery.ISLANDS
    assert "operators one by one takes over a minute" in last["note"]
    line = recovery_line(row)
    assert line is not None
    assert "few operators in a higher precision (trying " in line
    assert line.endswith("Next: --mode mixed takes the time that it needs to find the operators.")


def test_a_regression_near_to_float_is_lost_all_the_same(tmp_path: Path) -> None:
    # given outputs whose noise is 30 dB below their spread, and targets that float tells better
    given: dict[str, Any] = {"noise": 0.02, "metric": "mae"}
    row = made(figure(), tmp_path, "int8", max_drop=1, **given).files[-1]
    trials = told(row)["ranges"]["trials"]
    assert max(min(trial["sqnr_db"].values()) for trial in trials) > ENOUGH_DB

    # then its loss counts, and remedies are tried
    recovered = told(row)["recovery"]
    assert recovered["metric"] == "mae"
    assert recovered["before"]["lost"] is True
    assert [step["remedy"] for step in recovered["steps"]] == ["correct_biases", "higher_precision"]
    assert recovered["after"]["value"] < recovered["before"]["value"]

    # when they are not enough, and the loss is accepted that is named then, then it is not lost
    hint = recovered["next_step"]
    assert (recovery_line(row) or "").endswith(f"it still loses too much. Next: {hint}")
    accepted = float(hint.split("--max-drop ")[1].split(";")[0])
    row = made(figure(), tmp_path, "int8", force=True, max_drop=accepted, **given).files[-1]
    recovered = told(row)["recovery"]
    assert recovered is None or recovered["after"]["lost"] is False
    assert recovered is None or recovered["next_step"] == ""


def test_without_a_score_no_loss_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_search, "MOST_SHARE", 0.0)
    row = made(sum_with_a_wide_channel(), tmp_path, "int8").files[-1]
    hint = told(row)["recovery"]["next_step"]
    assert hint.startswith("Choose dynamic, or float16 where that loses too much as well, or ")
    assert worst_db(made(sum_with_a_wide_channel(), tmp_path, "float16", force=True).files[-1]) > 20


def test_the_smallest_mixed_file_has_four_bits_where_they_keep_the_loss(tmp_path: Path) -> None:
    plain = made(usual(), tmp_path / "plain", "mixed").files[-1]
    report = made(usual(), tmp_path / "small", "mixed", prefer="size")
    small = report.files[-1]

    rules = told(small)["plan"]["rules"]
    assert rules
    assert {rule["mode"] for rule in rules} == {"int4"}
    assert told(small)["plan"]["passes"] == ["round_weights"]
    assert small.artifact.size_bytes < 0.9 * plain.artifact.size_bytes
    assert worst_db(small) > 20
    assert " have four bits, " in told(small)["precisions"]
    manifest = small.artifact.path.with_suffix(".json")
    assert edgekit.rebuild(manifest).sha256 == small.artifact.sha256


@pytest.mark.parametrize("most", [0, 1, 4, 7, 8])
def test_the_largest_number_is_found_by_bisection(most: int) -> None:
    tried: list[int] = []

    def enough(n: int) -> bool:
        tried.append(n)
        return n <= most

    assert narrow_search._most(8, enough) == most
    assert len(tried) <= 5


@pytest.mark.parametrize(
    ("loss", "least", "lost"),
    [(0.5, 0.1, False), (3.0, -0.2, False), (3.0, 0.4, True), (None, None, False)],
)
def test_a_loss_counts_where_it_is_no_chance(
    loss: float | None, least: float | None, *, lost: bool
) -> None:
    assert TrialRun(loss=loss, least=least).lost is lost


@pytest.mark.parametrize("damaged", [3, {}, {"steps": "x"}, {"steps": [3], "before": []}])
def test_a_damaged_manifest_is_printed_all_the_same(found: Row, damaged: object) -> None:
    from dataclasses import replace

    artifact = replace(found.artifact, manifest={"recovery": damaged})

    recovery_line(replace(found, artifact=artifact))
    recovery_card(replace(found, artifact=artifact))


def test_other_splits_are_judged_by_the_metric_of_the_report(tmp_path: Path) -> None:
    # Given a class that is rare in the test split, and in no other
    rare = np.array([0] * 197 + [1] * 3)
    even = np.tile([0, 1], 100)
    x = np.zeros((200, 4), np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=even, x_test=x, y_test=rare)
    dataset = replace(open_data(str(tmp_path / "d.npz")), task="classification")

    assert reported_metric(dataset, None) == "balanced_accuracy"
    assert reported_metric(dataset, "f1") == "f1"
    assert reported_metric(replace(dataset, test=None), None) is None

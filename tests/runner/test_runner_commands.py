"""What each command of the runner answers."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import edgekit_runner
from edgekit.evaluation import score
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.records import Batch

# The float baseline's RMSE on the thirty golden windows, target / 125 (see make_runner_models.py).
TURBOFAN_FLOAT_RMSE = 0.1517
SOURCE = Path(edgekit_runner.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def anomalies(tmp_path_factory) -> Path:
    """Zeros and ones the autoencoder has not seen, and 300 other digits."""
    digits = load_digits()
    normal = np.flatnonzero(digits.target < 2)[260:]
    chosen = np.concatenate([normal, np.flatnonzero(digits.target >= 2)[:300]])
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    samples = (digits.data[chosen] / 16).astype(np.float32)
    np.savez(path, x_test=samples, y_test=(digits.target[chosen] >= 2).astype(np.int64))
    return path


# --- The file itself ---


def test_the_file_is_python_3_8():
    ast.parse(SOURCE, feature_version=(3, 8))


def test_the_file_uses_nothing_younger_than_python_3_8():
    younger = {
        "removeprefix", "removesuffix", "pairwise", "batched", "bit_count", "fmean_weights", "lcm",
        "BooleanOptionalAction", "exit_on_error", "randbytes", "nextafter", "EncodingWarning",
        "add_note", "ExceptionGroup", "tomllib", "zoneinfo", "graphlib", "waitstatus_to_exitcode",
        "aclosing", "chdir", "hardlink_to", "is_relative_to", "with_stem", "file_digest", "cache",
    }  # fmt: skip
    names = {node.attr for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Name)}
    assert not names & younger


def test_at_the_top_it_imports_what_every_python_has_loaded_already():
    imports = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.Import)]
    assert [alias.name for node in imports for alias in node.names] == ["os", "sys", "time"]


def test_alone_on_a_board_it_runs_and_leaves_stderr_empty(alone, models):
    # Given the copied file, an isolated interpreter and an empty environment
    done = alone("eval", models / "cmapss_uint8.tflite", models / "cmapss.npz", "--json")
    # Then it answers, and the notice of the XNNPACK delegate is not shown.
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["score"]["n"] == 30


def test_it_loads_neither_edgekit_nor_tensorflow_nor_pillow(copied_runner, models):
    script = (
        f"import sys; sys.path.insert(0, {str(copied_runner.parent)!r}); import edgekit_runner; "
        "code = edgekit_runner.main(sys.argv[1:]); print(*sys.modules, sep='\\n'); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, "info", models / "cmapss_uint8.tflite"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.split(".")[0] for line in done.stdout.splitlines()}
    assert {"numpy", "ai_edge_litert"} <= loaded
    assert loaded.isdisjoint({"edgekit", "tensorflow", "PIL", "subprocess"})


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_fits_a_screen_and_tells_every_command(runner, words):
    code, out, _ = runner(*words)
    assert code == 0
    assert fits_a_screen(out)
    assert "example: edgekit_runner.py run model.tflite photo.jpg" in out.splitlines()
    assert all(f"\n  {command} " in out for command in edgekit_runner.COMMANDS)


@pytest.mark.parametrize("command", edgekit_runner.COMMANDS)
def test_the_help_of_a_command_fits_a_screen_and_tells_its_options(runner, command):
    code, out, _ = runner(command, "m.tflite", "--help")
    assert code == 0
    assert fits_a_screen(out)
    assert out.startswith(f"usage: edgekit_runner.py {command} ")
    assert f"\nexample: edgekit_runner.py {command}" in out
    told = set(re.findall(r"--([a-z-]+)", out))
    assert told == {option.replace("_", "-") for option in edgekit_runner.COMMANDS[command][2]}


def fits_a_screen(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) <= 24 and max(map(len, lines)) <= 80


def test_version(runner):
    assert runner("--version") == (0, f"edgekit_runner {edgekit_runner.__version__}\n", "")


def test_options_stand_anywhere_and_take_an_equals_sign(runner, models):
    words = ["--runs=2", models / "pair.tflite", "--json", "--threads", "2"]
    facts = json.loads(runner("bench", *words)[1])
    assert (facts["n"], facts["threads"]) == (2, 2)


# --- info ---


def test_info_tells_tensors_by_their_signature_names(runner, models):
    code, out, err = runner("info", models / "pair.tflite", "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert {tensor["name"]: tensor["dtype"] for tensor in facts["inputs"]} == {
        "left": "float32",
        "right": "float32",
        "index": "int32",
    }
    assert {tensor["name"] for tensor in facts["outputs"]} == {"total", "entry"}
    assert facts["size_bytes"] == (models / "pair.tflite").stat().st_size
    assert facts["runtime"].startswith("ai-edge-litert ")
    assert facts["machine"]["cores"] == str(len(os.sched_getaffinity(0)))


def test_info_tells_how_codes_become_real_values(runner, models):
    _, out, _ = runner("info", models / "fsdd_int8.tflite")
    assert "input samples: int8 1 x 61 x 40 x 1, real = 0.0161676 * (code + 81)" in out
    _, out, _ = runner("info", models / "cmapss_int16.tflite")
    assert "input samples: int16 1 x 30 x 14, real = 3.05185e-05 * code\n" in out


def test_info_without_a_model_tells_runtime_and_device(runner):
    code, out, _ = runner("info")
    assert code == 0
    assert "ai-edge-litert" in out
    assert edgekit_runner.describe_device()["device"] in out


# --- bench ---


def test_bench_keeps_every_raw_value_and_derives_the_rest(runner, models):
    code, out, err = runner("bench", models / "fsdd_int8.tflite", "--runs", 50, "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    values = facts["values_ns"]
    assert len(values) == facts["n"] == 50
    assert all(isinstance(value, int) and value > 0 for value in values)
    for share in (50, 90, 99):
        assert facts[f"p{share}_ms"] == pytest.approx(np.percentile(values, share) / 1e6)
    assert facts["mean_ms"] == pytest.approx(np.mean(values) / 1e6)
    assert len(facts["warmup_ns"]) >= 2
    assert set(facts["cold_start_ns"]) == {"import", "load", "allocate", "first_invoke"}
    assert min(facts["cold_start_ns"].values()) > 0
    assert facts["peak_rss_bytes"] > 20e6
    assert (facts["threads"], facts["delegate"]) == (1, None)
    assert facts["stable"] is (facts["warning"] is None)
    assert facts["sha256"] == edgekit_runner.sha256_of(str(models / "fsdd_int8.tflite"))
    assert {"device", "runtime", "conditions", "python", "numpy"} <= set(facts)


def test_bench_times_models_of_every_input_type(runner, models):
    for name in ("pair", "cmapss_uint8", "cmapss_int16"):
        code, out, _ = runner("bench", models / f"{name}.tflite", "--runs", 3)
        assert code == 0
        assert "3 runs, 1 thread" in out


def test_bench_measures_for_as_long_as_it_is_told(runner, models):
    model = models / "cmapss_uint8.tflite"
    _, out, _ = runner("bench", model, "--seconds", 0.02, "--json")
    facts = json.loads(out)
    # The number of runs follows from the latency at the end of the warm-up.
    expected = 0.02e9 / edgekit_runner._median(facts["warmup_ns"][-20:])
    assert facts["n"] == max(1, int(expected))


def test_bench_feeds_the_first_sample_of_data(runner, models):
    code, _, _ = runner(
        "bench", models / "cmapss_uint8.tflite", "--data", models / "cmapss.npz", "--runs", 2
    )
    assert code == 0


@pytest.mark.parametrize(
    ("values", "facts", "words"),
    [
        ([100] * 20, {"settled": False}, "did not settle"),
        ([100] * 10 + [120] * 10, {}, r"changed by \+20 %"),
        ([100] * 16 + [200] * 4, {}, "p90 is 2.0 times p50"),
        ([100] * 20, {"threads": 4096}, "4096 threads share"),
        ([100] * 20, {"throttled": "50005"}, "throttling or low voltage"),
    ],
)
def test_bench_names_each_reason_for_doubt(values, facts, words):
    reasons = edgekit_runner.stability_warnings(
        values, **{"settled": True, "threads": 1, "throttled": "0", **facts}
    )
    assert any(re.search(words, reason) for reason in reasons)


def test_bench_has_no_doubts_about_a_steady_measurement():
    steady = [100, 101] * 50
    assert edgekit_runner.stability_warnings(steady, settled=True, threads=1, throttled="") == []


def test_warm_up_ends_when_two_blocks_agree():
    calls = []
    values, settled = edgekit_runner.warm_up(lambda: calls.append(sum(range(2000))))
    assert settled or sum(values) > edgekit_runner.WARM_UP_NS / 2
    assert len(values) == len(calls)


def test_table_of_contents_names_every_section_in_order():
    sections = re.findall(r"^# --- (.+?) -+\n# .", SOURCE, re.MULTILINE)
    contents = SOURCE.split("Sections, each", 1)[1].split('"""', 1)[0]
    assert re.findall(r"^    (\S.*?)  +", contents, re.MULTILINE) == sections
    assert len(sections) == SOURCE.count("\n# --- ")


# --- eval ---


def test_eval_reads_arrays_in_fortran_order(runner, models, tmp_path):
    stored = np.load(models / "cmapss.npz")
    turned = np.asfortranarray(stored["x_test"])
    np.savez(tmp_path / "turned.npz", x_test=turned, y_test=stored["y_test"])
    model = models / "cmapss_uint8.tflite"
    scores = [
        json.loads(runner("eval", model, data, "--json")[1])["score"]
        for data in (models / "cmapss.npz", tmp_path / "turned.npz")
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("interface", ["uint8", "int16"])
def test_eval_scores_a_regression_through_integer_inputs(runner, models, interface):
    code, out, err = runner(
        "eval", models / f"cmapss_{interface}.tflite", models / "cmapss.npz", "--json"
    )
    score = json.loads(out)["score"]
    assert (code, err) == (0, "")
    assert score["metric"] == "rmse"
    assert score["value"] == pytest.approx(TURBOFAN_FLOAT_RMSE, abs=0.002)
    assert score["ci95"][0] < score["value"] < score["ci95"][1]
    assert 0 < score["extras"]["mae"] < score["value"]


def test_eval_writes_dequantized_outputs(runner, models, tmp_path):
    kept = tmp_path / "outputs.npz"
    code, out, _ = runner(
        "eval", models / "cmapss_int16.tflite", models / "cmapss.npz", "--outputs", kept
    )
    assert code == 0
    assert out.splitlines()[-1] == f"Wrote {kept}"
    outputs = np.load(kept)["output_0"]
    stored = np.load(models / "cmapss.npz")
    assert outputs.shape == (30, 1)
    assert outputs.dtype == np.float32
    rmse = np.sqrt(np.mean((outputs[:, 0] - stored["y_test"]) ** 2))
    assert rmse == pytest.approx(TURBOFAN_FLOAT_RMSE, abs=0.002)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs.npz"]


@pytest.mark.parametrize(
    ("manifest", "name", "codes"),
    [
        ({"preprocessing": {"kind": "none"}}, "x_test", False),
        ({"preprocessing": {"kind": "none"}}, "inputs", True),
        ({}, "x_test", True),
    ],
)
def test_raw_samples_of_the_inputs_own_type_are_real_values_as_on_the_host(
    runner, models, tmp_path, *, manifest, name, codes
):
    model = tmp_path / "model.tflite"
    shutil.copy(models / "cmapss_uint8.tflite", model)
    described = json.loads((models / "cmapss_uint8.json").read_text())
    model.with_suffix(".json").write_text(json.dumps({**described, **manifest}))
    whole = np.random.default_rng(0).integers(0, 2, (3, 30, 14), np.uint8)
    tensor = edgekit_runner.Tensor("x", _input_of(model))
    real = tensor.decode(whole) if codes else whole.astype(np.float32)

    found = []
    for number, samples in enumerate((whole, real)):
        data, kept = tmp_path / f"{number}.npz", tmp_path / f"outputs{number}.npz"
        np.savez(data, **{name: samples})
        assert runner("eval", model, data, "--outputs", kept)[0] == 0
        found.append(np.load(kept)["output_0"])

    assert np.array_equal(*found)


def _input_of(model: Path) -> dict[str, object]:
    return Interpreter(str(model)).get_input_details()[0]


def test_eval_of_an_autoencoder_is_the_auc_of_its_error(runner, models, anomalies, tmp_path):
    kept = tmp_path / "kept.npz"
    _, out, _ = runner(
        "eval", models / "digits_autoencoder.tflite", anomalies, "--json", "--outputs", kept
    )
    score = json.loads(out)["score"]
    stored = np.load(anomalies)
    error = ((stored["x_test"] - np.load(kept)["output_0"]) ** 2).mean(1)
    assert score["metric"] == "roc_auc"
    assert score["value"] == pytest.approx(roc_auc_score(stored["y_test"], error), abs=1e-9)
    assert score["value"] > 0.97
    assert score["ci95"][0] < score["value"] < score["ci95"][1] <= 1


def test_eval_hears_digits_in_raw_audio_and_reads_labels_as_texts(
    runner, models, shared_data, tmp_path
):
    # Given the official test split, raw, with the names of the digits as targets
    with np.load(shared_data / "fsdd" / "fsdd.npz") as archive:
        stored = dict(archive)
    clips = np.flatnonzero(stored["index"] < 5)
    audio = np.zeros((len(clips), 8000), np.int16)
    for row, k in zip(audio, clips, strict=True):
        clip = stored["audio"][stored["offsets"][k] : stored["offsets"][k + 1]][:8000]
        row[: len(clip)] = clip
    manifest = json.loads((models / "fsdd_int8.json").read_text())
    names = np.array(manifest["labels"])[stored["label"][clips]]
    data = tmp_path / "digits.npz"
    np.savez(data, x_test=audio, y_test=names)
    # When the model whose manifest says log-mel is scored, then it is the published int8 model.
    _, out, _ = runner("eval", models / "fsdd_int8.tflite", data, "--json")
    score = json.loads(out)["score"]
    assert (score["metric"], score["n"]) == ("accuracy", 300)
    assert score["value"] >= 0.99
    assert score["extras"]["top5_accuracy"] == 1.0
    # And packed features give the same answers as the raw audio they came from.
    spec = manifest["preprocessing"]
    features = np.stack([edgekit_runner.log_mel(clip, spec) for clip in audio])
    np.savez_compressed(data, inputs=features, targets=stored["label"][clips])
    _, out, _ = runner("eval", models / "fsdd_int8.tflite", data, "--json")
    assert json.loads(out)["score"] == score


def test_eval_keeps_one_sample_in_memory(alone, models, tmp_path):
    # Given 20 MB of samples, stored and compressed
    samples = np.zeros((12_000, 30, 14), np.float32)
    for name, save in (("stored", np.savez), ("deflated", np.savez_compressed)):
        save(tmp_path / f"{name}.npz", inputs=samples, targets=np.zeros(12_000, np.float32))
    _, small = _peak(alone, models, models / "cmapss.npz")
    # When they are scored, then the peak is that of thirty samples.
    for name in ("stored", "deflated"):
        n, peak = _peak(alone, models, tmp_path / f"{name}.npz")
        assert n == 12_000
        assert peak < small + 8e6


def _peak(alone, models, data) -> tuple[int, int]:
    facts = json.loads(alone("eval", models / "cmapss_uint8.tflite", data, "--json").stdout)
    return facts["n"], facts["peak_rss_bytes"]


def test_accuracy_and_top5_by_hand():
    # Four samples of seven classes: right, second, sixth, and a tie that the lower class wins.
    scorer = edgekit_runner.Scorer("classification", 4, [], 7)
    scores = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05])
    for position, (output, target) in enumerate(
        [(scores, 0), (scores, 1), (scores, 5), (np.array([1.0, 1, 0, 0, 0, 0, 0]), 1)]
    ):
        scorer.add(position, None, output, np.int64(target))
    score = scorer.score()
    assert score["value"] == 0.25
    assert score["extras"]["top5_accuracy"] == 0.75


def test_one_hot_targets_are_classes_too():
    scorer = edgekit_runner.Scorer("classification", 2, [], 2)
    scorer.add(0, None, np.array([0.1, 0.9]), np.array([0.0, 1.0]))
    scorer.add(1, None, np.array([0.1, 0.9]), np.array([1.0, 0.0]))
    assert scorer.target.tolist() == [1, 0]
    assert scorer.predicted.tolist() == [1, 1]


def test_wilson_interval_is_the_published_example():
    # R. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263.
    assert edgekit_runner.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


# --- run ---


def test_run_prints_a_line_for_each_sample_of_several_inputs(runner, models, tmp_path):
    data = tmp_path / "pairs.npz"
    np.savez(
        data,
        left=np.ones((2, 3), np.float32),
        right=np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        index=np.array([[1], [3]]),
    )
    code, out, _ = runner("run", models / "pair.tflite", data)
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert first["outputs"] == {"total": [2.0, 3.0, 4.0], "entry": [2.0, 3.0]}
    assert second["outputs"] == {"total": [5.0, 6.0, 7.0], "entry": [6.0, 7.0]}
    assert (second["source"], second["index"]) == (str(data), 1)


def no_word_for_it(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_what_overflows_is_null_in_json_and_has_no_score(runner, models, tmp_path):
    large = np.full((1, 3), 3e38, np.float32)
    data = tmp_path / "large.npz"
    np.savez(data, left=large, right=large, index=np.array([[1]]), y_test=large)
    code, out, _ = runner("run", models / "pair.tflite", data)
    assert code == 0
    answer = json.loads(out, parse_constant=no_word_for_it)
    assert answer["outputs"] == {"total": [None] * 3, "entry": [2.0, 3.0]}
    code, out, error = runner("eval", models / "pair.tflite", data, "--json")
    assert (code, out) == (3, "")
    assert "1 of 1 samples" in error


@pytest.mark.parametrize(("outputs", "right"), [([0.2, 0.7, 0.4], 2), ([-3.0, 0.2, -0.1], 3)])
def test_one_unit_is_a_sigmoid_or_a_logit_as_on_the_host(outputs, right):
    targets = np.array([0, 1, int(right == 2)])
    scorer = edgekit_runner.Scorer("classification", 3, [], 1)
    for position, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        scorer.add(position, list, np.array([output]), target)
    batch = Batch(inputs={"x": np.zeros((3, 1))}, targets=targets)
    host = score(np.array(outputs)[:, None], batch, task=CLASSIFICATION)
    assert scorer.score()["value"] == host.value == right / 3


def test_run_takes_an_npy_of_one_sample_or_of_many(runner, models, tmp_path):
    windows = np.load(models / "cmapss.npz")["x_test"]
    np.save(tmp_path / "many.npy", windows[:3])
    np.save(tmp_path / "one.npy", windows[0])
    model = models / "cmapss_uint8.tflite"
    _, out, _ = runner("run", model, tmp_path / "many.npy", tmp_path / "one.npy")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 0]
    assert lines[0]["outputs"] == lines[3]["outputs"]


def test_run_names_the_spoken_digit(runner, models, shared_data, tmp_path):
    stored = np.load(shared_data / "fsdd" / "fsdd.npz")
    np.save(tmp_path / "clip.npy", stored["audio"][: stored["offsets"][1]])
    _, out, _ = runner("run", models / "fsdd_int8.tflite", tmp_path / "clip.npy", "--top", 2)
    top = json.loads(out)["top"]
    assert len(top) == 2
    assert top[0]["class"] == stored["label"][0]
    manifest = json.loads((models / "fsdd_int8.json").read_text())
    assert top[0]["label"] == manifest["labels"][stored["label"][0]]
    assert top[0]["score"] > 0.9


def test_run_of_an_autoencoder_gives_its_error(runner, models, anomalies, tmp_path):
    model = Path(shutil.copy(models / "digits_autoencoder.tflite", tmp_path))
    model.with_suffix(".json").write_text('{"data": {"task": "reconstruction"}}')
    _, out, _ = runner("run", model, anomalies)
    errors = [json.loads(line)["error"] for line in out.splitlines()]
    flags = np.load(anomalies)["y_test"]
    assert len(errors) == 400
    assert roc_auc_score(flags, errors) > 0.97


@pytest.mark.parametrize(
    "expectation",
    [
        ("mobilenet_v1_0.25_128_quant", "cat.bmp", 283, 3, 0.25),
        ("mobilenet_v1_0.5_160_quant", "cat.bmp", 286, 1, 0.51),
        ("mobilenet_v2_1.0_224_quant", "cat.bmp", 286, 1, 0.70),
        ("keras_lstm_mnist_ptq", "mnist_nine.bmp", 9, 1, 0.70),
    ],
)
def test_run_meets_the_published_expectations_on_pictures(runner, shared_data, expectation):
    name, picture, label, top, least = expectation
    folder = shared_data / "coral_pairs"
    _, out, _ = runner("run", folder / f"{name}.tflite", folder / picture, "--top", top)
    found = {line["class"]: line["score"] for line in json.loads(out)["top"]}
    assert found[label] > least


def test_run_prepares_a_picture_as_the_manifest_says(runner, shared_data, tmp_path):
    # Given a uint8 model whose real values are (pixel - 128) / 128, and a manifest that says so
    folder = shared_data / "coral_pairs"
    model = Path(shutil.copy(folder / "mobilenet_v2_1.0_224_quant.tflite", tmp_path))
    _, bare, _ = runner("run", model, folder / "cat.bmp")
    spec = {"kind": "image", "height": 224, "width": 224, "channels": 3, "mean": 128, "std": 128}
    manifest = {"preprocessing": spec, "data": {"task": "classification"}}
    model.with_suffix(".json").write_text(json.dumps(manifest))
    # When the same picture goes through float and back into codes, then nothing changes.
    _, prepared, _ = runner("run", model, folder / "cat.bmp")
    assert json.loads(prepared)["top"] == json.loads(bare)["top"]


def test_run_reads_labels_from_a_file_and_follows_with_the_next_picture(
    runner, shared_data, tmp_path
):
    folder = shared_data / "coral_pairs"
    copy = tmp_path / "cat.png"
    Image.open(folder / "cat.bmp").save(copy)
    _, out, _ = runner(
        "run",
        folder / "mobilenet_v2_1.0_224_quant.tflite",
        folder / "cat.bmp",
        copy,
        "--labels",
        folder / "imagenet_labels.txt",
    )
    first, second = map(json.loads, out.splitlines())
    assert first["top"] == second["top"]
    assert first["top"][0]["label"] == "Egyptian cat"

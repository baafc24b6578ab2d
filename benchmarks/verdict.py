"""What is recommended where a verdict is easily wrong: `python -m benchmarks verdict`.

Each model is trained here (`benchmarks/verdict_models.py`) or published (`quantized/`). *Keras* is
what Keras itself scores on the test split, in a process without edgekit; *float32* and *int8* are
edgekit's figures of its files, *recommended* its choice. Whether that was *right* is decided by a
bare interpreter on the same samples (of published models by their reports): the file must be within
the accepted 0.5 points (0.5 % of an RMSE, which counts as a tenth of the targets' spread at least)
of Keras, or within what as many samples can tell (two standard errors); every class must be found,
every column must keep its error. Nothing may be recommended where the order of the labels is not
the model's. Photos go through the runner, as on a user's device. F1 and ROC AUC of the bare outputs
are scikit-learn's. Two lines say what a score of boxes and of masks costs; at most 1.5. The last
line is the time of a whole run without latencies over that of one without the source's score and
fidelity; at most 1.3.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks import verdict_tasks

REPOSITORY: Final = Path(__file__).resolve().parents[1]
DATA: Final = Path(os.environ.get("EDGEKIT_DATA") or REPOSITORY.parent / "shared" / "data")
RUNNER: Final = REPOSITORY / "device_scripts/edgekit_runner.py"
MODELS: Final = (
    "rare class",
    "rare class that int8 loses",
    "two outputs",
    "outputs of uneven spread",
    "boxes and scores in one output",
    "photos, scaled in the model",
    "photos, scaling declared",
    "photos, scaling unknown",
    "photos, scaling unknowable",
    "scaled arrays, photos on the device",
    "labels in another order",
    "any number of labels",
    "anomalies of clips",
    "boxes as YOLO has them",
)
PUBLISHED: Final = {
    "fashion-mnist": "fashion-mnist",
    "spoken-digits": "spoken-digits",
    "turbofan": "turbofan",
    "bccd": "bccd",
    "nuclei": "nuclei",
}
NEEDS: Final = {"boxes as YOLO has them": verdict_tasks.DETECTOR}
TIMED: Final = ("bccd", "nuclei")
PHOTOS: Final = 30
ACCEPTED: Final = 0.005
HEADS: Final = (
    "model",
    "metric",
    "Keras",
    "float32",
    "int8",
    "recommended",
    "photos right",
    "right",
)


def measure() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            if name in NEEDS and not (NEEDS[name].exists() and DATA.exists()):
                print(f"{name}: {NEEDS[name]} or its data is not here, left out", file=sys.stderr)
                continue
            folder = Path(scratch) / str(len(rows))
            folder.mkdir()
            _run("-m", "benchmarks.verdict_models", name, str(folder), cwd=REPOSITORY)
            truth = json.loads((folder / "truth.json").read_text())
            rows.append(_judged(name, folder, truth))
            print(rows[-1], file=sys.stderr, flush=True)
        for name, data in PUBLISHED.items():
            if (REPOSITORY / "models" / name / f"{name}.keras").exists() and DATA.exists():
                rows.append(_published(name, data, Path(scratch)))
    for name in TIMED:
        if (REPOSITORY / "quantized" / name / "int8.tflite").exists() and DATA.exists():
            what = f"{name}: time of a score with its interval, over that of a bare loop"
            rows.append({**dict.fromkeys(HEADS, ""), "model": what, "right": scoring_cost(name)})
    if DATA.exists():
        what = "cost of the source's score and fidelity, against a run without"
        rows.append({**dict.fromkeys(HEADS, ""), "model": what, "right": overhead()})
    return rows


def _published(name: str, data: str, scratch: Path) -> dict[str, Any]:
    folder = scratch / name
    folder.mkdir()
    source = REPOSITORY / "models" / name / f"{name}.keras"
    (folder / "model.keras").symlink_to(source)
    if source.with_suffix(".head.toml").exists():
        (folder / "model.head.toml").symlink_to(source.with_suffix(".head.toml"))
    report = _quantize(folder, data, ())
    source, float32, int8 = (_score(report, v) for v in ("source", "float32", "int8"))
    chosen = next((row for row in report["rows"] if row["recommended"]), None)
    kept = chosen is not None and (
        chosen["variant"] == "float32" or chosen["drop"] <= chosen["drop_allowed"]
    )
    return {
        "model": name,
        "metric": report["rows"][0]["score"]["metric"],
        "Keras": source,
        "float32": float32,
        "int8": int8,
        "recommended": chosen["variant"] if chosen else "none",
        "photos right": "",
        "right": "yes" if kept and source == float32 else "NO",
    }


def _judged(name: str, folder: Path, truth: Mapping[str, Any]) -> dict[str, Any]:
    output = ("--score-output", truth["output"]) if "output" in truth else ()
    if truth.get("asks"):
        asked = _exit_code("quantize", "model.keras", "--data", truth["data"], cwd=folder) == 4
        return {
            **dict.fromkeys(HEADS, "-"),
            "model": name,
            "Keras": round(truth["score"], 4),
            "recommended": "asks what to declare" if asked else "does not ask",
            "right": "yes" if asked else "NO",
        }
    report = _quantize(folder, truth["data"], output)
    chosen = next((row for row in report["rows"] if row["recommended"]), None)
    photos = _photos_right(folder, chosen, truth) if "photos" in truth and chosen else None
    return {
        "model": name,
        "metric": truth["metric"],
        "Keras": round(truth["score"], 4),
        "float32": _score(report, "float32"),
        "int8": _score(report, "int8"),
        "recommended": chosen["variant"] if chosen else "none",
        "photos right": "" if photos is None else f"{photos} of {PHOTOS}",
        "right": "yes" if _is_right(folder, chosen, truth, photos) else "NO",
    }


def _quantize(folder: Path, data: str, more: tuple[str, ...]) -> dict[str, Any]:
    _run("-m", "edgekit", "quantize", "model.keras", "--data", data, "-o", "out", *more, cwd=folder)
    return json.loads((folder / "out/report.json").read_text())  # type: ignore[no-any-return]  # JSON


def _score(report: Mapping[str, Any], variant: str) -> float | str:
    score = next((row["score"] for row in report["rows"] if row["variant"] == variant), None)
    return round(score["value"], 4) if score else "-"


def _is_right(
    folder: Path,
    chosen: Mapping[str, Any] | None,
    truth: Mapping[str, Any],
    photos: int | None,
) -> bool:
    if truth.get("refused") or chosen is None:
        return chosen is None and bool(truth.get("refused"))
    if photos is not None:
        return photos >= truth["score"] * PHOTOS - 1
    outputs, targets = _outputs(folder, Path(chosen["path"]), truth)
    if truth["metric"] in verdict_tasks.SCORES:
        with np.load(folder / "data.npz") as arrays:
            bare = verdict_tasks.SCORES[truth["metric"]](outputs, arrays, folder)
        return bool(truth["score"] - bare <= _allowed(len(targets)))
    if truth["metric"] == "rmse":
        errors = np.sqrt(np.mean((outputs - targets) ** 2, axis=0))
        scale = np.maximum(truth["columns"], 0.1 * np.array(truth["spread"]))
        return bool(np.all(errors - truth["columns"] <= _allowed(len(targets)) * scale))
    flat = outputs.reshape(len(outputs), -1)
    predicted = flat.argmax(1) if flat.shape[1] > 1 else (flat[:, 0] > 0.5).astype(np.int64)
    if truth["metric"] == "accuracy":
        return bool(truth["score"] - np.mean(predicted == targets) <= _allowed(len(targets)))
    recalls = [np.mean(predicted[targets == one] == one) for one in np.unique(targets)]
    rarest = min(np.bincount(targets))
    return bool(min(recalls) > 0 and truth["score"] - np.mean(recalls) <= _allowed(rarest))


def _allowed(n: int) -> float:
    """The accepted loss, or two standard errors of a share of one half where these are more."""
    return max(ACCEPTED, 1 / n**0.5)


def _outputs(folder: Path, path: Path, truth: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    arrays = np.load(folder / "data.npz")
    interpreter = Interpreter(model_path=str(folder / path), num_threads=1)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]
    details = interpreter.get_signature_runner().get_output_details()
    out = details[truth.get("output", next(iter(details)))]
    found = []
    for sample in arrays["x_test"]:
        interpreter.set_tensor(into["index"], _encoded(sample[None], into))
        interpreter.invoke()
        found.append(_decoded(interpreter.get_tensor(out["index"])[0], out))
    return np.stack(found), arrays["y_test"]


def _encoded(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return values.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    codes = np.rint(values / scale) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(detail["dtype"])


def _decoded(codes: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    return (codes.astype(np.float32) - zero_point) * scale if scale else codes.copy()


def _photos_right(folder: Path, chosen: Mapping[str, Any], truth: Mapping[str, Any]) -> int:
    files = sorted((folder / truth["photos"]).glob("*/*.png"))
    files = files[:: max(1, len(files) // PHOTOS)][:PHOTOS]
    command = (str(RUNNER), "run", chosen["path"], *map(str, files))
    lines = [json.loads(line) for line in _run(*command, cwd=folder).splitlines()]
    return sum(
        line["top"][0]["label"] == Path(line["source"]).parent.name
        for line in lines
        if "top" in line
    )


def _exit_code(*words: str, cwd: Path) -> int:
    command = [sys.executable, "-m", "edgekit", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False).returncode


def _run(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)} in {cwd}:\n{done.stderr[-2000:]}")
    return done.stdout


def overhead(repetitions: int = 3) -> str:
    """What the source's score and the fidelity of all outputs cost a run without latencies.

    Returns:
        The median ratio of a whole run to one without the two, of runs that take turns, on the
        published Fashion-MNIST model with its 10,000 test samples.
    """
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(repetitions):
            seconds = {}
            for plain in ("", "plain"):
                folder = str(Path(scratch) / f"{turn}{plain}")
                begun = time.perf_counter()
                _run("-m", "benchmarks.verdict", folder, plain, cwd=REPOSITORY)
                seconds[plain] = time.perf_counter() - begun
            ratios.append(seconds[""] / seconds["plain"])
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def scoring_cost(name: str, repetitions: int = 5) -> str:
    """What a score of a published int8 file costs, over a bare loop on the same samples.

    Returns:
        The median ratio of edgekit's time for outputs, score and interval, on one core, to the time
        of set_tensor, invoke and get_tensor on samples that are quantized already. At most 1.5.
    """
    from ai_edge_litert.interpreter import Interpreter

    from edgekit import data, evaluation, tflite
    from edgekit.data.heads import head_beside
    from edgekit.training import load_config

    path = REPOSITORY / "quantized" / name / "int8.tflite"
    inputs, outputs = tflite.signature(tflite.read(path))
    config = load_config(REPOSITORY / "models" / name / "model.toml")
    opened = data.open_data(config.data, preprocessing=config.preprocessing)
    beside = head_beside(REPOSITORY / "models" / name / f"{name}.keras")
    inputs = [replace(one, dtype="float32", scale=None, zero_point=None) for one in inputs]
    bound = data.bind(replace(opened, head=beside and beside[0]), inputs, outputs)
    test = data.split_of(bound, "test")
    batch = test.read(np.arange(test.n))
    held = replace(test, read=lambda rows: _rows(batch, rows))
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]
    read = [detail["index"] for detail in interpreter.get_output_details()]
    stored = [_encoded(sample[None], into) for sample in next(iter(batch.inputs.values()))]
    ratios = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        for sample in stored:
            interpreter.set_tensor(into["index"], sample)
            interpreter.invoke()
            for index in read:
                interpreter.get_tensor(index)
        bare = time.perf_counter() - begun
        begun = time.perf_counter()
        evaluation.evaluate(path, replace(bound, test=held), processes=1)
        ratios.append((time.perf_counter() - begun) / bare)
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def _rows(batch: Any, rows: np.ndarray) -> Any:
    return replace(
        batch,
        inputs={name: values[rows] for name, values in batch.inputs.items()},
        targets=batch.targets[rows],
    )


def main() -> None:
    """Quantize the published Fashion-MNIST model: `FOLDER [plain]`, plain without the checks."""
    import edgekit

    if sys.argv[2:] == ["plain"]:
        pipeline = importlib.import_module("edgekit.pipeline.quantize")  # not the function
        vars(pipeline)["with_source_score"] = lambda imported, *_: imported
        vars(importlib.import_module("edgekit.evaluation.fidelity"))["COMPARED_SAMPLES"] = 1
    model = REPOSITORY / "models/fashion-mnist/fashion-mnist.keras"
    edgekit.quantize(model, data="fashion-mnist", output=sys.argv[1], latency=False)


if __name__ == "__main__":
    main()

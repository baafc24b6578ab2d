"""Pruning, shrinking, clustering and quantization-aware training on the published models.

Each line is a recipe run by `edgekit compress` from the published weights, with default options
except `--distill`, a third of the learning rate that the model was trained with (qat has its own
rates), and those named in the line. Scores are of the test split, the loss is paired against the
float32 file, sizes are of the file named, deflated sizes what a download costs. Latencies are
measured by the runner, float32 and result alternately, without concurrent training. Lines of tfmot:
tensorflow-model-optimization with tf_keras, the same weights, samples, epochs and learning rates,
and the stock converter. "Everything together" is `quantized/<name>-small`, made by `make models`.

Training takes an hour; its files remain in `out/compression`, and existing ones are not made again.
To train several models in parallel, make their files beforehand:

python -m benchmarks.compression MODEL...
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import tfmot_peer

import edgekit
from edgekit.data import open_data, training_split
from edgekit.recipe import Recipe, default_plan, pass_step
from edgekit.records import Row
from edgekit.training.finetuning import STEPS

MODELS = ("fashion-mnist", "spoken-digits", "turbofan")
KEPT = Path("out/compression")
HEADS = (
    "model",
    "what",
    "score",
    "drop, 95 % interval",
    "size, kB",
    "deflated, kB",
    "MACs, M",
    "latency, ms",
    "asked",
)


@dataclass(frozen=True)
class Task:
    """One line of the table.

    Attributes:
        name: Text of the line.
        step: The pass.
        options: Its options.
        mode: Mode of the quantize step.
        longer: Epochs, as a multiple of the default.
        rate: Share of the learning rate that the model was trained at; qat has rates of its own.
        bound: Required result, in words.
        peer: The corresponding task of `tfmot_peer`, if there is one.
        peer_rate: Learning rate of the peer, if that of edgekit makes it diverge.
    """

    name: str
    step: str
    options: dict[str, Any] = field(default_factory=dict)
    mode: str = "float32"
    longer: int = 1
    rate: float = 1 / 3  # pretrained weights need smaller steps
    bound: str = ""
    peer: str = ""
    peer_rate: float | None = None

    @property
    def file(self) -> str:
        """Return the name of the stored file."""
        return f"{'-'.join(re.findall('[a-z0-9]+', self.name))}.tflite"


TASKS = (
    Task("prune 50 %", "prune", {"sparsity": 0.5}, bound="drop <= 0.3", peer="prune-50"),
    Task(
        "prune 80 % of each layer, twice the epochs, thrice the rate",
        "prune",
        {"sparsity": 0.8, "scope": "layer"},
        longer=2,
        rate=1,
        bound="drop <= 1",
        peer="prune-80",
    ),
    Task("prune 2:4", "prune", {"pattern": "2:4"}, bound="drop <= 0.5", peer="prune-2:4"),
    Task(
        "shrink half of the MACs, by bn_scale",
        "shrink",
        {"share": 0.5, "importance": "bn_scale"},
        bound="drop <= 1, 1.5x faster",
    ),
    Task("cluster 16", "cluster", {"clusters": 16}, bound="drop <= 0.5", peer="cluster-16"),
    # With the rate of the others the peer's ranges and weights diverge on a regression.
    Task(
        "qat int8",
        "qat",
        mode="int8",
        bound="drop within its interval",
        peer="qat-int8",
        peer_rate=2e-5,
    ),
    Task("qat int4 weights", "qat", {"bits": 4}, mode="int8", bound="drop <= 0.7"),
)


def measure() -> list[dict[str, str]]:
    """Make missing files, then score and time all of them, model by model."""
    for model in MODELS:
        make(model)
    return [line for model in MODELS for line in _lines(model)]


def make(model: str) -> None:
    """Train models whose files are missing."""
    for task in TASKS:
        _once(KEPT / model / task.file, lambda made, task=task: _ours(model, task, made))
    for task in TASKS:
        if task.peer:
            place = KEPT / model / "tfmot" / task.file
            _once(place.with_suffix(".json"), lambda made, task=task: _theirs(model, task, made))


def _once(place: Path, make: Any) -> None:
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        make(place)
        print(f"made {place}", flush=True)


def _ours(model: str, task: Task, place: Path) -> None:
    """Run a recipe from the published weights, and store its final file."""
    options = {"distill": True, "epochs": task.longer * _epochs(model), **task.options}
    if task.step != "qat":
        options["learning_rate"] = _learning_rate(model, task)
    step = pass_step({"kind": task.step, **options}, task.name)
    recipe = Recipe(name="result", plan=default_plan(task.mode), passes=(step,))
    with tempfile.TemporaryDirectory() as folder:
        report = edgekit.compress(
            f"models/{model}/{model}.keras",
            recipe,
            data=_source(model),
            output=Path(folder) / "made",
            latency=False,
        )
        shutil.move(report.rows[-1].artifact.path, place)


def _theirs(model: str, task: Task, place: Path) -> None:
    """Run tfmot with the same weights, samples and steps; store a `.json` and its file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = tfmot_peer.compress(
            model,
            folder,
            epochs=task.longer * _epochs(model),
            learning_rate=task.peer_rate or _learning_rate(model, task),
            tasks=(task.peer,),
        )
        if made is None:
            return
        told = made[task.peer]
        if told["file"]:
            shutil.move(folder / told["file"], place.with_suffix(".tflite"))
        place.write_text(json.dumps(told, indent=2) + "\n")


@cache
def _config(model: str) -> dict[str, Any]:
    return tomllib.loads(Path(f"models/{model}/model.toml").read_text(encoding="utf-8"))


def _source(model: str) -> str:
    source: str = _config(model)["data"]["source"]
    return source


def _learning_rate(model: str, task: Task) -> float:
    return task.rate * float(_config(model)["training"]["learning_rate"])


@cache
def _epochs(model: str) -> int:
    """Return the default number of epochs."""
    training, _ = training_split(open_data(_source(model)))
    return max(3, math.ceil(STEPS / math.ceil(training.n / 64)))


def _lines(model: str) -> Iterator[dict[str, str]]:
    """Return the table's lines for a model."""
    whole = Path(f"quantized/{model}-small/small.tflite")
    found = [(task.name, KEPT / model / task.file, task.bound) for task in TASKS]
    found.append(("everything together", whole, "drop <= 1, 12x smaller deflated"))
    for task in TASKS:
        told = (KEPT / model / "tfmot" / task.file).with_suffix(".json")
        if task.peer and told.exists():
            facts = json.loads(told.read_text())
            left = ", ".join(facts.get("left_out") or ())
            note = f"left out: {left}" if left else facts.get("failed", "")
            found.append((f"tfmot: {task.name}", told.with_suffix(".tflite"), note))
    float32 = Path(f"quantized/{model}/float32.tflite")
    there = [path for _, path, _ in found if path.exists()]
    first, *others = edgekit.evaluate([float32, *there], _source(model)).rows
    scored = dict(zip(there, others, strict=True))
    for name, path, note in found:
        if path not in scored:
            yield {**dict.fromkeys(HEADS, ""), "model": model, "what": name, "asked": note}
            continue
        timings = [row.timing for row in edgekit.bench([float32, path]).rows]
        before, after = (
            dataclasses.replace(row, timing=timing)
            for row, timing in zip((first, scored[path]), timings, strict=True)
        )
        line = row_of(model, name, before, after, note)
        print(line, flush=True)
        yield line


def row_of(model: str, name: str, before: Row, after: Row, bound: str) -> dict[str, str]:
    """Return the line that compares a file with the float32 one."""
    assert before.score
    assert after.score
    assert after.drop
    assert before.timing
    assert after.timing
    percent = before.score.metric == "accuracy"
    unit = 100 if percent else 1
    low, high = (unit * end for end in after.drop.ci95)
    files = before.artifact, after.artifact
    cells = (
        model,
        name,
        f"{unit * after.score.value:.2f}{' %' if percent else ''}",
        f"{unit * after.drop.value:+.2f} ({low:+.2f} to {high:+.2f})",
        _change(*(file.size_bytes for file in files), 1e3),
        _change(*(file.size_deflated_bytes for file in files), 1e3),
        " -> ".join(f"{edgekit.inspect(file.path).macs / 1e6:.2f}" for file in files),
        _change(before.timing.p50_ms, after.timing.p50_ms, 1, digits=3),
        bound,
    )
    return dict(zip(HEADS, cells, strict=True))


def _change(before: float, after: float, unit: float, digits: int = 1) -> str:
    return f"{before / unit:.{digits}f} -> {after / unit:.{digits}f} ({before / after:.2f}x)"


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        make(chosen)

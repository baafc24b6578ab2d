"""Pruning, shrinking, clustering and quantization-aware training on the published models.

Each line is a recipe run by `edgekit compress` from the published weights, with default options
except `--distill`, a third of the learning rate that the model was trained with (qat has its own
rates), and those named in the line. Scores are of the test split, the loss is paired against the
float32 file, sizes are of the file named, deflated sizes what a download costs. Latencies are
measured by the runner, float32 and result alternately, without concurrent training. Lines of tfmot:
tensorflow-model-optimization with tf_keras, the same weights, samples, epochs and learning rates,
and the stock converter. "Everything together" is `quantized/<name>-small`, made by `make models`,
"post-training int8" `quantized/<name>/int8.tflite`.

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
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Subject:
    """A model to compress.

    Attributes:
        name: Name in the table, and of the folder of its files.
        model: The trained model.
        data: What it is fine-tuned and scored on.
        made: Folder of its float32 and int8 files.
        learning_rate: Learning rate that it was trained with.
        epochs: Epochs of fine-tuning.
    """

    name: str
    model: Path
    data: str
    made: Path
    learning_rate: float
    epochs: int


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
    return [line for model in MODELS for line in _published_lines(model)]


def make(model: str) -> None:
    """Train published models whose files are missing."""
    subject = _published(model)
    compress(subject, TASKS)
    for task in TASKS:
        if task.peer:
            place = KEPT / model / "tfmot" / task.file
            _once(place.with_suffix(".json"), lambda made, task=task: _theirs(subject, task, made))


def compress(subject: Subject, tasks: Sequence[Task]) -> None:
    """Make the files of a model that are missing."""
    for task in tasks:
        _once(KEPT / subject.name / task.file, lambda made, task=task: _ours(subject, task, made))


def _once(place: Path, make: Any) -> None:
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        make(place)
        print(f"made {place}", flush=True)


def _ours(subject: Subject, task: Task, place: Path) -> None:
    """Run a recipe from the trained weights, and store its final file."""
    options = {"distill": True, "epochs": task.longer * subject.epochs, **task.options}
    if task.step != "qat":
        options["learning_rate"] = task.rate * subject.learning_rate
    step = pass_step({"kind": task.step, **options}, task.name)
    recipe = Recipe(name="result", plan=default_plan(task.mode), passes=(step,))
    with tempfile.TemporaryDirectory() as folder:
        report = edgekit.compress(
            subject.model,
            recipe,
            data=subject.data,
            output=Path(folder) / "made",
            latency=False,
        )
        shutil.move(report.rows[-1].artifact.path, place)


def _theirs(subject: Subject, task: Task, place: Path) -> None:
    """Run tfmot with the same weights, samples and steps; store a `.json` and its file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = tfmot_peer.compress(
            subject.name,
            folder,
            epochs=task.longer * subject.epochs,
            learning_rate=task.peer_rate or task.rate * subject.learning_rate,
            tasks=(task.peer,),
        )
        if made is None:
            return
        told = made[task.peer]
        if told["file"]:
            shutil.move(folder / told["file"], place.with_suffix(".tflite"))
        place.write_text(json.dumps(told, indent=2) + "\n")


@cache
def _published(model: str) -> Subject:
    config = tomllib.loads(Path(f"models/{model}/model.toml").read_text(encoding="utf-8"))
    source: str = config["data"]["source"]
    training, _ = training_split(open_data(source))
    return Subject(
        name=model,
        model=Path(f"models/{model}/{model}.keras"),
        data=source,
        made=Path(f"quantized/{model}"),
        learning_rate=float(config["training"]["learning_rate"]),
        epochs=max(3, math.ceil(STEPS / math.ceil(training.n / 64))),
    )


def _published_lines(model: str) -> Iterator[dict[str, str]]:
    whole = Path(f"quantized/{model}-small/small.tflite")
    others = [("everything together", whole, "drop <= 1, 12x smaller deflated")]
    for task in TASKS:
        told = (KEPT / model / "tfmot" / task.file).with_suffix(".json")
        if task.peer and told.exists():
            facts = json.loads(told.read_text())
            left = ", ".join(facts.get("left_out") or ())
            note = f"left out: {left}" if left else facts.get("failed", "")
            others.append((f"tfmot: {task.name}", told.with_suffix(".tflite"), note))
    return lines(_published(model), TASKS, others)


def lines(
    subject: Subject, tasks: Sequence[Task], others: Sequence[tuple[str, Path, str]] = ()
) -> Iterator[dict[str, str]]:
    """Yield the table's lines for a model.

    Args:
        subject: The model.
        tasks: What was done to it.
        others: Further files: text of the line, file, and what is asked of it.
    """
    found = [
        ("post-training int8", subject.made / "int8.tflite", ""),
        *((task.name, KEPT / subject.name / task.file, task.bound) for task in tasks),
        *others,
    ]
    float32 = subject.made / "float32.tflite"
    there = [path for _, path, _ in found if path.exists()]
    first, *rows = edgekit.evaluate([float32, *there], subject.data).rows
    scored = dict(zip(there, rows, strict=True))
    for name, path, note in found:
        if path not in scored:
            yield {**dict.fromkeys(HEADS, ""), "model": subject.name, "what": name, "asked": note}
            continue
        timings = [row.timing for row in edgekit.bench([float32, path]).rows]
        before, after = (
            dataclasses.replace(row, timing=timing)
            for row, timing in zip((first, scored[path]), timings, strict=True)
        )
        line = row_of(subject.name, name, before, after, note)
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

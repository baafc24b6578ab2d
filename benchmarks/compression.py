"""Pruning, shrinking, clustering and quantization-aware training on the published models.

Each line is a recipe run by `edgekit compress` from the published weights, with the options of the
command line left alone but for `--distill` (and `--importance bn_scale`). Scores are of the test
split, the loss is paired against the float32 file, sizes are of the file named, deflated sizes what
a download costs, latencies of the runner, float32 and result in the same run.
Lines of tfmot: tensorflow-model-optimization with tf_keras, the same weights, samples, epochs and
learning rates, and the stock converter. "Everything together" is `quantized/<name>-small`, made by
`make models`.
"""

from __future__ import annotations

import math
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import tfmot_peer

import edgekit
from edgekit.data import open_data, training_split
from edgekit.recipe import default_plan
from edgekit.records import Mode, PassStep, Recipe, Report
from edgekit.reports import read_reports
from edgekit.training.finetuning import STEPS

MODELS = ("fashion-mnist", "spoken-digits", "turbofan")


@dataclass(frozen=True)
class Task:
    """One line of the table.

    Attributes:
        name: What it says.
        step: The pass.
        options: Its options.
        mode: What the last step makes.
        bound: What is asked of it, in words.
    """

    name: str
    step: str
    options: dict[str, Any] = field(default_factory=dict)
    mode: Mode = "float32"
    bound: str = ""


TASKS = (
    Task("prune 50 %", "prune", {"sparsity": 0.5}, bound="drop <= 0.3"),
    Task("prune 80 %", "prune", {"sparsity": 0.8}, bound="drop <= 1"),
    Task("prune 2:4", "prune", {"pattern": "2:4"}, bound="drop <= 0.5"),
    Task(
        "shrink: half of the MACs",
        "shrink",
        {"share": 0.5, "importance": "bn_scale"},
        bound="drop <= 1, 1.5x faster",
    ),
    Task("cluster 16", "cluster", {"clusters": 16}, bound="drop <= 0.5"),
    Task("qat int8", "qat", mode="int8", bound="drop within its interval"),
    Task("qat int4 weights", "qat", {"bits": 4}, mode="int8", bound="drop <= 0.7"),
)


def measure(models: tuple[str, ...] = MODELS) -> list[dict[str, str]]:
    lines = []
    for model in models:
        for task in TASKS:
            report = _compressed(model, task)
            lines.append(row_of(model, task.name, report, task.bound))
            print(lines[-1], flush=True)
        published = Path(f"quantized/{model}-small/report.json")
        bound = "drop <= 1, 12x smaller deflated"
        lines.append(row_of(model, "everything together", read_reports([published]), bound))
        lines += _peer(model)
    return lines


def _peer(model: str) -> list[dict[str, str]]:
    """What tfmot does with the same weights, samples, steps and learning rate."""
    config = tomllib.loads(Path(f"models/{model}/model.toml").read_text(encoding="utf-8"))
    source = config["data"]["source"]
    training, _ = training_split(open_data(source))
    epochs = max(3, math.ceil(STEPS / math.ceil(training.n / 64)))
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = tfmot_peer.compress(model, folder, epochs=epochs, tasks=tfmot_peer.TASKS[:-1]) or {}
        # At the rate of the others its ranges and weights run away on a regression.
        made |= (
            tfmot_peer.compress(
                model, folder, epochs=epochs, learning_rate=2e-5, tasks=tfmot_peer.TASKS[-1:]
            )
            or {}
        )
        for task, told in made.items():
            if not told.get("file"):
                print(f"tfmot, {model}, {task}: {told}", flush=True)
                continue
            files = [folder / "float32.tflite", folder / told["file"]]
            report = edgekit.evaluate(files, source)
            left = f"left out: {', '.join(told['left_out'])}" if told.get("left_out") else ""
            lines.append(row_of(model, f"tfmot: {task}", report, left))
            print(lines[-1], flush=True)
    return lines


def _compressed(model: str, task: Task) -> Report:
    """The report of one recipe, from the published weights."""
    config = tomllib.loads(Path(f"models/{model}/model.toml").read_text(encoding="utf-8"))
    options = {"distill": True, **task.options}
    recipe = Recipe(
        name="result",
        plan=default_plan(task.mode),
        passes=(PassStep(kind=task.step, options=options),),
    )
    with tempfile.TemporaryDirectory() as folder:
        return edgekit.compress(
            f"models/{model}/{model}.keras",
            recipe,
            data=config["data"]["source"],
            output=Path(folder) / "made",
            max_drop=1.0,
        )


def row_of(model: str, name: str, report: Report, bound: str) -> dict[str, str]:
    """One line: what the last row of a report has become of the first."""
    before, after = report.rows[0], report.rows[-1]
    assert before.score
    assert after.score
    assert after.drop
    assert before.inspection
    assert after.inspection
    percent = before.score.metric == "accuracy"
    unit = 100 if percent else 1
    low, high = (unit * end for end in after.drop.ci95)
    return {
        "model": model,
        "what": name,
        "score": f"{unit * after.score.value:.2f}{' %' if percent else ''}",
        "drop, 95 % interval": f"{unit * after.drop.value:+.2f} ({low:+.2f} to {high:+.2f})",
        "size, kB": _change(before.artifact.size_bytes, after.artifact.size_bytes, 1e3),
        "deflated, kB": _change(
            before.artifact.size_deflated_bytes, after.artifact.size_deflated_bytes, 1e3
        ),
        "MACs, M": f"{before.inspection.macs / 1e6:.2f} -> {after.inspection.macs / 1e6:.2f}",
        "latency, ms": _change(before.timing.p50_ms, after.timing.p50_ms, 1, digits=3)
        if before.timing and after.timing
        else "",
        "asked": bound,
    }


def _change(before: float, after: float, unit: float, digits: int = 1) -> str:
    return f"{before / unit:.{digits}f} -> {after / unit:.{digits}f} ({before / after:.2f}x)"

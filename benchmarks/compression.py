"""Pruning, shrinking, clustering and quantization-aware training on the published models.

Each line is a recipe run by `edgekit compress` from the published weights. Scores are of the test
split, the loss is paired against the float32 file, sizes are of the file named, deflated sizes what
a download costs, latencies of the runner, float32 and result in the same run. The learning rates
were chosen on the validation samples.
"""

from __future__ import annotations

import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edgekit
from edgekit.recipe import default_plan, load_recipe
from edgekit.records import PassStep, Recipe, Row

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
    mode: str = "float32"
    bound: str = ""


TASKS = (
    Task("prune 50 %", "prune", {"sparsity": 0.5}, bound="drop <= 0.3"),
    Task("prune 80 %", "prune", {"sparsity": 0.8}, bound="drop <= 1"),
    Task("prune 2:4", "prune", {"pattern": "2:4"}, bound="drop <= 0.5"),
    Task(
        "shrink: half of the MACs",
        "shrink",
        {"share": 0.5, "importance": "bn_scale", "distill": True},
        bound="drop <= 1, 1.5x faster",
    ),
    Task("cluster 16", "cluster", {"clusters": 16}, bound="drop <= 0.5"),
    Task("qat int8", "qat", mode="int8", bound="drop within its interval"),
    Task("qat int4 weights", "qat", {"bits": 4}, mode="int8", bound="drop <= 0.7"),
)


def measure(models: tuple[str, ...] = MODELS) -> list[dict[str, str]]:
    lines = []
    for model in models:
        recipes = {
            task.name: (
                Recipe(
                    name="result",
                    plan=default_plan(task.mode),  # type: ignore[arg-type]
                    passes=(PassStep(kind=task.step, options=task.options),),
                ),
                task.bound,
            )
            for task in TASKS
        }
        together = load_recipe(Path(f"models/{model}/small.toml"))
        recipes["everything together"] = (together, "drop <= 1, 12x smaller deflated")
        for name, (recipe, bound) in recipes.items():
            lines.append(_line(model, name, recipe, bound))
            print(lines[-1], flush=True)
    return lines


def _line(model: str, name: str, recipe: Recipe, bound: str) -> dict[str, str]:
    config = tomllib.loads(Path(f"models/{model}/model.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        report = edgekit.compress(
            f"models/{model}/{model}.keras",
            recipe,
            data=config["data"]["source"],
            output=Path(folder) / "made",
            max_drop=1.0,
        )
    return row_of(model, name, report.rows[0], report.rows[-1], bound)


def row_of(model: str, name: str, before: Row, after: Row, bound: str) -> dict[str, str]:
    """One line: what the last row of a report has become of the first."""
    assert before.score
    assert before.timing
    assert before.inspection
    assert after.score
    assert after.drop
    assert after.timing
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
        "latency, ms": _change(before.timing.p50_ms, after.timing.p50_ms, 1, digits=3),
        "asked": bound,
    }


def _change(before: float, after: float, unit: float, digits: int = 1) -> str:
    return f"{before / unit:.{digits}f} -> {after / unit:.{digits}f} ({before / after:.2f}x)"

"""Names of modes, metrics, tasks and steps stand in their homes only.

A name that is spelled out elsewhere is a place that the next mode or metric must be added to.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.evaluation.metrics import METRICS
from edgekit.evaluation.tasks import TASKS
from edgekit.modes import MODES
from edgekit.recipe.steps import PASSES

PACKAGE = Path(__file__).resolve().parents[1] / "toolkit" / "edgekit"
# What is also the name of a type of numbers says nothing about a mode.
DTYPES = {"float32", "float16", "int8", "int4"}
NAMES = {*METRICS, *(set(TASKS) - {"none"}), *(set(MODES) - DTYPES), *PASSES}
HOMES = ("modes.py", "evaluation/metrics/", "evaluation/tasks/", "recipe/steps.py")
# Verbs of the command line and of Python, and Keras's own names.
VERBS = {"__init__.py", "api/__init__.py", "cli/commands.py", "training/shrinking/__init__.py"}
OTHERS = {
    ("training/losses.py", "accuracy"): "Keras's name of its metric",
    ("training/losses.py", "mae"): "Keras's name of its metric",
    ("training/objective.py", "mae"): "a loss",
    ("training/config.py", "mae"): "a loss",
    **{
        (place, name): "a field of `ClassScore` or of `PrecisionRecall`"
        for place in (
            "reports/formatting.py",
            "reports/terminal_table.py",
            "schema/from_json.py",
            "schema/to_json.py",
            "schema/views_json.py",
        )
        for name in ("recall", "precision")
    },
    ("reports/view_charts.py", "recall"): "the title of an axis",
    ("reports/view_charts.py", "precision"): "the title of an axis",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def texts(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Texts of a module that are neither docstrings nor parts of longer texts, and their lines."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_names_stand_in_their_homes(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    if place.startswith(HOMES) or place in VERBS:
        return

    strangers = [
        f"{place}:{line} spells out {text!r}"
        for text, line in texts(ast.parse(path.read_text(encoding="utf-8")))
        if text in NAMES and (place, text) not in OTHERS
    ]

    assert strangers == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modes_are_compared_by_their_home(path: Path) -> None:
    spelled = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and isinstance(node.left, ast.Attribute)
        and node.left.attr in {"mode", "metric", "task"}
        and any(
            isinstance(constant, ast.Constant) and isinstance(constant.value, str)
            for side in node.comparators
            for constant in ast.walk(side)
        )
    ]

    assert spelled == []


def test_the_check_sees_a_name_spelled_out() -> None:
    tree = ast.parse('"""accuracy"""\nif metric == "rmse":\n    word = "an rmse"\n')

    assert [text for text, _ in texts(tree) if text in NAMES] == ["rmse"]

"""The list of targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.targets import TARGETS, fit
from edgekit.tflite import read
from edgekit.tflite.nodes import nodes


def test_every_target_answers_for_every_operator(golden: Path) -> None:
    for path in sorted((golden / "inspect").glob("*.tflite")):
        operators = nodes(read(path))

        for name in TARGETS:
            answers = fit(name, operators)

            assert sorted(answers) == [node.index for node in operators]


def test_a_cpu_runs_everything(golden: Path) -> None:
    operators = nodes(read(golden / "inspect" / "loop_float32.tflite"))

    assert all(answer.mapped for answer in fit("cpu", operators).values())


def test_a_prediction_is_called_one() -> None:
    for target in TARGETS.values():
        assert target.predicted == ("predicted" in target.title)


def test_an_unknown_target_names_its_neighbour_or_all() -> None:
    with pytest.raises(UsageError, match="Did you mean 'coral'"):
        fit("Coral", [])
    with pytest.raises(UsageError, match="Targets: cpu, coral"):
        fit("zzz", [])

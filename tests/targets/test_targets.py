"""The list of targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.archives import parse_size
from edgekit.choices import TARGET_TITLES
from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.targets import TARGETS, Target, fit, target
from edgekit.targets.node import Node
from edgekit.targets.target import split_name
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
    for name, title in TARGET_TITLES.items():
        assert TARGETS[name].predicted == ("predicted" in title)


def test_an_unknown_target_names_its_neighbour_or_all() -> None:
    with pytest.raises(UsageError, match="Did you mean 'coral'"):
        fit("Coral", [])
    with pytest.raises(UsageError, match=f"Targets: {', '.join(TARGET_TITLES)}"):
        fit("zzz", [])


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target whose answer depends on its configuration."""
    takes_all = 256 << 10
    answer = Target(
        predicted=True,
        fit=lambda nodes, settings: {
            node.index: TargetFit(mapped=settings.get("ram", 0) >= takes_all) for node in nodes
        },
        settings={"ram": parse_size, "flash": parse_size},
    )
    monkeypatch.setitem(TARGETS, "micro", answer)


def test_a_configuration_reaches_the_target(micro: None, golden: Path) -> None:
    operators = nodes(read(golden / "inspect" / "speech_int8.tflite"))

    assert target("micro:ram=256k,flash=1M").settings == {"ram": 256 << 10, "flash": 1 << 20}
    assert all(answer.mapped for answer in fit("micro:ram=256k", operators).values())
    assert not any(answer.mapped for answer in fit("micro", operators).values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("coral:ram=1M", "coral has no setting 'ram'"),
        ("cpu:cores=4", "It has none: write just cpu"),
        ("micro:rom=1M", "Its settings: ram, flash"),
        ("micro:ram=lots", "does not take ram = 'lots'"),
        ("micro:ram", "is no key=value"),
        ("micro:", "is no key=value"),
        ("micro:ram=", "is no key=value"),
        ("micro:=1M", "is no key=value"),
        ("micro:ram=1M,", "is no key=value"),
        ("micro:ram=1M,ram=2M", "names a setting twice"),
        (":ram=1M", "There is no target ''"),
    ],
)
def test_a_configuration_that_a_target_does_not_know_is_refused(
    micro: None, text: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        target(text)


def test_the_hints_work_when_followed(micro: None) -> None:
    # given the hint for a malformed configuration, with real words in it
    assert split_name("micro:ram=1M,flash=2M") == ("micro", {"ram": "1M", "flash": "2M"})
    assert target("micro").settings == {}


def test_a_board_with_an_operating_system_runs_everything_or_says_why_it_is_slow(
    golden: Path,
) -> None:
    operators = nodes(read(golden / "inspect" / "loop_float32.tflite"))

    assert fit("pi4", operators) == fit("android", operators)
    assert all(answer.mapped or answer.own_kernel for answer in fit("pi4", operators).values())
    assert not any(answer.own_kernel for answer in fit("pi4:xnnpack=all", operators).values())
    assert not any(answer.own_kernel for answer in fit("coral", operators).values())
    assert all(answer.mapped for answer in fit("pi-armv7", operators).values())
    assert target("pi5").target.runtimes == ("litert",)


@pytest.mark.parametrize("name", ["cpu", "pi-armv7", "pi5", "android"])
def test_no_runtime_brings_the_kernel_of_a_custom_operator(name: str) -> None:
    nodes_of = {
        custom: Node(index=index, name=custom, inputs=(), outputs=(), options=None)
        for index, custom in enumerate(("edgetpu-custom-op", "TFLite_Detection_PostProcess"))
    }

    answers = fit(name, [*nodes_of.values()])

    assert [answer.mapped or answer.own_kernel for answer in answers.values()] == [False, True]

"""What Google's compiler put into a file is read from it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.errors import ModelError
from edgekit.records import EdgeTpuProgram
from edgekit.tflite.edge_tpu import OPERATOR, edge_tpu_program
from edgekit.tflite.graph import operators, read
from edgekit.tflite.inspect import inspect

NAME = "mobilenet_v2_1.0_224_quant"


@pytest.fixture(scope="module")
def pairs(shared_data: Path) -> Path:
    return shared_data / "coral_pairs"


def test_a_compiled_model_tells_runtime_parameters_and_cycles(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inspect(pairs / f"{NAME}_edgetpu.tflite").edge_tpu

    assert found == EdgeTpuProgram(
        min_runtime=12, cached_bytes=3_900_864, streamed_bytes=0, cycles=458_040
    )
    assert run(["inspect", str(pairs / f"{NAME}_edgetpu.tflite")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "libedgetpu runtime 12 or newer; 3.90 MB of parameters" in said


def test_parameters_are_those_of_the_model_and_little_more(pairs: Path) -> None:
    """They are padded for the chip; a dense layer of a few units by most."""
    for compiled in sorted(pairs.glob("mobilenet_v*_edgetpu.tflite")):
        plain = inspect(compiled.with_name(compiled.name.replace("_edgetpu", "")))
        program = inspect(compiled).edge_tpu
        assert program is not None
        ratio = (program.cached_bytes + program.streamed_bytes) / plain.parameters
        assert 0.9 < ratio < 1.3


def test_what_is_sent_for_every_inference_is_told_apart(pairs: Path) -> None:
    found = inspect(pairs / "movenet_single_pose_lightning_ptq_edgetpu.tflite").edge_tpu

    assert found is not None
    assert found.streamed_bytes == 2_368
    assert found.cached_bytes > 2_000_000


def test_a_model_that_was_not_compiled_has_none(pairs: Path) -> None:
    assert inspect(pairs / f"{NAME}.tflite").edge_tpu is None


def test_damaged_packages_are_read_or_left_out(pairs: Path) -> None:
    """5,000 mutations: of the options' first bytes, where all tables are."""
    model = read(pairs / "split_concat_edgetpu.tflite")
    (op,) = [op for _, op, name in operators(model) if name == OPERATOR]
    options = bytes(bytearray(op.customOptions))
    generator = random.Random(0)

    for _ in range(5_000):
        damaged = bytearray(options)
        for _ in range(generator.randint(1, 8)):
            place = generator.randrange(min(len(damaged), 4_096))
            damaged[place] = generator.randrange(256)
        op.customOptions = bytes(damaged[: generator.choice((len(damaged), place))])
        try:
            found = edge_tpu_program(model)
        except ModelError as error:  # pragma: no cover
            pytest.fail(str(error))
        assert found is None or found.cached_bytes <= len(options)

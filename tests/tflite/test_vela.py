"""Ethos-U targets: Arm's own compiler says what runs on the NPU, and simulates it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.reports.npu_text import npu_text
from edgekit.schema import report_from_json
from edgekit.targets import fit, target
from edgekit.tflite import vela
from edgekit.tflite.graph import read
from edgekit.tflite.inspect import inspect
from edgekit.tflite.nodes import nodes

ROOT = Path(__file__).parents[2]
QUANTIZED = ROOT / "quantized"
INT8 = QUANTIZED / "fashion-mnist" / "int8.tflite"
U55 = "ethos-u55-128"

needs_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None, reason="Vela is not installed"
)
pytestmark = needs_vela


def test_an_int8_model_runs_on_the_npu_and_its_figures_are_those_of_vela_itself(
    tmp_path: Path,
) -> None:
    # Given
    subprocess.run(
        [
            *(sys.executable, "-m", "ethosu.vela", INT8),
            *("--accelerator-config", U55, "--output-dir", tmp_path),
        ],
        check=True,
        capture_output=True,
    )
    (summary,) = tmp_path.glob("*_summary_*.csv")
    names, values = (line.split(",") for line in summary.read_text().splitlines()[:2])
    wanted = dict(zip(names, values, strict=True))

    # When
    found = inspect(INT8, targets=[U55])

    # Then
    assert found.unmapped(U55) == ()
    estimate = found.estimates[U55]
    assert estimate.cycles == int(wanted["cycles_total"]) > 0
    assert estimate.time_ms == pytest.approx(1000 * estimate.cycles / 500e6)
    assert estimate.sram_bytes == 1024 * float(wanted["sram_memory_used"])
    assert estimate.flash_bytes == 1024 * float(wanted["off_chip_flash_memory_used"])
    assert "Ethos_U55_High_End_Embedded, Shared_Sram" in npu_text(estimate)


def test_operators_that_stay_on_the_cpu_have_velas_reason() -> None:
    found = inspect(QUANTIZED / "fashion-mnist" / "int16x8.tflite", targets=[U55])

    left = found.unmapped(U55)

    assert [op.name for op in left] == ["QUANTIZE", "DEQUANTIZE"]
    reasons = [op.targets[U55].reason or "" for op in left]
    assert "unsupported DataType Float32" in reasons[0]
    assert "Unsupported opType" in reasons[1]


def test_of_a_float_model_nothing_runs_there() -> None:
    found = inspect(QUANTIZED / "turbofan" / "float32.tflite", targets=[U55])

    assert len(found.unmapped(U55)) == len(found.ops)
    assert not any("no reason" in (op.targets[U55].reason or "") for op in found.ops)
    assert npu_text(found.estimates[U55]) == "nothing runs on it"


def test_int4_weights_are_refused_before_vela_dies_of_them() -> None:
    found = inspect(QUANTIZED / "fashion-mnist" / "int4.tflite", targets=[U55])

    assert "int4" in (found.estimates[U55].message or "")
    assert len(found.unmapped(U55)) == len(found.ops)


@pytest.mark.parametrize("name", ["spoken-digits", "bccd", "nuclei"])
@pytest.mark.parametrize("accelerator", ["ethos-u65-256", "ethos-u85-256"])
def test_the_published_models_compile(name: str, accelerator: str) -> None:
    found = inspect(QUANTIZED / name / "int8.tflite", targets=[accelerator])

    estimate = found.estimates[accelerator]
    assert estimate.message is None
    assert estimate.cycles
    assert len(found.unmapped(accelerator)) < len(found.ops)


def test_a_crash_of_the_compiler_is_an_answer() -> None:
    """Cut off after its header, a file kills Vela with a signal; edgekit's reader refuses it."""
    operators = nodes(read(INT8))

    fits, estimate = vela.compile_for(U55, INT8.read_bytes()[:100], operators, {})

    assert estimate.message == "Vela died of SIGSEGV"
    assert not any(one.mapped for one in fits.values())


def test_configuration_and_memory_mode_are_velas() -> None:
    small = f"{U55}:system-config=Ethos_U55_Deep_Embedded,memory-mode=Sram_Only"

    found = inspect(QUANTIZED / "turbofan" / "int8.tflite", targets=[small])

    assert found.estimates[small].configuration == "Ethos_U55_Deep_Embedded, Sram_Only"
    with pytest.raises(UsageError, match="memory-mode = 'Large'") as raised:
        target(f"{U55}:memory-mode=Large")
    assert "Shared_Sram" in (raised.value.found or "")


def test_without_the_compiler_a_target_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    assert run(["inspect", str(INT8), "--target", U55]) == 2

    assert "pip install 'edgekit-tflite[vela]'" in capsys.readouterr().err


def test_operators_alone_do_not_tell() -> None:
    answers = fit(U55, nodes(read(INT8)))

    assert set(answers.values()) == {
        TargetFit(mapped=False, reason="only Arm's compiler Vela can tell")
    }


def test_several_targets_give_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = QUANTIZED / "turbofan" / "float32.tflite"
    named = ["--target", U55, "--target", "micro:ram=64k", "--target", "coral"]
    words = ["--data", "turbofan", "--mode", "int8", "--no-bench", "-o", str(tmp_path / "made")]

    assert run(["quantize", str(source), *words, *named]) == 0

    printed = capsys.readouterr().out
    assert "simulated" in printed
    assert "fits" in printed
    page = (tmp_path / "made" / "report.html").read_text()
    assert "<h2>Targets</h2>" in page
    report = report_from_json(json.loads((tmp_path / "made" / "report.json").read_text()))
    inspections = [row.inspection for row in report.rows if row.inspection]
    assert [one.estimates[U55].cycles is not None for one in inspections] == [False, True]

"""`edgekit check` and `edgekit diff`, as a build runs them."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import edgekit
from edgekit import api
from edgekit.cli import run
from edgekit.cli.new_files import refuse_lost
from edgekit.conditions import CONDITIONS, option_of
from edgekit.errors import BudgetError, UsageError
from edgekit.parsing import read_json
from edgekit.records import Inspection, MemoryFit, NpuEstimate, Operator
from edgekit.schema import report_from_json
from edgekit.tflite import read, write
from edgekit.tflite.graph import clone
from edgekit.tflite.stored import packed

FILES = Path(__file__).resolve().parents[2] / "quantized" / "turbofan"
INT8, FLOAT32 = str(FILES / "int8.tflite"), str(FILES / "float32.tflite")
# without a float operator; the quantity that turbofan predicts stays float
INTEGERS = str(FILES.parent / "fashion-mnist" / "int8.tflite")


@pytest.fixture
def engines(tmp_path: Path) -> str:
    """Twenty windows of sensor values with targets, as an .npz."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 30, 14)).astype(np.float32)
    path = tmp_path / "engines.npz"
    np.savez(path, x_test=x, y_test=rng.uniform(0, 125, 20).astype(np.float32))
    return str(path)


# --- what a condition says ----------------------------------------------------------------------


def test_each_condition_is_a_line_and_one_that_is_unmet_ends_with_six(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = Path(INTEGERS).stat().st_size
    words = ["--max-size", str(size), "--max-flash", str(size - 1), "--no-float"]

    code = run(["check", INTEGERS, *words, "--target", "coral"])

    told = capsys.readouterr()
    assert code == 6
    assert [line.split()[:2] for line in told.out.splitlines()] == [
        ["met", "target"],
        ["met", "max-size"],
        ["UNMET", "max-flash"],
        ["met", "no-float"],
    ]
    assert f"wanted at most {size - 1:,} B, found {size:,} B (read)" in told.out
    assert told.err.count("\n") == 1
    assert "1 of 4 conditions unmet: --max-flash." in told.err


def test_all_conditions_that_are_met_end_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", INT8, "--max-size", "1M", "--max-arena", "64k"]) == 0
    assert "UNMET" not in capsys.readouterr().out


def test_a_packed_file_is_small_on_flash_and_has_the_size_of_the_plain_one(tmp_path: Path) -> None:
    plain = Path(INT8).read_bytes()
    path = tmp_path / "int8.tflite.gz"
    path.write_bytes(packed(plain))

    found = edgekit.check(path, max_size=len(plain), max_flash=len(plain) // 2)

    size, flash = found.results
    assert (size.found, flash.found) == (len(plain), path.stat().st_size)
    assert flash.met == (path.stat().st_size <= len(plain) // 2)


def test_the_arena_is_predicted_and_names_its_place() -> None:
    (found,) = edgekit.check(INT8, max_arena="1k").results

    assert not found.met
    assert found.basis == "predicted"
    assert "at operator" in found.detail
    assert found.found == max(op.alive_bytes for op in edgekit.inspect(INT8).ops)


def test_conversions_at_the_ends_are_float_and_the_cure_is_named() -> None:
    (found,) = edgekit.check(FILES / "int16x8.tflite", no_float=True).results

    assert (found.met, found.found) == (False, 2)
    assert "QUANTIZE" in found.detail


def test_operators_that_a_target_does_not_take_are_counted_with_the_first_reason() -> None:
    (found,) = edgekit.check(FLOAT32, target="coral").results

    assert found.found == len(edgekit.inspect(FLOAT32).ops)
    assert "It is not fully quantized" in found.detail


@pytest.mark.parametrize("target", ["pi4", "pi5", "pizero2", "android"])
def test_what_the_runtimes_own_kernels_run_is_a_remark(target: str) -> None:
    # Given a file whose SOFTMAX in int8 XNNPACK does not take
    (result,) = api.check(INTEGERS, target=target).results
    assert (result.met, result.found) == (True, 0)
    assert (
        "1 run by the runtime's own kernels, not XNNPACK's; the first, 9 SOFTMAX" in result.detail
    )
    # Where XNNPACK is to run all of it, it is unmet.
    (result,) = api.check(INTEGERS, target=f"{target}:xnnpack=all").results
    assert (result.met, result.found) == (False, 1)


def test_a_board_whose_only_runtime_does_not_load_the_file_is_unmet(
    tmp_path: Path,
) -> None:
    # Given a file with an operator that came after the last release of tflite-runtime
    model = clone(read(Path(INTEGERS)))
    model.operatorCodes[0].version = 99
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(write(model))
    (result,) = api.check(newer, target="pi-armv7").results
    assert not result.met
    assert "no runtime there loads it, for want of CONV_2D of version 99" in result.detail
    # A board with another runtime is not to blame for it.
    (result,) = api.check(newer, target="pi4").results
    assert result.met


def test_latency_memory_score_and_drop_are_measured(engines: str) -> None:
    found = edgekit.check(
        INT8,
        max_latency="10s@p90",
        max_memory="1G",
        min_score=1000,
        max_drop=1000,
        baseline=FLOAT32,
        data=engines,
        runs=20,
    )

    assert found.met
    assert {one.basis for one in found.results} == {"measured"}
    by_name = {one.name: one for one in found.results}
    score, drop = by_name["min_score"], by_name["max_drop"]
    assert not score.at_least  # an error is to be low
    assert score.found == found.row.score.value
    assert found.row.score.n == 20
    assert drop.ci95 is not None
    assert drop.ci95[0] <= drop.found <= drop.ci95[1]
    assert by_name["max_latency"].found == pytest.approx(found.row.timing.percentile_ms(90))
    evaluated = edgekit.evaluate([FLOAT32, INT8], engines).rows[1]
    assert drop.found == evaluated.drop.value


def test_a_score_that_is_too_bad_is_unmet(engines: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", INT8, "--min-score", "0.001", "--data", engines, "-q"]) == 6
    assert "UNMET  min-score" in capsys.readouterr().out


def test_a_loss_that_no_test_set_of_that_size_can_prove_is_met_and_said_to_be_unproven(
    engines: str,
) -> None:
    same = edgekit.check(INT8, max_drop=50, baseline=FLOAT32, data=engines)
    none = edgekit.check(FILES / "int4.tflite", max_drop=0, baseline=FLOAT32, data=engines)

    (found,) = same.results
    assert found.met
    assert found.detail.split(", ")[-1].startswith(same.row.drop.verdict)
    # 0 % is accepted, and int4 is worse or better, by however little
    assert none.met == (none.row.drop.value <= 0 and none.row.drop.verdict != "lost")


# --- what a build reads -------------------------------------------------------------------------


def test_json_has_every_figure_and_no_other_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", INT8, "--max-size", "1", "--json"]) == 6

    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    assert told["met"] is False
    (condition,) = told["conditions"]
    assert condition["wanted"] == 1
    assert condition["found"] == Path(INT8).stat().st_size == told["row"]["size_bytes"]


def test_junit_has_a_case_for_each_condition(tmp_path: Path) -> None:
    path = tmp_path / "check.xml"

    assert run(["check", INTEGERS, "--max-size", "1k", "--no-float", "--junit", str(path)]) == 6

    suite = ET.parse(path).getroot().find("testsuite")
    assert suite.attrib["tests"] == "2"
    assert suite.attrib["failures"] == "1"
    first, second = suite.findall("testcase")
    assert first.find("failure").attrib["message"].startswith("wanted at most 1,024 B")
    assert second.find("failure") is None
    # and it is not replaced without being told to
    assert run(["check", INTEGERS, "--no-float", "--junit", str(path)]) == 2
    assert run(["check", INTEGERS, "--no-float", "--junit", str(path), "--force"]) == 0


def test_a_name_with_markup_and_control_characters_is_inert_in_xml(tmp_path: Path) -> None:
    path = tmp_path / 'a<b>&"\x1b.tflite'
    shutil.copy(INTEGERS, path)
    xml = tmp_path / "check.xml"

    assert run(["check", str(path), "--no-float", "--junit", str(xml)]) == 0

    assert 'a<b>&"\\x1b.tflite' in ET.parse(xml).getroot().find("testsuite").attrib["name"]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ([], "No condition", "--max-size"),
        (["--target", "corall"], "no target", "'coral'"),
        (["--max-latency", "fast"], "--max-latency: fast", "--max-latency 10ms@p90"),
        (["--max-latency", "10ms@p101"], "10ms@p101", "--max-latency 10ms@p90"),
        (["--max-latency", "0ms"], "0ms", "--max-latency 10ms@p90"),
        (["--max-size", "-5"], "--max-size: -5", "--max-size 500k"),
        (["--max-arena", "much"], "--max-arena: much", "--max-arena 64k"),
        (["--min-score", "nan"], "--min-score: nan", "--min-score 0.9"),
        (["--max-drop", "-1"], "--max-drop: -1", "--max-drop 0.5"),
        (["--min-score", "0.9"], "--min-score needs --data", "Add --data"),
        (["--max-drop", "1", "--data", "x.npz"], "needs --baseline", "Add --baseline"),
        (["--max-size", "1M", "--data", "x.npz"], "--data has no effect", "--min-score"),
        (["--max-size", "1M", "--baseline", FLOAT32], "--baseline has no effect", "--max-drop"),
        (["--max-size", "1M", "--metric", "rmse"], "--metric has no effect", "Add --data"),
    ],
)
def test_what_is_not_understood_is_said_with_a_hint(
    words: list[str], said: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", INT8, *words]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    assert said in lines[0]
    assert hint in lines[-1]


@pytest.mark.parametrize("name", [name for name in CONDITIONS if CONDITIONS[name].metavar])
def test_the_example_of_a_condition_can_be_read(name: str) -> None:
    CONDITIONS[name].read(CONDITIONS[name].example)


def test_a_share_in_percent_can_never_be_met(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    x = np.zeros((4, 28, 28, 1), np.float32)
    np.savez(data, x_test=x, y_test=np.array([0, 1, 2, 3]))
    file = FILES.parent / "fashion-mnist" / "int8.tflite"

    with pytest.raises(UsageError) as caught:
        edgekit.check(file, min_score=90, data=str(data))

    assert "--min-score 0.9" in str(caught.value.hint)


def test_a_file_that_is_none_is_refused_whatever_the_condition(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no model at all, but small")

    assert run(["check", str(path), "--max-size", "1M"]) == 3
    assert run(["diff", str(path), INT8]) == 3


def test_every_condition_is_a_parameter_in_python_and_an_option() -> None:
    parameters = list(inspect.signature(api.check).parameters)
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.cli", "check", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert parameters[1 : 1 + len(CONDITIONS)] == list(CONDITIONS)
    assert all(option_of(name) in done.stdout for name in CONDITIONS)


# --- what is imported ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["check", INTEGERS, "--max-size", "1M", "--max-arena", "1M", "--target", "coral"],
        ["check", INT8, "--max-latency", "10s", "--runs", "5"],
        ["diff", FLOAT32, INT8, "--runs", "5"],
    ],
)
def test_tensorflow_is_not_imported(words: list[str]) -> None:
    script = (
        "import sys; from edgekit.cli import run\n"
        f"assert run({words!r}) == 0\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "edgekit" in loaded
    assert not loaded & {"tensorflow", "keras", "altair", "PIL"}


def test_limits_of_the_file_alone_import_nothing_that_measures() -> None:
    script = (
        "import sys; from edgekit.cli import run\n"
        f"assert run(['check', {INTEGERS!r}, '--max-size', '1M', '--no-float']) == 0\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert not {"edgekit.pipeline", "edgekit.devices", "edgekit.data"} & set(done.stderr.split())


# --- diff ---------------------------------------------------------------------------------------


def test_a_comparison_has_sizes_operators_scores_and_latencies(
    engines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = FILES / "float32.tflite", FILES / "int16x8.tflite"

    assert run(["diff", str(old), str(new), "--data", engines, "--runs", "20", "-q"]) == 0

    told = capsys.readouterr().out
    assert "| size |" in told
    assert "| QUANTIZE | 0 | 1 | +1 |" in told
    assert "| latency p50 |" in told
    assert "RMSE (20 samples, 95 % interval)" in told
    assert "drop " in told
    # every row of a table has the columns of its head
    for table in told.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_a_comparison_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", FLOAT32, INT8, "--no-bench", "--json", "-q"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["old"]["size_bytes"] == Path(FLOAT32).stat().st_size
    assert told["new"]["size_bytes"] == Path(INT8).stat().st_size
    assert told["new"]["latency"] is None
    found = edgekit.diff(FLOAT32, INT8, latency=False)
    assert told["operators"] == {
        name: {"old": old, "new": new} for name, (old, new) in found.operators.items()
    }


def test_a_file_and_itself_do_not_differ() -> None:
    found = edgekit.diff(INT8, INT8, latency=False)

    assert found.operators == {}
    assert found.old.artifact.sha256 == found.new.artifact.sha256


# --- fail if lost -------------------------------------------------------------------------------


def published() -> edgekit.records.Report:
    return report_from_json(read_json(FILES / "report.json"))


def test_what_is_lost_is_refused_and_what_is_kept_is_not() -> None:
    report = published()
    names = [row.artifact.variant for row in report.files]
    lost = tuple(
        row if row.drop is None else replace(row, drop=replace(row.drop, verdict="lost"))
        for row in report.rows
    )

    refuse_lost(report, names)
    with pytest.raises(BudgetError, match="Lost: "):
        refuse_lost(replace(report, rows=lost), names)
    with pytest.raises(BudgetError, match="Lost: int8\\."):
        refuse_lost(replace(report, rows=lost), ["int8"])


def test_a_report_that_recommends_nothing_is_refused() -> None:
    report = published()
    rows = tuple(replace(row, recommended=False) for row in report.rows)

    with pytest.raises(BudgetError, match="No file is recommended"):
        refuse_lost(replace(report, rows=rows), ["int8"])


@pytest.mark.tensorflow
def test_a_model_that_guesses_ends_with_six_and_its_results_are_kept(
    tmp_path: Path, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given images whose labels say nothing of them
    from edgekit.data import open_data

    test = open_data("digits").test
    x = test.read(np.arange(200)).inputs["x"]
    data = tmp_path / "shuffled.npz"
    labels = np.random.default_rng(0).integers(0, 10, len(x))
    np.savez(data, x_train=x, y_train=labels, x_test=x, y_test=labels)
    folder = tmp_path / "out"
    words = ["--mode", "dynamic", "--no-bench", "-q", "-o", str(folder)]

    code = run(["quantize", str(demo_model), "--data", str(data), *words, "--fail-if-lost"])

    assert code == 6
    assert "No file is recommended. The results are kept in" in capsys.readouterr().err
    assert (folder / "dynamic.tflite").is_file()
    assert (folder / "report.json").is_file()


def test_how_a_target_is_known_is_said() -> None:
    ops = (Operator(index=0, name="ADD", layer="a", outputs=(), dtype="int8", bytes=0, macs=None),)
    fit = MemoryFit(
        arena_bytes=9,
        head_bytes=9,
        arena_bytes_32=9,
        measured=True,
        loads=True,
        message=None,
        model_bytes=9,
        code_bytes=9,
    )
    found = Inspection(
        path=Path("m.tflite"),
        size_bytes=9,
        inputs=(),
        outputs=(),
        ops=ops,
        bytes={},
        weight_dtypes={},
        macs=0,
        parameters=0,
        memory={"micro": fit, "board": replace(fit, loads=None, measured=False)},
        estimates={"ethos-u55-128": NpuEstimate(compiler="Vela 5.2.0")},
    )

    told = {name: found.how_known(name) for name in ("micro", "board", "ethos-u55-128", "coral")}

    assert list(told.values()) == ["measured", "predicted", "simulated", "predicted"]

"""Google's compiler on PATH decides what runs on an Edge TPU; a stand-in prints what it prints."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edgekit.artifacts import open_artifact
from edgekit.cli import run
from edgekit.records import Inspection, Report, Row
from edgekit.schema import report_from_json, report_to_json
from edgekit.targets import coral
from edgekit.tflite import edge_tpu_compiler
from edgekit.tflite.edge_tpu_compiler import PROGRAM, read_table
from edgekit.tflite.graph import read
from edgekit.tflite.inspect import inspect
from edgekit.tflite.nodes import nodes

PAIR = "deeplabv3_mnv2_dm05_pascal_quant"
ONE_PARTITION = "More than one subgraph is not supported"
Rows = Mapping[tuple[str, str], int]
StandIn = Callable[..., None]


def transcript(version: str, rows: Rows, *, timer: bool = False) -> str:
    """What the compiler prints with `-s` of a model that it compiled."""
    mapped = sum(n for (_, status), n in rows.items() if status == "Mapped to Edge TPU")
    table = "".join(f"{name:<31}{n:<11}{status}\n" for (name, status), n in rows.items())
    lines = [
        f"Edge TPU Compiler version {version}",
        *(["Started a compilation timeout timer of 180 seconds."] if timer else []),
        "",
        "Model compiled successfully in 42 ms.",
        "",
        "Input model: model.tflite",
        "Input size: 1.25MiB",
        "Output model: model_edgetpu.tflite",
        "Output size: 1.50MiB",
        "On-chip memory used for caching model parameters: 1.10MiB",
        "On-chip memory remaining for caching model parameters: 6.50MiB",
        "Off-chip memory used for streaming uncached model parameters: 0.00B",
        "Number of Edge TPU subgraphs: 1",
        f"Total number of operations: {sum(rows.values())}",
        "Operation log: model_edgetpu.log",
        "",
        "Model successfully compiled but not all operations are supported by the Edge TPU.",
        f"Number of operations that will run on Edge TPU: {mapped}",
        f"Number of operations that will run on CPU: {sum(rows.values()) - mapped}",
        "",
        "Operator                       Count      Status",
        "",
        table.rstrip(),
        *(["Compilation child process completed within timeout period."] if timer else []),
        "Compilation succeeded!" if timer else "",
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Put a program on PATH that prints a text and writes a file, as the compiler does."""

    def put(printed: str, compiled: Path | None = None, *, code: int = 0, last: str = "") -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "printed").write_text(printed)
        copies = f"cp {shlex.quote(str(compiled))} model_edgetpu.tflite" if compiled else ":"
        program = folder / PROGRAM
        program.write_text(
            f'#!/bin/sh\n[ "$1 $2" = "-s model.tflite" ] && [ -s "$2" ] || exit 9\n{copies}\n'
            f"cat {shlex.quote(str(folder / 'printed'))}\n{last}\nexit {code}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return put


def counted(pair: Path) -> Rows:
    """The table of a model: what its compiled file still holds stayed on the CPU."""
    stayed = {
        tensor.name
        for node in nodes(read(pair.with_name(f"{pair.stem}_edgetpu.tflite")))
        if node.name != coral.COMPILED
        for tensor in node.outputs
    }
    rows: dict[tuple[str, str], int] = {}
    for node in nodes(read(pair)):
        mapped = stayed.isdisjoint([tensor.name for tensor in node.outputs])
        key = node.name, "Mapped to Edge TPU" if mapped else ONE_PARTITION
        rows[key] = rows.get(key, 0) + 1
    return rows


@pytest.fixture
def pair(shared_data: Path) -> Path:
    return shared_data / "coral_pairs" / f"{PAIR}.tflite"


def compiled_of(pair: Path) -> Path:
    return pair.with_name(f"{pair.stem}_edgetpu.tflite")


@pytest.mark.data
def test_its_verdict_replaces_the_prediction(
    pair: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    rows = counted(pair)
    stand_in(transcript("16.0.384591198", rows, timer=True), compiled_of(pair))

    # When
    predicted = inspect(pair, targets=["coral"])
    found = inspect(pair, targets=["coral"], compiled=True)

    # Then
    assert predicted.decided_by("coral") is None
    assert found.decided_by("coral") == "edgetpu_compiler 16.0.384591198"
    assert len(found.unmapped("coral")) == sum(
        n for (_, status), n in rows.items() if status == ONE_PARTITION
    )
    assert {op.targets["coral"].reason for op in found.unmapped("coral")} == {
        f"Google's compiler leaves it on the CPU: {ONE_PARTITION}"
    }
    program = found.compiled["coral"].program
    assert program is not None
    assert program == inspect(compiled_of(pair)).edge_tpu
    # and it is said whose answer it is
    assert run(["inspect", str(pair), "--target", "coral"]) == 0
    said = capsys.readouterr().out
    assert "coral, compiled, edgetpu_compiler 16.0.384591198: " in said
    assert f"tpu   coral: libedgetpu runtime {program.min_runtime} or newer" in said


@pytest.mark.data
def test_a_check_is_by_the_compiler(
    pair: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(transcript("15.0.340273435", counted(pair)), compiled_of(pair))

    assert run(["check", str(pair), "--target", "coral", "--json"]) == 6

    (result,) = json.loads(capsys.readouterr().out)["conditions"]
    assert result["basis"] == "compiled"
    assert ONE_PARTITION in result["detail"]


@pytest.mark.data
def test_counts_of_the_table_hold_where_names_tell_another_number(
    pair: Path, stand_in: StandIn
) -> None:
    # Given the table of a compiler that mapped three convolutions, and a file that lacks all names
    rows: dict[tuple[str, str], int] = {}
    for (name, _), n in counted(pair).items():
        rows[name, "Mapped to Edge TPU"] = rows.get((name, "Mapped to Edge TPU"), 0) + n
    convolutions = rows.pop(("CONV_2D", "Mapped to Edge TPU"))
    rows["CONV_2D", "Mapped to Edge TPU"] = 3
    rows["CONV_2D", ONE_PARTITION] = convolutions - 3
    stand_in(transcript("14.1.317412892", rows), compiled_of(pair))

    # When
    found = inspect(pair, targets=["coral"], compiled=True)

    # Then the first three are mapped, and all of other kinds
    left = found.unmapped("coral")
    assert {op.name for op in left} == {"CONV_2D"}
    assert [op.index for op in left] == [op.index for op in found.ops if op.name == "CONV_2D"][3:]


@pytest.mark.data
@pytest.mark.parametrize(
    ("printed", "code", "said"),
    [
        ("Edge TPU Compiler version 2.0.267685300\n\nInternal compiler error. Aborting! \n", 1,
         "Internal compiler error. Aborting!"),
        (("Edge TPU Compiler version 14.1.317412892\nInvalid model: model.tflite\n"
         "Model not quantized\n"), 1, "Model not quantized"),
        (("Edge TPU Compiler version 15.0.340273435\n"
         "ERROR: Didn't find op for builtin opcode 'REVERSE_V2' version '3'\n\n"
         "ERROR: Registration failed.\n\nInvalid model: model.tflite\nModel could not be parsed\n"),
         1, "ERROR: Didn't find op for builtin opcode 'REVERSE_V2' version '3'"),
        (("Edge TPU Compiler version 16.0.384591198\n"
         "Started a compilation timeout timer of 180 seconds.\n"
         "Compilation timeout. This is usually caused by large activations.\n"
         "Compilation failed! \n"), 0, "Compilation timeout. This is usually caused by"),
        (("Edge TPU Compiler version 16.0.384591198\n"
         "Started a compilation timeout timer of 180 seconds.\n"
         "Compilation child process completed within timeout period.\nCompilation failed! \n"), 0,
         "it says: Compilation failed!"),
        ("", 3, "it wrote nothing"),
    ],
)  # fmt: skip
def test_without_a_verdict_the_prediction_stays_and_a_line_says_why(
    pair: Path, stand_in: StandIn, printed: str, code: int, said: str
) -> None:
    stand_in(printed, code=code)

    found = inspect(pair, targets=["coral"], compiled=True)

    assert found.decided_by("coral") is None
    assert [op.targets for op in found.ops] == [
        op.targets for op in inspect(pair, targets=["coral"]).ops
    ]
    (sentence,) = found.without_verdict
    assert said in sentence
    assert sentence.endswith("What runs on coral is predicted.")


@pytest.mark.data
def test_what_it_wrote_may_be_unreadable(pair: Path, stand_in: StandIn, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(compiled_of(pair).read_bytes()[:5_000])
    stand_in(transcript("16.0.384591198", counted(pair)), broken)

    found = inspect(pair, targets=["coral"], compiled=True)

    assert "what it wrote cannot be read" in found.without_verdict[0]


@pytest.mark.data
def test_one_that_does_not_end_is_ended(
    pair: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given one whose child goes on, as the child process of version 16 may
    child = tmp_path / "child"
    stand_in("", last=f"sleep 600 & echo $! > {shlex.quote(str(child))}; wait")
    monkeypatch.setattr(edge_tpu_compiler, "_LIMIT_S", 1)

    # When
    found = inspect(pair, targets=["coral"], compiled=True)

    # Then
    assert "did not end within 1 s" in found.without_verdict[0]
    assert (
        not Path(f"/proc/{int(child.read_text())}/cmdline").exists()
        or not Path(f"/proc/{int(child.read_text())}/cmdline").read_bytes()
    )


@pytest.mark.data
def test_a_program_of_another_machine_is_told(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PROGRAM).write_bytes(b"\x7fELF of another machine")
    (tmp_path / PROGRAM).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    found = inspect(pair, targets=["coral"], compiled=True)

    assert "it cannot be run" in found.without_verdict[0]


def test_it_is_not_run_where_it_has_nothing_to_do(
    repository: Path, shared_data: Path, stand_in: StandIn
) -> None:
    stand_in("would be seen", code=1)
    float32 = repository / "quantized" / "fashion-mnist" / "float32.tflite"
    pairs = shared_data / "coral_pairs"

    assert inspect(float32, targets=["coral"], compiled=True).compiled == {}
    assert inspect(compiled_of(pairs / PAIR), targets=["coral"], compiled=True).compiled == {}
    int8 = float32.with_name("int8.tflite")
    assert inspect(int8, targets=["pi4"], compiled=True).compiled == {}
    assert inspect(int8, targets=["coral"]).compiled == {}


def test_it_need_not_be_there(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    int8 = repository / "quantized" / "fashion-mnist" / "int8.tflite"

    assert inspect(int8, targets=["coral"], compiled=True) == inspect(int8, targets=["coral"])


def test_a_table_is_read_as_every_version_writes_it() -> None:
    """The head of an operation log differs; long statuses and mixed rows do not."""
    log = (
        "Edge TPU Compiler version 16.0.384591198\nInput: a/b.tflite\nOutput: b_edgetpu.tflite\n\n"
        "Operator                       Count      Status\n\n"
        "CONCATENATION                  1          Operation is otherwise supported, but not "
        "mapped due to some unspecified limitation\n"
        "RESIZE_NEAREST_NEIGHBOR        4          Operation version not supported\n"
        "CONV_2D                        63         Mapped to Edge TPU\n"
        "CONV_2D                        1          More than one subgraph is not supported\n"
        "FULLY_CONNECTED                1          Filter, bias, or other param is not constant at "
        "compile-time\n"
        "CUSTOM                         1          Operation is working on an unsupported data "
        "type\n"
    )

    table = read_table(log)

    assert table["CONV_2D"] == {"Mapped to Edge TPU": 63, ONE_PARTITION: 1}
    assert list(table["RESIZE_NEAREST_NEIGHBOR"]) == ["Operation version not supported"]
    assert "unspecified limitation" in next(iter(table["CONCATENATION"]))
    assert len(table) == 5
    assert read_table("Edge TPU Compiler version 2.0.267685300\n") == {}


def test_damaged_tables_are_read_or_left_out() -> None:
    text = transcript("16.0.384591198", {("CONV_2D", ONE_PARTITION): 12, ("ADD", "Mapped"): 3})
    generator = random.Random(0)

    for _ in range(5_000):
        damaged = list(text[: generator.randint(0, len(text))])
        for _ in range(min(len(damaged), generator.randint(1, 8))):
            damaged[generator.randrange(len(damaged))] = chr(generator.randrange(0x250))
        table = read_table("".join(damaged))
        assert all(n >= 0 for statuses in table.values() for n in statuses.values())


@pytest.mark.data
def test_json_tells_the_verdict_and_is_read_back(pair: Path, stand_in: StandIn) -> None:
    # Given an answer, and one that failed
    stand_in(transcript("16.0.384591198", counted(pair)), compiled_of(pair))
    compiled = inspect(pair, targets=["coral"], compiled=True)
    stand_in("", code=1)
    failed = inspect(pair, targets=["coral"], compiled=True)

    for wanted in (compiled, failed):
        assert _again(wanted) == wanted.compiled


def _again(inspection: Inspection) -> Mapping[str, object]:
    row = Row(model="m", artifact=open_artifact(inspection.path), inspection=inspection)
    report = Report(title="m", asked={}, rows=(row,), reason="")
    (found,) = report_from_json(json.loads(json.dumps(report_to_json(report)))).rows
    assert found.inspection is not None
    return found.inspection.compiled


@pytest.mark.data
def test_quantize_says_whose_answer_it_is(
    repository: Path,
    pair: Path,
    stand_in: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given a compiler that maps all of it
    float32 = repository / "quantized" / "fashion-mnist" / "float32.tflite"
    int8 = inspect(float32.with_name("int8.tflite"))
    rows: dict[tuple[str, str], int] = {}
    for op in int8.ops:
        rows[op.name, "Mapped to Edge TPU"] = rows.get((op.name, "Mapped to Edge TPU"), 0) + 1
    generator = np.random.default_rng(0)
    shape = int8.inputs[0].shape[1:]
    samples = generator.random((24, *shape), np.float32)
    np.savez(tmp_path / "d.npz", x_train=samples[:16], x_test=samples[16:])
    words = ["quantize", str(float32), "--data", str(tmp_path / "d.npz"), "--mode", "int8"]
    words += ["--io", "int8", "--target", "coral", "--no-bench", "-q"]

    # When
    stand_in(transcript("16.0.384591198", rows), compiled_of(pair))
    assert run([*words, "-o", str(tmp_path / "compiled")]) == 0
    compiled = " ".join(capsys.readouterr().out.split())
    stand_in("Internal compiler error. Aborting!\n", code=1)
    assert run([*words, "-o", str(tmp_path / "failed")]) == 0
    failed = " ".join(capsys.readouterr().out.split())

    # Then
    assert "By edgetpu_compiler 16.0.384591198, for coral" in compiled
    assert "Predicted for coral" in failed
    assert "int8: edgetpu_compiler gave no verdict, it says: Internal compiler error" in failed
    report = json.loads((tmp_path / "compiled" / "report.json").read_text())
    inside = next(row for row in report["rows"] if row["variant"] == "int8")["inspection"]
    assert inside["compiled"]["coral"]["message"] is None
    assert inside["compiled"]["coral"]["program"]["min_runtime"] > 0

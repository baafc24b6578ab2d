"""A bundle holds what the figures of a run follow from, and they are derived again from it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli import run
from edgekit.errors import DataError, OutputError, UsageError
from edgekit.pipeline.bundle import INDEX

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "quantized" / "turbofan" / "float32.tflite"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 windows with what the float model answers, and noise: a regression."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "windows.npz"
    x = generator.random((500, 30, 14), dtype=np.float32)
    y = x.mean(axis=(1, 2)) * 100 + generator.normal(0, 5, 500)
    np.savez(path, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("made")
    words = ["--mode", "int8", "--target", "coral", "-o", str(folder / "out")]
    words += ["--bundle", str(folder / "proof.zip")]
    assert run(["quantize", str(SOURCE), "--data", str(data), *words]) == 0
    return folder / "proof.zip"


def rewritten(
    bundle: Path, path: Path, change: Callable[[dict[str, bytes]], None], *, signed: bool = True
) -> Path:
    """A copy whose members are changed; `signed` writes their digests into the index again."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    if signed:
        index = json.loads(members[INDEX])
        index["members"] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in members.items()
            if name != INDEX
        }
        members[INDEX] = json.dumps(index).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def beyond_all_bounds() -> bytes:
    """Outputs whose names are said to be more than any integer of the machine counts."""
    names, outputs = io.BytesIO(), io.BytesIO()
    header = {"descr": "<U1", "fortran_order": False, "shape": (1 << 80,)}
    np.lib.format.write_array_header_1_0(names, header)
    with zipfile.ZipFile(outputs, "w") as archive:
        archive.writestr("names.npy", names.getvalue())
    return outputs.getvalue()


def test_every_figure_that_needs_no_device_is_the_same(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(bundle)]) == 0

    printed = capsys.readouterr().out
    assert " 0 others" in printed
    proof = edgekit.verify(bundle)
    assert {one.status for one in proof.figures} == {"same", "not checked"}
    unchecked = {one.figure for one in proof.figures if one.status == "not checked"}
    assert unchecked == {"latency", "memory_bytes"}
    of_int8 = {one.figure: one for one in proof.figures if one.variant == "int8"}
    assert {"sha256", "macs", "rmse", "drop ci95", "verdict"} <= set(of_int8)
    assert "operators on coral" in of_int8
    assert any(one.found == "equal to the bit" for one in proof.figures)


def test_a_better_score_than_the_file_has_is_found_out(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def claim(members: dict[str, bytes]) -> None:
        report = json.loads(members["files/report.json"])
        row = next(row for row in report["rows"] if row["variant"] == "int8")
        row["score"]["value"] *= 0.9
        members["files/report.json"] = json.dumps(report).encode()

    better = rewritten(bundle, tmp_path / "better.zip", claim)

    assert run(["verify", str(better), "--json"]) == 6

    found = json.loads(capsys.readouterr().out)
    differs = [one for one in found["figures"] if one["status"] == "differs"]
    assert [(one["variant"], one["figure"]) for one in differs] == [("int8", "rmse")]
    assert found["counts"]["differs"] == 1


def test_another_file_is_found_out(bundle: Path, tmp_path: Path) -> None:
    def exchange(members: dict[str, bytes]) -> None:
        members["files/int8.tflite"] = members["files/float32.tflite"]

    proof = edgekit.verify(rewritten(bundle, tmp_path / "other.zip", exchange))

    differs = {one.figure for one in proof.figures if one.status == "differs"}
    assert {"sha256", "size_bytes"} <= differs


def test_other_data_leave_scores_unchecked_and_say_so(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    with np.load(data) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["y_test"] = arrays["y_test"] + 1
    np.savez(tmp_path / "others.npz", **arrays)

    proof = edgekit.verify(bundle, data=str(tmp_path / "others.npz"))

    (score,) = [one for one in proof.figures if (one.variant, one.figure) == ("int8", "rmse")]
    assert score.status == "not checked"
    assert "the test split is another one" in score.reason
    assert proof.count("differs") == 0
    assert any(one.figure == "size_bytes" and one.status == "same" for one in proof.figures)


def test_data_that_are_named_and_not_there_are_an_error(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        edgekit.verify(bundle, data=str(tmp_path / "mistyped.npz"))


def test_a_place_where_no_bundle_can_be_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file") as refused:
        edgekit.quantize(SOURCE, modes=["float16"], bundle=tmp_path / "file" / "proof.zip")
    assert "--bundle" in str(refused.value.hint)


def test_a_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="It is a folder"):
        edgekit.verify(tmp_path)


def test_without_the_data_the_reason_is_theirs(bundle: Path, data: Path, tmp_path: Path) -> None:
    away = tmp_path / "windows.npz"
    shutil.move(data, away)
    try:
        proof = edgekit.verify(bundle)
        found = edgekit.verify(bundle, data=str(away))
    finally:
        shutil.move(away, data)

    assert any(str(data.name) in one.reason for one in proof.figures)
    assert proof.count("differs") == 0
    assert found.count("not checked") < proof.count("not checked")


@pytest.mark.parametrize(
    ("change", "signed", "said"),
    [
        (lambda m: m.update({"files/int8.json": b"{}"}), False, "is not what the bundle's index"),
        (lambda m: m.pop("files/int8.json"), False, "is missing"),
        (lambda m: m.update({"files/../../up.txt": b""}), True, "no name of a bundle's member"),
        (lambda m: m.update({INDEX: b"[]"}), False, "not as edgekit writes it"),
        (lambda m: m.pop("files/int8.tflite"), True, "lacks int8.tflite"),
        (lambda m: m.update({"files/report.json": b"{"}), True, "no report"),
        (lambda m: m.update({"outputs/int8.npz": b"PK"}), True, "cannot be read"),
        (lambda m: m.update({"outputs/int8.npz": beyond_all_bounds()}), True, "cannot be read"),
    ],
)
def test_damage_is_named(
    bundle: Path,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    signed: bool,
    said: str,
) -> None:
    damaged = rewritten(bundle, tmp_path / "damaged.zip", change, signed=signed)

    with pytest.raises(UsageError) as raised:
        edgekit.verify(damaged)

    assert said in f"{raised.value.what} {raised.value.found}"
    assert not (tmp_path.parent / "up.txt").exists()


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.zip").write_text("no zip")

    for name in ("text.zip", "absent.zip"):
        assert run(["verify", str(tmp_path / name)]) == 2

    assert "There is no such file." in capsys.readouterr().err


def test_a_bundle_is_not_replaced_without_a_word(bundle: Path, tmp_path: Path) -> None:
    words = ["--mode", "float16", "--no-bench", "-o", str(tmp_path / "out")]

    assert run(["quantize", str(SOURCE), *words, "--bundle", str(bundle)]) == 2

    assert not (tmp_path / "out").exists()

"""Packed files on the host: written always alike, and read wherever a plain file is."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit import api, tflite
from edgekit.artifacts import open_artifact
from edgekit.cli import run
from edgekit.errors import ModelError, OutputError, UsageError
from edgekit.tflite import read, stored
from edgekit.tflite.graph import INT4
from edgekit.tflite.inspect import inspect

QUANTIZED = Path(__file__).resolve().parents[2] / "quantized"
SMALL = QUANTIZED / "turbofan-small" / "small.tflite"


@pytest.fixture
def packed(tmp_path) -> Path:
    """A published file, packed, with its manifest beside it."""
    shutil.copy(SMALL.with_suffix(".json"), tmp_path)
    path = tmp_path / "small.tflite.gz"
    path.write_bytes(stored.packed(SMALL.read_bytes()))
    return path


def test_a_packed_file_has_always_the_same_bytes_and_any_tool_reads_it():
    content = SMALL.read_bytes()

    made = stored.packed(content)

    assert made == stored.packed(content)
    assert made[3:8] == bytes(5)  # neither a name nor a time
    assert gzip.decompress(made) == content
    assert len(made) < len(gzip.compress(content, 9))


def test_a_large_file_is_packed_too():
    content = np.random.default_rng(0).integers(0, 9, 2 << 20).astype(np.uint8).tobytes()

    assert gzip.decompress(stored.packed(content)) == content


def test_the_manifest_tells_both_of_the_plain_and_of_the_packed_file(packed):
    plain, small = open_artifact(SMALL), open_artifact(packed)

    assert small.manifest == plain.manifest != {}
    assert (small.variant, small.mode) == (f"{plain.variant}.gz", plain.mode)
    assert (small.size_bytes, small.sha256) == (plain.size_bytes, plain.sha256)
    assert plain.flash_bytes == plain.size_bytes == SMALL.stat().st_size
    assert small.flash_bytes == packed.stat().st_size < plain.flash_bytes


def test_inspect_sees_the_same_in_both(packed):
    plain, small = inspect(SMALL), inspect(packed)

    assert (small.ops, small.bytes, small.size_bytes) == (plain.ops, plain.bytes, plain.size_bytes)


@pytest.mark.parametrize("words", [["inspect"], ["bench"], ["eval", "--data", "digits"]])
def test_commands_refuse_a_damaged_one_with_exit_code_3(words, packed, capsys):
    packed.write_bytes(packed.read_bytes()[:3000])

    code = run([words[0], str(packed), *words[1:]])

    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[")]
    assert code == ModelError.exit_code
    assert said[0] == f"{packed} cannot be inflated."
    assert len(said) == 3


# --- edgekit expand ---


@pytest.mark.parametrize("source", ["plain", "packed"])
def test_expand_writes_the_plain_file_with_its_manifest(source, packed, tmp_path, capsys):
    given = {"plain": SMALL, "packed": packed}[source]
    output = tmp_path / "out" / "large.tflite"

    code = run(["expand", str(given), "-o", str(output)])

    # The command says what it wrote, and the file has no int4 any more.
    assert (code, capsys.readouterr().out) == (0, f"Wrote {output} (20.0 kB)\n")
    model = read(output)
    assert INT4 not in {tensor.type for graph in model.subgraphs for tensor in graph.tensors}
    # It is compact: the bytes that were replaced are gone.
    assert output.stat().st_size == len(tflite.write(model))
    made, before = open_artifact(output), open_artifact(given)
    assert made.variant == "large"
    assert made.manifest["expanded_from"] == before.sha256
    assert made.manifest["preprocessing"] == before.manifest["preprocessing"]
    # It cannot be made again from a source, since it was not made of one.
    assert "build" not in made.manifest
    json.loads(output.with_suffix(".json").read_text())


def test_expand_keeps_labels_inside_the_file(packed, tmp_path):
    model = read(SMALL)
    spec = {"kind": "affine", "scale": 0.0625, "mean": 0.5, "std": 2.0}
    path = tmp_path / "labelled.tflite"
    path.write_bytes(tflite.with_metadata(model, name="t", preprocessing=spec, labels=["cycles"]))

    api.expand(path, tmp_path / "plain.tflite")

    content = (tmp_path / "plain.tflite").read_bytes()
    assert tflite.files_behind(content) == tflite.files_behind(path.read_bytes()) != {}
    assert tflite.read_metadata(content) == tflite.read_metadata(path.read_bytes())


def test_expand_of_what_is_plain_already_copies_it(tmp_path):
    plain = QUANTIZED / "turbofan" / "int8.tflite"

    api.expand(plain, tmp_path / "same.tflite")

    assert (tmp_path / "same.tflite").read_bytes() == plain.read_bytes()


def test_expand_replaces_nothing_without_force(packed, tmp_path):
    output = tmp_path / "there.tflite"
    output.write_text("mine")

    with pytest.raises(OutputError, match="exists already"):
        api.expand(packed, output)
    assert output.read_text() == "mine"
    api.expand(packed, output, force=True)
    assert output.read_bytes()[4:8] == b"TFL3"


def test_expand_refuses_the_name_of_a_manifest(packed, tmp_path, capsys):
    assert run(["expand", str(packed), "-o", str(tmp_path / "m.json")]) == 2
    assert "where the manifest goes" in capsys.readouterr().err


# --- edgekit quantize --gzip ---


@pytest.mark.tensorflow
def test_quantize_writes_packed_files_and_rows_tell_all_three_sizes(demo_model, tmp_path):
    # When a model is quantized and packed, twice
    reports = [
        api.quantize(
            demo_model, data="digits", modes=["int4"], gzip=True, prefer="size",
            output=tmp_path / name, command="edgekit quantize",
        )
        for name in ("first", "again")
    ]  # fmt: skip

    # Then the files are the same, and hold the plain ones
    for row in reports[0].files:
        path = row.artifact.shipped
        assert path.name == f"{row.artifact.variant}.tflite.gz"
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
        assert gzip.decompress(path.read_bytes()) == row.artifact.path.read_bytes()
        assert row.artifact.flash_bytes == path.stat().st_size < row.artifact.size_bytes
        assert row.timing is not None
        assert row.timing.memory_bytes
    # And the report that was written has the figures of every row.
    document = json.loads((tmp_path / "first" / "report.json").read_text())
    for written, row in zip(document["rows"][1:], reports[0].files, strict=True):
        assert written["flash_bytes"] == row.artifact.flash_bytes
        assert written["size_bytes"] == row.artifact.size_bytes
        assert written["memory_bytes"] == row.timing.memory_bytes
    page = (tmp_path / "first" / "report.html").read_text()
    assert "Flash, size and memory" in page


def test_expand_refuses_the_name_of_a_packed_file(packed, tmp_path):
    with pytest.raises(UsageError, match="would not be packed"):
        api.expand(packed, tmp_path / "plain.tflite.gz")
    assert not list(tmp_path.glob("plain*"))

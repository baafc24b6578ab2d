"""Readers of what compilers and bundles hold: Vela's output, Coral's programs, proofs, heads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from unittest import mock

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from harness import Refused
from mutate import (
    damage_bytes,
    damage_csv,
    damage_json,
    damage_npz,
    damage_text,
    damage_tflite,
    damage_zip,
)

from edgekit import api
from edgekit.pipeline.bundle import INDEX, unpack
from edgekit.pipeline.heads import head_for
from edgekit.pipeline.replay import _rows
from edgekit.records import TensorSpec
from edgekit.reports.comparison import comparison_markdown
from edgekit.reports.npu_text import npu_text
from edgekit.reports.proof_lines import proof_lines
from edgekit.schema import proof_to_json
from edgekit.tflite import vela
from edgekit.tflite.edge_tpu import OPERATOR, edge_tpu_program
from edgekit.tflite.graph import read
from edgekit.tflite.nodes import nodes

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
MODEL = 3

# --- Vela ---------------------------------------------------------------------------------------

VELA = GOLDEN / "vela"
PRINTED = "printed.txt"


def vela_outputs() -> list[bytes]:
    """The files that Vela wrote for an int8 and a float model, and what it printed."""
    found = []
    for folder in sorted(VELA.iterdir()):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())
        found.append(out.getvalue())
    return found


def damage_vela(content: bytes, dice: Random) -> bytes:
    """Damage one of the files, or leave it out."""
    members = _members(content)
    name = dice.choice(list(members))
    if dice.random() < 0.05:
        members.pop(name)
    else:
        damage = {".csv": damage_csv, ".txt": damage_text}.get(Path(name).suffix, damage_tflite)
        members[name] = damage(members[name], dice)
    return _zipped(members)


def read_vela(content: bytes, folder: Path) -> None:
    """As `inspect --target ethos-u55-128` takes Vela's answer."""
    for old in folder.iterdir():
        old.unlink()
    members = _members(content)
    for name, data in members.items():
        (folder / name).write_bytes(data)
    printed = members.get(PRINTED, b"").decode(errors="replace")
    fits, estimate = vela._read(folder, "Vela", _nodes(), printed)
    assert set(fits) == {node.index for node in _nodes()}
    npu_text(estimate).encode()
    json.dumps(asdict(estimate), allow_nan=False)
    if estimate.message:
        raise Refused(MODEL, estimate.message)


@cache
def _nodes() -> Sequence[vela.Node]:
    return list(nodes(read((GOLDEN / "evaluate" / "autoencoder_int8.tflite").read_bytes())))


# --- Coral --------------------------------------------------------------------------------------


def edge_tpu_options() -> list[bytes]:
    """Options of the custom operator, as Google's compiler writes them: two executables, or one."""
    return [_package(_executable(1, 4_000), _executable(2, 64, 9_000)), _package(_executable(2, 8))]


def _executable(kind: int, parameters: int, cycles: int = 7) -> bytes:
    builder = flatbuffers.Builder(256)
    content = builder.CreateByteVector(bytes(parameters))
    builder.StartObject(17)
    builder.PrependUOffsetTRelativeSlot(6, content, 0)
    builder.PrependInt32Slot(11, cycles, 0)
    builder.PrependInt16Slot(13, kind, 0)
    builder.PrependInt64Slot(16, cycles, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _package(*executables: bytes) -> bytes:
    inner = flatbuffers.Builder(256)
    serialized = [inner.CreateString(one) for one in executables]
    inner.StartVector(4, len(serialized), 4)
    for one in reversed(serialized):
        inner.PrependUOffsetTRelative(one)
    every = inner.EndVector()
    inner.StartObject(1)
    inner.PrependUOffsetTRelativeSlot(0, every, 0)
    inner.Finish(inner.EndObject())
    outer = flatbuffers.Builder(256)
    content = outer.CreateByteVector(bytes(inner.Output()))
    outer.StartObject(2)
    outer.PrependInt32Slot(0, 13, 0)
    outer.PrependUOffsetTRelativeSlot(1, content, 0)
    outer.Finish(outer.EndObject(), file_identifier=b"DWN1")
    return b"\0" * 12 + bytes(outer.Output())


def read_edge_tpu(content: bytes, folder: Path) -> None:
    """What a compiled model needs; a package that cannot be read is left out."""
    _ = folder
    model = schema.ModelT(
        operatorCodes=[
            schema.OperatorCodeT(
                builtinCode=schema.BuiltinOperator.CUSTOM, customCode=OPERATOR.encode()
            )
        ],
        subgraphs=[
            schema.SubGraphT(
                operators=[schema.OperatorT(customOptions=np.frombuffer(content, np.uint8))]
            )
        ],
    )
    found = edge_tpu_program(model)
    if found is None:
        raise Refused(MODEL, "The package cannot be read.")
    assert 0 <= found.cached_bytes + found.streamed_bytes <= len(content)


# --- Bundles ------------------------------------------------------------------------------------


@cache
def _run() -> tuple[bytes, bytes]:
    """A small run: its bundle, and the data that it was scored on."""
    generator = np.random.default_rng(0)
    stored = io.BytesIO()
    x = generator.random((12, 30, 14), np.float32)
    np.savez(stored, x_test=x, y_test=100 * x.mean(axis=(1, 2)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "data.npz").write_bytes(stored.getvalue())
        api.quantize(
            REPOSITORY / "quantized" / "turbofan" / "float32.tflite",
            data=str(folder / "data.npz"),
            modes=["float16"],
            output=folder / "out",
            latency=False,
            bundle=folder / "proof.zip",
        )
        return _light((folder / "proof.zip").read_bytes()), stored.getvalue()


def _light(content: bytes) -> bytes:
    """Return a bundle with a short page: nothing reads it, and packing a page takes most time."""
    members = {**_members(content), "files/report.html": b"<!doctype html>"}
    return _zipped({**members, INDEX: _index(members)})


def _index(members: dict[str, bytes]) -> bytes:
    """Return the index with the digests of these members."""
    index = json.loads(members[INDEX])
    index["members"] = {
        name: hashlib.sha256(data).hexdigest() for name, data in members.items() if name != INDEX
    }
    return json.dumps(index).encode()


def make_bundle() -> None:
    """Make it once, before any child is started."""
    _run()


def bundles() -> list[bytes]:
    """What `quantize --bundle` wrote."""
    return [_run()[0]]


def damage_bundle(content: bytes, dice: Random) -> bytes:
    """Damage a member and its digest, so that what is behind the digests is reached; or the zip."""
    if dice.random() < 0.3:
        return damage_zip(content, dice, damage_bytes)
    members = _members(content)
    done: set[str] = set()
    for _ in range(dice.choice((1, 1, 2))):
        name = dice.choice([*members, "files/report.json"])
        # What is damaged already cannot be taken apart any more.
        if name not in members or name in done:
            continue
        done.add(name)
        if dice.random() < 0.05:
            members[dice.choice(("files/x" * 60, "files/\0", "outputs/", "x", "outputs/a"))] = b"x"
            continue
        damage = {
            ".json": damage_json,
            ".npz": damage_npz,
            ".tflite": damage_tflite,
        }.get(Path(name).suffix, damage_bytes)
        members[name] = damage(members[name], dice)
    # A damaged index stays as it is.
    with contextlib.suppress(KeyError, RecursionError, TypeError, ValueError):
        members[INDEX] = _index(members)
    return _zipped(members)


def read_bundle(content: bytes, folder: Path) -> None:
    """As `edgekit verify` does; its files are run for one in 24, with the data here or not."""
    path, data = folder / "proof.zip", folder / "data.npz"
    path.write_bytes(content)
    number = zlib.crc32(content)
    if number % 24:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            unpack(path, Path(place))
            _rows(path, Path(place))
        return
    data.write_bytes(_run()[1])
    given = str(data) if number % 48 else None
    with mock.patch.dict("os.environ", {"EDGEKIT_OFFLINE": "1"}):
        found = api.verify(path, data=given)
    json.dumps(proof_to_json(found), allow_nan=False).encode()
    "".join(proof_lines(found)).encode()


# --- Two files, and a head ----------------------------------------------------------------------


def compare_models(content: bytes, folder: Path) -> None:
    """As `edgekit diff` does without data."""
    old, new = folder / "old.tflite", folder / "new.tflite"
    old.write_bytes((GOLDEN / "evaluate" / "is_eight_sigmoid.tflite").read_bytes())
    new.write_bytes(content)
    comparison_markdown(api.diff(old, new, latency=False)).encode()


HEADS = (
    (
        b'[head]\nkind = "ssd"\nscores = "scores"\nscore = 0.4\nmost = 20\nbackground = false\n'
        b"levels = [{ grid = [4, 4], sizes = [[0.2, 0.2]] }]\nvariances = [0.1, 0.1, 0.2, 0.2]\n"
    ),
    b'[head]\nkind = "ssd"\nboxes = "boxes"\nscores = "scores"\n'
    b"anchors = [%s]\n" % (b"[0.5, 0.5, 0.2, 0.2], " * 16),
    b'kind = "yolo"\noutput = "raw"\nunit = "pixels"\nobjectness = true\nsize = [32, 32]\n',
)


def read_declared_head(content: bytes, folder: Path) -> None:
    """A head in a file beside its model, held against the model's outputs."""
    (folder / "model.head.toml").write_bytes(content)
    inputs = [TensorSpec(name="picture", shape=(1, 32, 32, 3), dtype="float32")]
    outputs = [
        TensorSpec(name="boxes", shape=(1, 16, 4), dtype="float32"),
        TensorSpec(name="scores", shape=(1, 16, 2), dtype="float32"),
        TensorSpec(name="raw", shape=(1, 16, 7), dtype="float32"),
    ]
    head_for(folder / "model.tflite", None, None, inputs, outputs)


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()

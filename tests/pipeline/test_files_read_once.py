"""A command hashes each file once, and opens its data once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edgekit.cli import run
from edgekit.data import load


class Digests:
    """How often each sha256 was computed, in this process and its children."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, digest: str) -> int:
        return self.path.read_text().split().count(digest)

    def add(self, digest: str) -> None:
        with self.path.open("a") as lines:
            lines.write(f"{digest}\n")


@pytest.fixture
def digests(monkeypatch, tmp_path) -> Digests:
    counted = Digests(tmp_path / "digests")
    original = hashlib.sha256

    class Counting:
        def __init__(self, content: bytes = b"") -> None:
            self._digest = original(content)
            self.update = self._digest.update
            self.digest = self._digest.digest

        def hexdigest(self) -> str:
            found = self._digest.hexdigest()
            counted.add(found)
            return found

    monkeypatch.setattr(hashlib, "sha256", Counting)
    return counted


@pytest.fixture
def openings(monkeypatch) -> list[object]:
    """Collect every data set that is opened."""
    opened: list[object] = []
    original = load.open_data

    def counting(spec, **options):
        opened.append(spec)
        return original(spec, **options)

    monkeypatch.setattr(load, "open_data", counting)
    return opened


@pytest.fixture
def files(repository, shared_data):
    folder = repository / "quantized" / "turbofan"
    return [folder / f"{name}.tflite" for name in ("float32", "float16", "dynamic")]


def test_eval(files, digests, openings):
    assert run(["eval", *map(str, files), "--data", "turbofan", "-q"]) == 0
    counts = [digests[hashlib.sha256(path.read_bytes())._digest.hexdigest()] for path in files]
    assert counts == [1, 1, 1]
    assert openings == ["turbofan"]


def test_bench(files, digests):
    assert run(["bench", *map(str, files[1:]), "--runs", "2", "-q"]) == 0
    counts = [digests[hashlib.sha256(path.read_bytes())._digest.hexdigest()] for path in files]
    assert counts == [0, 1, 1]


def test_quantize(files, digests, tmp_path):
    words = ["--mode", "float16", "--mode", "dynamic", "--no-bench", "-q"]
    out = tmp_path / "out"
    assert run(["quantize", str(files[0]), "--data", "turbofan", "-o", str(out), *words]) == 0
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["float32", "float16", "dynamic"]
    source = hashlib.sha256(files[0].read_bytes())._digest.hexdigest()
    for row in rows:
        described = json.loads((out / f"{row['variant']}.json").read_text())
        assert described["sha256"] == row["sha256"]
        assert described["size_bytes"] == row["size_bytes"]
        # The source is a file of its own, of which float32 may be a copy.
        assert digests[row["sha256"]] == 1 + (row["sha256"] == source)

"""A compiled model and its delegate on 64-bit ARM, both of them ARM code.

The library is tests/runner/delegate/stand_in.c, cross-compiled: it claims the operator that
libedgetpu claims, and answers with a known pattern.
"""

from __future__ import annotations

import json
from pathlib import Path

import cross
import numpy as np
import pytest
from boards import Board

COMPILED = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
PLAIN = "mobilenet_v1_0.25_128_quant.tflite"
on_64_bits = pytest.mark.parametrize(
    "board", ["arm64-litert", "arm64-tflite", "trixie-litert"], indirect=True
)


@pytest.fixture(scope="session")
def stick(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a libedgetpu.so.1 that finds one stick."""
    return _build(tmp_path_factory.mktemp("stick"), cache)


@pytest.fixture(scope="session")
def no_stick(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of one that finds none."""
    return _build(tmp_path_factory.mktemp("no-stick"), cache, "-DDEVICES=0")


def _build(folder: Path, cache: Path, *defines: str) -> Path:
    try:
        cross.build_arm64(folder / "libedgetpu.so.1", cache, *defines)
    except cross.NoCompilerError as why:
        pytest.skip(str(why))
    return folder


@on_64_bits
def test_a_compiled_model_runs_through_its_delegate(
    board: Board, stick: Path, shared_data: Path, tmp_path: Path
) -> None:
    # given two pictures
    pictures = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    np.savez(tmp_path / "pictures.npz", inputs=pictures)
    kept = tmp_path / "kept.npz"

    # when a model compiled for the Edge TPU runs over them
    done = board.run(
        *("eval", shared_data / "coral_pairs" / COMPILED, tmp_path / "pictures.npz"),
        *("--outputs", kept, "--delegate", "usb", "--json"),
        libraries=stick,
    )

    # then the outputs are what the library makes of the inputs, dequantized
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delegate"] == "usb"
    (found,) = np.load(kept).values()
    sums = pictures.reshape(2, -1).sum(1, dtype=np.int64)
    codes = (sums[:, None] + np.arange(1001)) % 256
    np.testing.assert_array_equal(found, codes.astype(np.float32) / 256)


@on_64_bits
def test_what_is_missing_is_told_apart(
    board: Board, no_stick: Path, stick: Path, shared_data: Path
) -> None:
    pairs = shared_data / "coral_pairs"
    for model, libraries, code, reason in (
        # no library; a library and no stick; a model that was never compiled
        (COMPILED, None, 7, "libedgetpu.so.1 is not installed."),
        (COMPILED, no_stick, 7, "There is no Edge TPU for --delegate usb."),
        (PLAIN, stick, 3, "is not compiled for the Edge TPU."),
    ):
        done = board.run("info", pairs / model, "--delegate", "usb", libraries=libraries)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 3), done.stderr
        assert reason in done.stderr.splitlines()[0]

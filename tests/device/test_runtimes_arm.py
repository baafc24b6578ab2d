"""Every mode in every runtime of the boards: it runs, by the kernels that are named beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import Board

from edgekit.modes import MODES, TFLITE_RUNTIME
from edgekit.targets import target
from edgekit.targets.runtimes import KERNELS
from edgekit.tflite.inspect import inspect

TARGETS = {"arm64": "pi4", "trixie": "pi5", "armhf": "pi-armv7"}


@pytest.fixture(scope="session")
def answers(
    board: Board, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Mode -> what `info` and `eval` say of its file of the turbofan model."""
    data = tmp_path_factory.mktemp("windows") / "windows.npz"
    x = np.random.default_rng(0).random((2, 30, 14), np.float32)
    np.savez(data, inputs=x, targets=np.zeros((2, 1), np.float32))
    files = {name: str(repository / "quantized" / "turbofan" / f"{name}.tflite") for name in MODES}
    commands = [
        words
        for path in files.values()
        for words in (["info", path, "--json"], ["eval", path, str(data), "--json"])
    ]
    said = list(map(json.loads, board.run_all(commands)))
    return dict(zip(files, zip(said[::2], said[1::2], strict=True), strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_runs_by_the_kernels_that_are_named(
    mode: str, board: Board, answers: Mapping[str, Any], repository: Path
) -> None:
    # Given what edgekit says of the file before it is on a device
    bits = 32 if board.land.name == "armhf" else 64
    told = KERNELS[board.runtime, bits][mode]
    inspection = inspect(
        repository / "quantized" / "turbofan" / f"{mode}.tflite",
        targets=[TARGETS[board.land.name]],
    )
    assert board.runtime in target(TARGETS[board.land.name]).target.runtimes
    if board.runtime == TFLITE_RUNTIME and inspection.runtimes[TFLITE_RUNTIME] is None:
        assert inspection.lacking[TFLITE_RUNTIME] == ()
        assert told.unpacked

    # When the board loads and runs it
    info, scored = answers[mode]

    # Then it does so, and XNNPACK has all that multiplies where that was said.
    assert scored["n"] == 2
    assert np.isfinite(scored["score"]["value"])
    operators = info["operators"]
    taken = operators["delegated"].get("XNNPACK", 0)
    assert operators["n"] >= len([op for op in inspection.ops if op.macs])
    assert (taken >= sum(1 for op in inspection.ops if op.macs)) == told.xnnpack, operators
    assert (info["unpacked_bytes"] is not None) == told.unpacked
